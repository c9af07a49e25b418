"""The source of ``publish_many``, read as much at a time as one request carries.

It tells what became of the events when a request fails, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from itertools import islice
from typing import Any

from streams.errors import ConfigurationError, PublishUnknown, StreamFull, StreamsError
from streams.events.event import Event
from streams.events.receipt import BatchOutcome, Receipt
from streams.publishing.batcher import BATCH_EVENTS

_ONE = (Mapping, str, bytes, bytearray, memoryview, Event)
"""Kinds that are one body or event, although some of them are iterable."""


def check_events(events: object) -> None:
    """Let pass what several events can be read from.

    Raises:
        ConfigurationError: it is one body or event, or nothing that has items.
    """
    if isinstance(events, _ONE) or not isinstance(events, (Iterable, AsyncIterable)):
        raise ConfigurationError(
            "events is a list or another iterable of events or bodies, e.g. "
            "[{'id': 1}, {'id': 2}], not one "
            f"{type(events).__name__}; publish takes one"
        )


class EventBatches:
    """The source of ``publish_many``, and how much it took; see ``check_events``."""

    def __init__(self, events: Iterable[Any] | AsyncIterable[Any]) -> None:
        check_events(events)
        self._events = events
        self._taken = 0

    async def batches(self) -> AsyncIterator[list[Any]]:
        """The items, as many at a time as one request carries."""
        async for batch in _batches(self._events):
            self._taken += len(batch)
            yield batch

    def outcome(self, of_trip: BatchOutcome | None, accepted: int) -> BatchOutcome:
        """The outcome of the items after those that were accepted.

        It is the outcome of the trip; the rest is not stored.
        """
        made = (of_trip or BatchOutcome()).behind(accepted)
        made.extend(self._taken)
        return made


async def counted(
    trip: asyncio.Task[list[Receipt]], accepted: int, source: EventBatches
) -> list[Receipt]:
    """The receipts of a trip; its error tells of the items of the whole call."""
    try:
        return await trip
    except StreamsError as error:
        if isinstance(error, (StreamFull, PublishUnknown)):
            error.accepted += accepted
        error.outcome = source.outcome(error.outcome, accepted)
        raise


async def _batches(
    events: Iterable[Any] | AsyncIterable[Any],
) -> AsyncIterator[list[Any]]:
    if isinstance(events, AsyncIterable):
        batch: list[Any] = []
        async for event in events:
            batch.append(event)
            if len(batch) == BATCH_EVENTS:
                yield batch
                batch = []
        if batch:
            yield batch
        return
    source = iter(events)
    for first in source:
        yield [first, *islice(source, BATCH_EVENTS - 1)]
