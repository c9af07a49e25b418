"""The loss watch of a worker: reports writes that the server acknowledged and lost.

A server that restarts without its last writes, or is replaced by another one, does not
report the loss. Its counters show it: they only grow, unless data is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from streams.broker import Broker
from streams.broker.admin.watermarks import (
    Furthest,
    Losses,
    Mark,
    Marks,
    WatermarkStore,
    compared,
    dead_of,
    level_of,
    read_of,
    told,
)
from streams.common.log_facts import logger_of
from streams.consumer import Consumer
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable

logger = logger_of("worker")
EVERY = 10.0
"""Seconds between two looks at an active stream."""
IDLE = 6
"""An idle stream gets only one of so many looks."""
_NEXT = (
    "call streams doctor before the server's append-only file is rewritten, "
    "which may still have it; what is gone must be published again; "
    "what a group had read is handled again"
)


class LossWatch:
    """Watches one stream for the consumers of a worker.

    It keeps the positions of the stream, its dead letters and its groups (watermarks), and
    stores them on the server. A running worker compares them before its first read after
    an outage; a new worker compares with the stored ones. The costs do not depend on the
    number of events: one look in ten seconds at most, and one after each outage.

    Args:
        broker: an open broker.
        consumers: the consumers of one stream.
    """

    def __init__(self, broker: Broker, consumers: Sequence[Consumer]) -> None:
        self.consumers = consumers
        self._stream = consumers[0].stream
        self._worker = consumers[0].name
        levels = consumers[0].options.levels.descending
        groups = [consumer.group for consumer in consumers]
        self._places = [*map(level_of, levels), *map(dead_of, groups)]
        for group in groups:
            self._places += [read_of(group, level) for level in levels]

        self._marking = WatermarkStore(broker, broker.keys(self._stream), shared=True)
        self._marks: Marks = {}
        self._written: Marks | None = None
        self._looking = asyncio.Lock()
        self._seen = -1
        self._is_back = False
        self._furthest: Furthest | None = None
        self._is_allowed = True

    async def run(self) -> None:
        """Look until cancelled."""
        beats = 0
        while True:
            await asyncio.sleep(EVERY)
            beats += 1
            counts = [consumer.stats for consumer in self.consumers]
            done = sum(stats.fetched + stats.done for stats in counts)
            if done != self._seen or beats % IDLE == 0:
                self._seen = done
                try:
                    await self.look()
                except BrokerUnavailable as error:
                    self._defer(error)

    def _defer(self, error: BrokerError) -> None:
        extra = {"stream": self._stream, "error": str(error)}
        logger.debug("watermarks not compared; will retry", extra=extra)

    async def look_after_outage(self) -> None:
        """Look, and also check the scheduled events.

        At other times a missing scheduled event was cancelled or moved.
        """
        self._is_back = True
        await self.look()

    async def look(self) -> None:
        """Compare the stream with its watermarks, report losses, and store new watermarks.

        Raises:
            BrokerUnavailable: the server is unavailable.
        """
        if not self._is_allowed:
            return

        async with self._looking:
            try:
                await self._look()
            except BrokerUnavailable:
                raise
            except AccessDenied as error:
                # An older ACL user lacks the permission. The worker goes on without.
                self._is_allowed = False
                extra = {"stream": self._stream, "error": str(error)}
                logger.warning("losses of the server would go unnoticed", extra=extra)
            except BrokerError as error:
                self._defer(error)

    async def _look(self) -> None:
        if self._written is None:
            self._written, _ = await self._marking.written()
            known = self._written.keys() & set(self._places)
            self._raise({place: self._written[place] for place in known})

        self._raise(self._delivered())

        now = await self._marking.look(self._places)
        losses = compared(self._marks, now)
        if self._is_back:
            losses |= await self._marking.unscheduled(self._furthest)
            self._is_back = False

        if losses:
            await self._report(losses)

        self._furthest = await self._marking.furthest()

        gone = [place for place in losses if place in now and now[place] is None]
        self._marks |= {place: mark for place, mark in now.items() if mark is not None}
        for place in gone:
            del self._marks[place]

        news = dict(self._marks.items() - self._written.items())
        if news or gone:
            await self._marking.write(news, gone)
            self._written = dict(self._marks)

    def _raise(self, others: Mapping[str, Mark]) -> None:
        for place, mark in others.items():
            self._marks[place] = mark.merged(self._marks.get(place))

    def _delivered(self) -> Marks:
        """The deliveries since the last look, which the server may have forgotten."""
        marks: Marks = {}
        for consumer in self.consumers:
            for level, last in consumer.take_delivered().items():
                mark = Mark(last.decode())
                place = level_of(level)
                marks[read_of(consumer.group, level)] = mark
                marks[place] = mark.merged(marks.get(place))

        return marks

    async def _report(self, losses: Losses) -> None:
        found = await self._marking.report(losses, self._worker)
        if found:
            extra = {"stream": self._stream, "lost": told(found), "next": _NEXT}
            logger.error("the server has lost what it had acknowledged", extra=extra)
