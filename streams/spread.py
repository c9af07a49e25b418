"""Spread: which partition of a stream each event is stored on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import orjson

from streams.broker.publish import Prepared
from streams.errors import PublishUnknown, StreamFull, StreamsError
from streams.partitions import Partitions, partition_of

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Place(Protocol[R_co]):
    """Stores events on one partition, and answers with a receipt for each."""

    async def store(self, event: Prepared) -> R_co:
        """Store one event."""

    async def store_all(self, events: list[Prepared]) -> Sequence[R_co]:
        """Store events that are stored the same way."""


class Spread(Generic[R]):
    """Stores events on the partitions of a stream: those of one key on one partition, the others in turns.

    An event without the attribute but with a dedup id goes where that leads, so that its repetition is seen.

    Args:
        stream: its name, for errors.
        partitions: how it is spread.
        places: who stores on each partition.
    """

    def __init__(self, stream: str, partitions: Partitions, places: Sequence[Place[R]]) -> None:
        self._stream = stream
        self._by = partitions.by
        self._places = places
        self._turn = 0

    def of(self, event: Prepared) -> Place[R]:
        """Who stores this event."""
        number = self._number(event)
        return self._places[self._next() if number is None else number]

    async def store_all(self, events: list[Prepared]) -> list[R]:
        """Store events that are stored the same way, on all their partitions at once; the receipts are in their order.

        Raises:
            PublishUnknown: of some partitions it is not known, or they were away while others have stored theirs;
                ``accepted`` counts what is surely stored, not necessarily the first ones.
            StreamFull: a partition is full; ``accepted`` as above.
            StreamsError: as one partition says, if none has stored anything.
        """
        parts: dict[int, list[int]] = {}
        turn = self._next()  # What may go anywhere goes together: one trip less.
        for i, event in enumerate(events):
            number = self._number(event)
            parts.setdefault(turn if number is None else number, []).append(i)
        trips = [self._places[n].store_all([events[i] for i in indexes]) for n, indexes in parts.items()]
        outcomes = await asyncio.gather(*trips, return_exceptions=True)
        found: dict[int, R] = {}
        failures: list[BaseException] = []
        unstored: list[str] = []
        stored = 0
        for indexes, outcome in zip(parts.values(), outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failures.append(outcome)
                unstored += [events[i].event_id for i in indexes]
                stored += getattr(outcome, "accepted", 0)
            else:
                found.update(zip(indexes, outcome, strict=True))
                stored += len(indexes)
        if failures:
            raise self._together(failures, unstored, stored)
        return [found[i] for i in range(len(events))]

    def _together(self, failures: list[BaseException], unstored: list[str], stored: int) -> BaseException:
        worst = next((error for error in failures if not isinstance(error, StreamsError)), None)
        if worst is not None:
            return worst
        unknown = next((error for error in failures if isinstance(error, PublishUnknown)), None)
        full = next((error for error in failures if isinstance(error, StreamFull)), None)
        if unknown is None and full is not None:
            full.accepted = stored
            return full
        if unknown is None and not stored:
            return failures[0]
        error = PublishUnknown(self._stream, tuple(unstored))
        error.accepted = stored
        error.__cause__ = unknown or failures[0]
        return error

    def _number(self, event: Prepared) -> int | None:
        value = event.kind if self._by == "type" else None
        if value is None and event.meta:
            value = orjson.loads(event.meta).get(self._by)
        value = value if isinstance(value, str) and value else event.dedup_id
        return None if value is None else partition_of(value, len(self._places))

    def _next(self) -> int:
        self._turn = (self._turn + 1) % len(self._places)
        return self._turn
