"""The producer: publishes events on one stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from streams.broker import Broker, checked_broker
from streams.broker.entries.observing import ObservedSends
from streams.broker.entries.publish import Answer, Prepared, Publishing, parts
from streams.common.arguments import checked_number, checked_options, checked_seconds
from streams.errors import (
    BrokerError,
    BrokerUnavailable,
    OutOfMemory,
    StreamFull,
    StreamsError,
)
from streams.events.codec import MAX_EVENT_BYTES
from streams.events.event import EventAttributes
from streams.events.receipt import BatchOutcome, Receipt
from streams.policy.levels import Levels, checked_levels
from streams.policy.partitions import Partitions, partition_name
from streams.publishing.batcher import Batcher, attempt, outcome_of, patiently
from streams.publishing.partitioner import Spread
from streams.publishing.prepare import Preparing
from streams.publishing.source import EventBatches, counted
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.broker.server.wire import Packed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """Limits of a producer.

    Attributes:
        levels: of the stream; must be the same on its consumers.
        max_len: the most unfinished events on the stream; above it publishing raises
            ``StreamFull``. 0: no limit.
        max_event_bytes: the largest body.
        dedup_window: seconds for which a ``dedup_id`` is remembered.
        retry_for: seconds for which an event with a ``dedup_id`` is sent again while
            the server is away.
    """

    levels: Levels = Levels()
    max_len: int = 0
    max_event_bytes: int = MAX_EVENT_BYTES
    dedup_window: float = 3600.0
    retry_for: float = 10.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those that the settings say."""
        return cls(
            levels=settings.levels,
            max_len=settings.max_len,
            max_event_bytes=settings.max_event_bytes,
            dedup_window=settings.dedup_window,
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", checked_levels(self.levels))
        for name in ("max_len", "max_event_bytes"):
            checked_number(name, getattr(self, name), 0, 10**15)
        for name in ("dedup_window", "retry_for"):
            checked_seconds(name, getattr(self, name), 0, 1e9)


class Producer:
    """Publishes events on one stream.

    Many concurrent ``publish`` calls share round trips.

    Args:
        broker: an open broker.
        stream: the stream's name.
        options: limits; see ``ProducerOptions``.
        is_partition: it stores where it is told to, and does not spread events over the
            stream's partitions.
        partition: the number of that partition, for receipts.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        options: ProducerOptions | None = None,
        *,
        is_partition: bool = False,
        partition: int = 0,
    ) -> None:
        self.options = checked_options(options, ProducerOptions)
        self._broker = broker
        self._is_partition = is_partition
        self._spread: Spread | None = None
        self.stream = checked_broker(broker).keys(stream).stream
        self._preparing = Preparing(
            broker.clock, self.options.levels, self.options.max_event_bytes
        )
        self._observers = broker.observers
        self._publishing = Publishing(
            broker,
            broker.keys(self.stream),
            self.options.levels,
            max_len=self.options.max_len,
            dedup_window=self.options.dedup_window,
            partition=partition,
        )
        self._registered = False
        self._registering: asyncio.Event | None = None
        self._batcher = Batcher(self._publishing, self.stream, self.options.max_len)

    async def publish(
        self,
        data: Any,
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> Receipt:
        """Publish one event; when this returns, the server has stored it.

        Args:
            data: an ``Event``, or the body: anything JSON, or ``bytes`` as they are.
            type: the event's type; required unless ``data`` is an ``Event``.
            attributes: see ``EventAttributes``. An ``Event`` has them itself.

        Raises:
            ConfigurationError: keywords stand beside an ``Event``, which would be lost,
                or a value is refused.
            EventError: the event breaks a limit or the wire format; nothing was sent.
            StreamFull: the stream is at ``max_len``.
            BrokerUnavailable: the server is away; the event was surely not stored.
            PublishUnknown: the answer was lost; the event may be stored.
            OutOfMemory: the server refuses new data.
        """
        if not self._observers:
            event = self._preparing.one(data, type, attributes)
            is_plain = event.dedup_id is None and not event.delay_ms
            if is_plain and self._registered and self._spread is None:
                # Most events by far; each call more is dear here.
                return await self._batcher.store(event)
            return await self._publish_one(event)
        with ObservedSends(self._observers, self.stream, is_batch=False) as sends:
            receipt = await self._publish_one(
                self._preparing.one(data, type, attributes, sends.carrier)
            )
            sends.stored((receipt,))
            return receipt

    async def _publish_one(self, event: Prepared) -> Receipt:
        if event.dedup_id is not None:
            return (await self.store_all([event]))[0]
        if not self._registered:
            await self._register()
        if self._spread is None:
            return await self.store(event)
        return await self._spread.store(event)

    async def store(self, event: Prepared) -> Receipt:
        """Store one prepared event on this stream.

        The caller has already chosen the partition.
        """
        if event.delay_ms:
            return (await self.store_all([event]))[0]
        return await self._batcher.store(event)

    async def reach(self) -> None:
        """Find out whether the server of this stream or partition is there.

        Raises:
            BrokerUnavailable: it is not.
        """
        await self._publishing.register()

    async def publish_many(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> list[Receipt]:
        """Publish every event of an iterable, one round trip per batch.

        Only the receipts are kept in memory.

        The order within a level is kept.

        Args:
            events: ``Event``s without keywords, or bodies that share the keywords; a
                list, a generator or another iterable, but not one body alone.
            type: the type of bodies.
            attributes: see ``EventAttributes``.

        Raises:
            ConfigurationError: ``events`` is one event or body, or no iterable; nothing
                was sent.
            StreamsError: as ``publish``; its ``outcome`` says of each item whether it
                is stored, with its receipt, surely not stored, or unknown. ``accepted``
                of ``StreamFull`` and ``PublishUnknown`` counts those that are surely
                stored. An event that breaks a rule stops the call; those before it are
                stored.
        """
        receipts: list[Receipt] = []
        try:
            async for batch in self.publish_batches(events, type=type, **attributes):
                receipts += batch
        except StreamsError as error:
            if error.outcome is not None:
                error.outcome.complete(receipts, events)
            raise
        return receipts

    async def publish_batches(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> AsyncIterator[list[Receipt]]:
        """As ``publish_many``, giving the receipts batch by batch.

        Memory is constant, and the caller can show progress.

        Raises:
            StreamsError: as ``publish_many``; ``outcome`` tells of the items after
                those whose receipts were given.
        """
        with ObservedSends(self._observers, self.stream, is_batch=True) as sends:
            async for receipts in self._batches(
                events, type, attributes, sends.carrier
            ):
                sends.stored(receipts)
                yield receipts

    async def _batches(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        kind: str | None,
        attributes: EventAttributes,
        carrier: Mapping[str, str],
    ) -> AsyncIterator[list[Receipt]]:
        source = EventBatches(events)
        if not self._registered:
            # The first trip tries again, and says so.
            with contextlib.suppress(BrokerUnavailable):
                await self._register()
        parts = self._prepared(source, kind, attributes, carrier)
        alone = isinstance(events, AsyncIterable)
        under_way: asyncio.Task[list[Receipt]] | None = None
        failure: Exception | None = None
        accepted, part = 0, None
        try:
            while failure is None:
                try:
                    # While one trip is under way the next is prepared; it is not sent
                    # before the answer to the first.
                    part = await anext(parts, None)
                except Exception as error:  # noqa: BLE001 - raised below
                    failure, part = error, None
                if under_way is not None:
                    receipts, under_way = (
                        await counted(under_way, accepted, source),
                        None,
                    )
                    accepted += len(receipts)
                    yield receipts
                if part is None:
                    break
                under_way = asyncio.create_task(self._trip(*part))
                # The source may wait for long: nothing of what it gave before may wait
                # with it.
                if alone:
                    receipts, under_way = (
                        await counted(under_way, accepted, source),
                        None,
                    )
                    accepted += len(receipts)
                    yield receipts
                else:
                    await asyncio.sleep(0)
        finally:
            if under_way is not None:
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)
        if failure is not None:
            if isinstance(failure, StreamsError):
                failure.outcome = source.outcome(None, accepted)
            raise failure

    async def _prepared(
        self,
        source: EventBatches,
        kind: str | None,
        attributes: EventAttributes,
        carrier: Mapping[str, str],
    ) -> AsyncIterator[tuple[list[Prepared], Packed | None]]:
        """The events of one trip each, with their command if that is a plain one.

        A refused event ends it.
        """
        async for items in source.batches():
            prepared, refused = self._preparing.all(items, kind, attributes, carrier)
            for part in parts(prepared):
                is_here = self._spread is None and not any(part[0].way)
                yield part, self._publishing.adding(part) if is_here else None
            if refused is not None:
                raise refused

    async def _trip(
        self, events: list[Prepared], adding: Packed | None
    ) -> list[Receipt]:
        if events[0].dedup_id is not None:
            return await self.store_all(events)
        if not self._registered:
            try:
                await self._register()
            except StreamsError as error:
                error.outcome = BatchOutcome.of([None] * len(events))
                raise
        if self._spread is None:
            return await self.store_all(events, adding)
        return await self._spread.store_all(events)

    async def store_all(
        self, events: list[Prepared], adding: Packed | None = None
    ) -> list[Receipt]:
        """As ``store``, for prepared events that are stored the same way.

        Args:
            events: at least one.
            adding: the command that stores them, where it is made already.

        Raises:
            StreamsError: with an ``outcome`` of these events.
        """
        store = partial(self._publishing.store, events, adding)
        try:
            if events[0].dedup_id is None:
                answers = await attempt(self.stream, events, store())
                return self._checked(answers)
            # Sending again is safe, so a lost answer is asked for again.
            seconds = self.options.retry_for
            if not self._registered:
                await patiently(self._register, seconds)
            if self._spread is not None:
                # Each partition is waited for by itself.
                return await self._spread.store_all(events)
            patient = patiently(store, seconds)
            return self._checked(await attempt(self.stream, events, patient))
        except StreamsError as error:
            error.outcome = error.outcome or outcome_of(error, len(events))
            raise

    def _make_spread(self, partitions: Partitions) -> Spread:
        return Spread(
            self.stream,
            partitions,
            [self._make_partition(number) for number in range(partitions.count)],
        )

    def _make_partition(self, number: int) -> Producer:
        name = partition_name(self.stream, number)
        return Producer(
            self._broker, name, self.options, is_partition=True, partition=number
        )

    async def _register(self) -> None:
        while not self._registered:
            if self._registering is not None:
                # Calls that are all the first share one trip, and keep their order.
                await self._registering.wait()
                continue
            self._registering = done = asyncio.Event()
            try:
                partitions = await self._publishing.register()
                if partitions.count > 1 and not self._is_partition:
                    self._spread = self._make_spread(partitions)
                self._registered = True
            except BrokerUnavailable as error:
                # Whatever became of this, the event was not sent yet.
                raise BrokerUnavailable(
                    str(error), sent=False, server=error.server
                ) from error
            finally:
                self._registering = None
                done.set()

    def _checked(self, answers: list[Answer]) -> list[Receipt]:
        """The receipts of a trip.

        Raises:
            BrokerError: an event was refused; ``outcome`` tells of all of them.
            StreamFull: the stream was full.
        """
        receipts = [answer for answer in answers if isinstance(answer, Receipt)]
        if len(receipts) == len(answers):
            return receipts
        refusals = [answer for answer in answers if isinstance(answer, BrokerError)]
        error = (
            refusals[0]
            if refusals
            else StreamFull(self.stream, self.options.max_len, len(receipts))
        )
        is_sure = not refusals or isinstance(error, OutOfMemory)
        stored = [answer if isinstance(answer, Receipt) else None for answer in answers]
        error.outcome = BatchOutcome.of(stored, is_sure=is_sure)
        raise error
