"""The figures of a running worker: plain, taken in an instant, judged elsewhere.

They are taken from any thread, without a lock and without asking the server. Each is
one attribute that the worker keeps anyway. The code that serves health or metrics reads
these figures and nothing else of a worker.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsumerVitals:
    """One consumer.

    Attributes:
        stream: its stream.
        group: its group.
        levels: of the stream.
        read_at: when it began the last trip to the server that went well (monotonic
            seconds; 0.0: none yet).
        is_full: it reads nothing because every handler is busy.
        trouble: why it cannot read at the moment; empty while it can.
        busy: entries with handlers.
        missing: parts of it that ended although it runs: ``fetcher``, ``settler``,
            ``watch``, ``lease keeper``, or how many of its runners.
    """

    stream: str
    group: str
    levels: tuple[int, ...]
    read_at: float
    is_full: bool
    trouble: str
    busy: int
    missing: tuple[str, ...]

    @property
    def where(self) -> str:
        """``stream/group``."""
        return f"{self.stream}/{self.group}"


@dataclass(frozen=True, slots=True)
class Vitals:
    """A worker.

    Attributes:
        worker: its name.
        is_stopping: it was told to stop.
        consumers: one per group.
        missing: roles that ended although the worker runs, e.g. ``reclaimer
            orders/billing``.
    """

    worker: str
    is_stopping: bool
    consumers: tuple[ConsumerVitals, ...]
    missing: tuple[str, ...]
