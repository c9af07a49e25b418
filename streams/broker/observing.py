"""Who is told of trips to the server: what was fetched, what was settled, what was replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.broker.dead_letters import StoredLetter
    from streams.broker.fetch import Delivery
    from streams.broker.settle import Buried, Postponed


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a trip was made from: one consumer (or reclaimer) of one group."""

    stream: str
    group: str
    consumer: str


@dataclass(slots=True)
class Settled:
    """What one trip settled, as far as the server has confirmed it.

    Attributes:
        began: when it began, Unix nanoseconds.
        done: acknowledged. Among several whose leases were lost, which they were is not known; ``lost`` counts them.
        postponed: waiting again, with why: ``retried``, ``snoozed``, ``limited``, ``released`` or ``stalled``.
        buried: moved to the dead letters.
        lost: leases that were lost: nothing was written.
    """

    began: int
    done: list[Delivery] = field(default_factory=list)
    postponed: list[tuple[Postponed, str]] = field(default_factory=list)
    buried: list[Buried] = field(default_factory=list)
    lost: int = 0


class Observer:
    """Base of who is told; override what you need. It must not wait, and what it raises ends what it looks at."""

    def received(self, desk: Desk, deliveries: Sequence[Delivery], began: int) -> None:
        """Entries were fetched by a read that began at ``began`` (Unix nanoseconds). Not told of reads without any."""

    def settled(self, desk: Desk, settled: Settled) -> None:
        """Outcomes were written."""

    def replayed(self, stream: str, group: str, letters: Sequence[StoredLetter], places: Sequence[str]) -> None:
        """Dead letters were put back; per letter ``level|entry id`` of the new entry, '' if it was gone already."""

    async def exposition(self) -> bytes:
        """What a scraper gets to read of it, in the text format of Prometheus; empty for nothing."""
        return b""


NOBODY: tuple[Observer, ...] = ()
"""To look at nothing costs nothing: whoever makes trips asks once whether anybody looks."""
