"""The loss watch of a worker: says so when the server has less than it had acknowledged.

A server that comes back without its last writes, or another one that takes over, says nothing of what is missing. Its
own figures tell: they only grow, unless data is lost.
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
"""Seconds between two looks at a stream that something happens on."""
IDLE = 6
"""On a stream that nothing happens on, one look of so many is made."""
_NEXT = (
    "call streams doctor before the server's append-only file is rewritten, which may still have it; what is gone must"
    " be published again; what a group had read is handled again"
)


class LossWatch:
    """Watches one stream for the consumers of a worker.

    It remembers how far the stream, its dead letters and the groups were, and writes that down on the server. Whoever
    lives through an outage compares before the first read after it; a worker that starts compares with what is written
    down. It costs nothing of what an event costs: a look every ten seconds at most, and one after each outage.

    Args:
        broker: an open broker.
        consumers: of one stream.
    """

    def __init__(self, broker: Broker, consumers: Sequence[Consumer]) -> None:
        self.consumers = consumers
        self._stream = consumers[0].stream
        self._worker = consumers[0].name
        levels = consumers[0].options.levels.descending
        self._places = [
            *(level_of(level) for level in levels),
            *(dead_of(consumer.group) for consumer in consumers),
            *(
                read_of(consumer.group, level)
                for consumer in consumers
                for level in levels
            ),
        ]
        self._marking = WatermarkStore(broker, broker.keys(self._stream), shared=True)
        self._marks: Marks = {}
        self._written: Marks | None = None
        self._looking = asyncio.Lock()
        self._seen = -1
        self._is_back = False
        self._furthest: Furthest | None = None
        self._is_allowed = True

    async def run(self) -> None:
        """Look, until cancelled."""
        beats = 0
        while True:
            await asyncio.sleep(EVERY)
            beats += 1
            done = sum(
                consumer.stats.fetched + consumer.stats.done
                for consumer in self.consumers
            )
            if done != self._seen or beats % IDLE == 0:
                self._seen = done
                try:
                    await self.look()
                except BrokerUnavailable as error:
                    logger.debug(
                        "watermarks wait",
                        extra={"stream": self._stream, "error": str(error)},
                    )

    async def look_after_outage(self) -> None:
        """As ``look``, and see whether what was scheduled is there.

        At other times an event that is not there any more was cancelled, or its time was moved.
        """
        self._is_back = True
        await self.look()

    async def look(self) -> None:
        """Compare the stream with what is known of it, say what is lost, and write down how far it is.

        Raises:
            BrokerUnavailable: the server is away.
        """
        if not self._is_allowed:
            return
        async with self._looking:
            try:
                await self._look()
            except BrokerUnavailable:
                raise
            except AccessDenied as error:
                # A user that was made before may not look. Work goes on as it did.
                self._is_allowed = False
                logger.warning(
                    "losses of the server would go unnoticed",
                    extra={"stream": self._stream, "error": str(error)},
                )
            except BrokerError as error:
                logger.debug(
                    "watermarks wait",
                    extra={"stream": self._stream, "error": str(error)},
                )

    async def _look(self) -> None:
        if self._written is None:
            self._written, _ = await self._marking.written()
            known = {
                place: mark
                for place, mark in self._written.items()
                if place in self._places
            }
            self._marks = _higher(self._marks, known)
        self._marks = _higher(self._marks, self._delivered())
        now = await self._marking.look(self._places)
        losses = compared(self._marks, now)
        if self._is_back:
            losses |= await self._marking.unscheduled(self._furthest)
            self._is_back = False
        if losses:
            await self._report(losses)
        self._furthest = await self._marking.furthest()
        gone = [place for place in losses if place in now and now[place] is None]
        self._marks = {
            **self._marks,
            **{place: mark for place, mark in now.items() if mark is not None},
        }
        for place in gone:
            del self._marks[place]
        news = {
            place: mark
            for place, mark in self._marks.items()
            if self._written.get(place) != mark
        }
        if news or gone:
            await self._marking.write(news, gone)
            self._written = dict(self._marks)

    def _delivered(self) -> Marks:
        """What the consumers were given since the last look: they know it, whatever the server forgets."""
        marks: Marks = {}
        for consumer in self.consumers:
            for level, last in consumer.take_delivered().items():
                mark = Mark(last.decode())
                marks[read_of(consumer.group, level)] = mark
                marks[level_of(level)] = mark.merged(marks.get(level_of(level)))
        return marks

    async def _report(self, losses: Losses) -> None:
        found = await self._marking.report(losses, self._worker)
        if found:
            logger.error(
                "the server has lost what it had acknowledged",
                extra={"stream": self._stream, "lost": told(found), "next": _NEXT},
            )


def _higher(marks: Mapping[str, Mark], others: Mapping[str, Mark]) -> Marks:
    return {
        **marks,
        **{place: mark.merged(marks.get(place)) for place, mark in others.items()},
    }
