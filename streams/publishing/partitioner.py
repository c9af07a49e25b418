"""Events onto the partitions of their stream.

An event with a key goes to the partition of the key, another one to any that is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import orjson

from streams.broker.entries.publish import Prepared
from streams.errors import (
    BrokerUnavailable,
    PartlyPublished,
    PublishUnknown,
    StreamFull,
    StreamsError,
)
from streams.events.receipt import BatchOutcome, Receipt
from streams.policy.partitions import Partitions, partition_of

T = TypeVar("T")
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


class PartitionStore(Protocol):
    """Stores events on one partition, and answers with a receipt for each."""

    async def store(self, event: Prepared) -> Receipt:
        """Store one event."""

    async def store_all(self, events: list[Prepared]) -> Sequence[Receipt]:
        """Store events that are stored the same way.

        An error that it raises has an ``outcome`` of them.
        """

    async def reach(self) -> None:
        """Find out whether its server is there."""


class Rotation:
    """Which partition takes the next event that may go anywhere.

    They take turns, but for those that are away. One that was away is left out for a
    second, twice as long each time, and looked at before it is used again: with a
    server that hangs, an event sent to find out would be in doubt.

    Args:
        places: the partitions.
    """

    def __init__(self, places: Sequence[PartitionStore]) -> None:
        self._places = places
        self._turn = 0
        self._lost: dict[int, tuple[float, float]] = {}
        """Number to when it is looked at again, and how long was waited for that."""
        self._looking: dict[int, asyncio.Task[None]] = {}

    async def use(
        self, act: Callable[[int], Awaitable[T]], tried: Iterable[int] = ()
    ) -> T:
        """Do something on the next partition.

        On another one if its server is away and has surely done nothing.

        Raises:
            StreamsError: as ``act``, where none of them could be used.
        """
        past = set(tried)
        while True:
            number = self.next(past)
            try:
                return await act(number)
            except BrokerUnavailable as error:
                self.lose(number)
                past.add(number)
                if error.sent or len(past) == len(self._places):
                    raise
            except PublishUnknown:
                self.lose(number)
                raise

    def next(self, past: Iterable[int] = ()) -> int:
        """The number of the partition whose turn it is."""
        self._look_again()
        left = [
            number for number in range(len(self._places)) if number not in set(past)
        ]
        there = [number for number in left if number not in self._lost] or left
        self._turn = next((number for number in there if number > self._turn), there[0])
        return self._turn

    def lose(self, number: int) -> None:
        """The server of a partition does not answer."""
        _, waited = self._lost.get(number, (0.0, 0.0))
        wait = min(_LONGEST_WAIT, 2 * waited or _FIRST_WAIT)
        self._lost[number] = (time.monotonic() + wait, wait)

    def _look_again(self) -> None:
        now = time.monotonic()
        for number, (due, _) in self._lost.items():
            if now >= due and number not in self._looking:
                self._looking[number] = asyncio.create_task(self._look(number))

    async def _look(self, number: int) -> None:
        try:
            await self._places[number].reach()
        except BrokerUnavailable:
            self.lose(number)
        except StreamsError:
            # The server is there. Its error is for the caller that publishes.
            self._lost.pop(number, None)
        else:
            self._lost.pop(number, None)
        finally:
            del self._looking[number]


class Spread:
    """Stores events on the partitions of a stream.

    Those of one key go to one partition, the others in turns.

    An event without the attribute but with a dedup id goes where that leads, so that
    its repetition is seen.

    Args:
        stream: its name, for errors.
        partitions: how it is spread.
        places: the store of each partition.
    """

    def __init__(
        self, stream: str, partitions: Partitions, places: Sequence[PartitionStore]
    ) -> None:
        self._stream = stream
        self._by = partitions.by
        self._places = places
        self._turns = Rotation(places)

    async def store(self, event: Prepared) -> Receipt:
        """Store one event where it belongs, or where the turns lead.

        Raises:
            StreamsError: as the partition says.
        """
        number = self._number(event)
        if number is not None:
            return await self._places[number].store(event)
        return await self._turns.use(lambda free: self._places[free].store(event))

    async def store_all(self, events: list[Prepared]) -> list[Receipt]:
        """Store events that are stored the same way, on all their partitions at once.

        The receipts are in the order of the events.

        Raises:
            StreamsError: with an ``outcome`` of these events.
            PublishUnknown: of some events it is not known; ``accepted`` counts what is
                surely stored, not necessarily the first ones.
            PartlyPublished: some partitions were away, others have stored theirs.
            StreamFull: a partition is full; ``accepted`` as above.
        """
        parts: dict[int | None, list[int]] = {}
        for i, event in enumerate(events):
            parts.setdefault(self._number(event), []).append(i)
        trips = [
            self._store_part(number, [events[i] for i in items])
            for number, items in parts.items()
        ]
        outcome = BatchOutcome()
        failures: list[BaseException] = []
        for items, told in zip(
            parts.values(),
            await asyncio.gather(*trips, return_exceptions=True),
            strict=True,
        ):
            if isinstance(told, BaseException):
                failures.append(told)
                outcome.include(_outcome(told, len(items)), items)
            else:
                outcome.include(BatchOutcome.of(told), items)
        if failures:
            raise self._together(failures, events, outcome)
        return [outcome.receipts[i] for i in range(len(events))]

    async def _store_part(
        self, number: int | None, events: list[Prepared]
    ) -> Sequence[Receipt]:
        if number is None:  # Events that may go anywhere go together.
            return await self._turns.use(
                lambda free: self._places[free].store_all(events)
            )
        return await self._places[number].store_all(events)

    def _together(
        self,
        failures: list[BaseException],
        events: list[Prepared],
        outcome: BatchOutcome,
    ) -> BaseException:
        """One error for what the partitions say."""
        worst = next(
            (error for error in failures if not isinstance(error, StreamsError)), None
        )
        if worst is not None:
            return worst
        missing = sorted([*outcome.not_stored, *outcome.unknown])
        error = self._of_all(failures, [events[i].event_id for i in missing], outcome)
        error.outcome = outcome
        return error

    def _of_all(
        self, failures: list[BaseException], missing: list[str], outcome: BatchOutcome
    ) -> StreamsError:
        unknown = next(
            (error for error in failures if isinstance(error, PublishUnknown)), None
        )
        full = next(
            (error for error in failures if isinstance(error, StreamFull)), None
        )
        if unknown is None and full is not None:
            full.accepted = outcome.stored
            return full
        if unknown is None and (not outcome.stored or outcome.unknown):
            assert isinstance(failures[0], StreamsError)  # noqa: S101 - for the type checker
            return failures[0]
        kind = PartlyPublished if unknown is None else PublishUnknown
        error = kind(self._stream, tuple(missing), outcome.stored)
        error.__cause__ = unknown or failures[0]
        return error

    def _number(self, event: Prepared) -> int | None:
        value = event.kind if self._by == "type" else None
        if value is None and event.meta:
            value = orjson.loads(event.meta).get(self._by)
        value = value if isinstance(value, str) and value else event.dedup_id
        return None if value is None else partition_of(value, len(self._places))


def _outcome(error: BaseException, count: int) -> BatchOutcome:
    """The outcome that an error gives to the events of its partition.

    An error that is none of ours leaves all of them unknown.
    """
    told = error.outcome if isinstance(error, StreamsError) else None
    return told or BatchOutcome.of([None] * count, is_sure=False)
