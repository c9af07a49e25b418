"""Observers are told of trips to the server: what was published, fetched, settled and replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from streams.broker.admin.dead_letters import StoredLetter
    from streams.broker.entries.delivery import Delivery
    from streams.broker.entries.publish import Prepared
    from streams.broker.entries.settle import Buried, Postponed
    from streams.events.receipt import Receipt


@dataclass(frozen=True, slots=True)
class ConsumerId:
    """Which consumer, or reclaimer, of which group made a trip."""

    stream: str
    group: str
    name: str

    @property
    def where(self) -> str:
        """Stream and group, for log lines."""
        return f"{self.stream}/{self.group}"


@dataclass(slots=True)
class Settled:
    """The outcomes of one trip, as far as the server has confirmed them.

    Attributes:
        began: when the trip began, Unix nanoseconds.
        done: acknowledged. Among several whose leases were lost, which they were is not
            known; ``lost`` counts them.
        postponed: waiting again, with why: ``retried``, ``snoozed``, ``limited``,
            ``released`` or ``stalled``.
        buried: moved to the dead letters.
        lost: leases that were lost: nothing was written.
    """

    began: int
    done: list[Delivery] = field(default_factory=list)
    postponed: list[tuple[Postponed, str]] = field(default_factory=list)
    buried: list[Buried] = field(default_factory=list)
    lost: int = 0


class ObservedSend:
    """One publishing call as one observer sees it; override what you need.

    Attributes:
        carrier: attributes that the events of this call get where they have no
            ``traceparent`` of their own.
    """

    carrier: Mapping[str, str] = {}

    def stored(self, receipts: Sequence[Receipt]) -> None:
        """The server has stored these events of the call; told once per batch."""

    def ended(self, error: BaseException | None) -> None:
        """The call is over; ``error`` is what it raised."""


class Observer:
    """Base of observers; override what you need.

    A method must not wait. An exception that it raises ends the part that calls it.
    """

    def sending(self, stream: str, *, is_batch: bool) -> ObservedSend | None:
        """A call begins to publish one event, or a batch, on ``stream``.

        None: this observer does not follow the call.
        """

    def published(
        self, stream: str, events: Sequence[Prepared], places: Sequence[str]
    ) -> None:
        """Events were stored, whichever way.

        Args:
            stream: where; with partitions the name of the partition.
            events: as they were sent.
            places: per event its entry id, or ``level|event id`` while it is scheduled;
                '' where it was not stored, since the stream was full, the server
                refused it, or it was a duplicate.
        """

    def received(
        self, consumer: ConsumerId, deliveries: Sequence[Delivery], began: int
    ) -> None:
        """Entries were fetched by a read that began at ``began`` (Unix nanoseconds).

        Not called for reads without any.
        """

    def settled(self, consumer: ConsumerId, settled: Settled) -> None:
        """Outcomes were written."""

    def replayed(
        self,
        stream: str,
        group: str,
        letters: Sequence[StoredLetter],
        places: Sequence[str],
    ) -> None:
        """Dead letters were put back.

        ``places`` has ``level|entry id`` of the new entry for each dead letter; '' if
        the dead letter was gone already.
        """

    async def exposition(self) -> bytes:
        """Its metrics in the text format of Prometheus; empty for none."""
        return b""


NOBODY: tuple[Observer, ...] = ()
"""Without observers observing costs nothing: each trip asks once whether there are any."""


class ObservedSends:
    """All observers' views of one publishing call, from ``with`` to its end.

    Attributes:
        carrier: the attributes that they want its events to carry.
    """

    def __init__(
        self, observers: Sequence[Observer], stream: str, *, is_batch: bool
    ) -> None:
        begun = [observer.sending(stream, is_batch=is_batch) for observer in observers]
        self._sendings = [sending for sending in begun if sending is not None]
        self.carrier = {
            name: value
            for sending in self._sendings
            for name, value in sending.carrier.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        # A caller that leaves a loop over batches early has not failed.
        failure = None if isinstance(error, GeneratorExit) else error
        for sending in self._sendings:
            sending.ended(failure)

    def stored(self, receipts: Sequence[Receipt]) -> None:
        """Tell what the server has stored."""
        for sending in self._sendings:
            sending.stored(receipts)
