"""How concurrent publish calls share round trips."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streams.broker import Backoff
from streams.broker.entries.publish import Answer, Prepared, Publishing
from streams.errors import (
    BrokerUnavailable,
    OutOfMemory,
    PublishUnknown,
    StreamFull,
    StreamsError,
)
from streams.events.receipt import BatchOutcome, Receipt

BATCH_EVENTS = 500
"""The most events of one request."""
_SHARE = 16
"""The least events that are worth a trip beside another one."""

_Waiting = tuple[Prepared, asyncio.Future[Receipt]]
"""An event, and where its receipt goes."""
_Trip = asyncio.Task[list[Answer]]
T = TypeVar("T")


class Batcher:
    """Stores single events of many callers.

    Events that wait while a trip is under way share the next one.

    Args:
        publishing: writes them.
        stream: the stream's name.
        max_len: its limit, for the message.
    """

    def __init__(self, publishing: Publishing, stream: str, max_len: int) -> None:
        self._publishing = publishing
        self._stream = stream
        self._max_len = max_len
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def store(self, event: Prepared) -> Receipt:
        """Store one event for now.

        Raises:
            StreamsError: as ``Producer.publish``.
        """
        if self._sender is not None or self._waiting:
            loop = asyncio.get_running_loop()
            receipt: asyncio.Future[Receipt] = loop.create_future()
            self._waiting.append((event, receipt))
            return await receipt
        # Alone, as far as can be seen: the first await below lets others join, and
        # those share the next trip.
        self._sender = asyncio.current_task()
        try:
            answer = (await self._publishing.store((event,)))[0]
        except StreamsError as error:
            if unknown := noted(self._stream, [event], error):
                raise unknown from error
            raise
        finally:
            self._sender = None
            if self._waiting:
                self._sender = asyncio.create_task(self._send_waiting())
        if not isinstance(answer, Receipt):
            raise answer or StreamFull(self._stream, self._max_len)
        return answer

    async def _send_waiting(self) -> None:
        """Send what gathers until nothing is left.

        While the server works on one trip, this process prepares and sends another:
            neither waits for the other.
        """
        under_way: deque[tuple[list[_Waiting], _Trip]] = deque()
        try:
            while self._waiting or under_way:
                while self._waiting and (
                    not under_way
                    or (len(under_way) == 1 and len(self._waiting) >= _SHARE)
                ):
                    under_way.append(self._begin_trip(alone=not under_way))
                await self._answer(*under_way.popleft())
                # Callers that were answered may publish again at once. Their events
                # share the next trip.
                await asyncio.sleep(0)
        finally:
            self._sender = None

    def _begin_trip(self, *, alone: bool) -> tuple[list[_Waiting], _Trip]:
        count = len(self._waiting)
        if alone and count >= 2 * _SHARE:
            # The other half goes with the second trip, at once.
            count = (count + 1) // 2
        count = min(count, BATCH_EVENTS)
        batch = [self._waiting.popleft() for _ in range(count)]
        events = [event for event, _ in batch]
        return batch, asyncio.create_task(
            attempt(self._stream, events, self._publishing.store(events))
        )

    async def _answer(self, batch: list[_Waiting], trip: _Trip) -> None:
        try:
            answers = await trip
        except Exception as error:  # noqa: BLE001 - it belongs to the callers, each of whom gets it
            for event, receipt in batch:
                if not receipt.done():
                    receipt.set_exception(_own(error, event))
            return
        for (_, receipt), answer in zip(batch, answers, strict=True):
            if receipt.done():
                continue
            if isinstance(answer, Receipt):
                receipt.set_result(answer)
            else:
                full = StreamFull(self._stream, self._max_len)
                receipt.set_exception(answer or full)


async def attempt(stream: str, events: list[Prepared], call: Awaitable[T]) -> T:
    """Await a publishing call. It never sends anything twice.

    Raises:
        StreamsError: see ``noted``.
    """
    try:
        return await call
    except StreamsError as error:
        if unknown := noted(stream, events, error):
            raise unknown from error
        raise


def noted(
    stream: str, events: list[Prepared], error: StreamsError
) -> PublishUnknown | None:
    """Note what became of the events of a publishing call that failed with ``error``.

    Where the answer was lost, this is told by another error.
    """
    count = len(events)
    if isinstance(error, BrokerUnavailable) and error.sent:
        in_doubt = tuple(event.event_id for event in events)
        unknown = PublishUnknown(stream, in_doubt)
        unknown.outcome = outcome_of(unknown, count)
        return unknown
    error.outcome = error.outcome or outcome_of(error, count)
    return None


async def patiently(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Do what may be done twice, again and again while the server is away, for so many seconds."""
    backoff = Backoff()
    loop = asyncio.get_running_loop()
    give_up = loop.time() + seconds
    is_sent = False
    while True:
        try:
            return await call()
        except BrokerUnavailable as error:
            # An earlier try may have been stored although the last one was surely not.
            is_sent |= error.sent
            wait = backoff.next()
            if loop.time() + wait > give_up:
                raise BrokerUnavailable(
                    str(error), sent=is_sent, server=error.server
                ) from error
            await asyncio.sleep(wait)


def outcome_of(error: StreamsError, count: int) -> BatchOutcome:
    """The outcomes of the events of one request that failed as a whole.

    A server that is away or has no memory did nothing. Other refusals may come half-way
    through a script.
    """
    return BatchOutcome.of(
        [None] * count, is_sure=isinstance(error, (BrokerUnavailable, OutOfMemory))
    )


def _own(error: Exception, event: Prepared) -> Exception:
    """Each caller of a shared trip gets an exception of its own."""
    if isinstance(error, PublishUnknown):
        return PublishUnknown(error.stream, (event.event_id,))
    if isinstance(error, BrokerUnavailable):
        return BrokerUnavailable(str(error), sent=error.sent, server=error.server)
    if isinstance(error, OutOfMemory):
        return OutOfMemory(str(error))
    return error
