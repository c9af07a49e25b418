"""The scheduler: moves scheduled events to their stream when they are due."""

from __future__ import annotations

import asyncio

from streams.broker import Backoff, Broker, checked_broker
from streams.broker.entries.lookout import Lookout, Watch
from streams.broker.entries.publish import Scheduling
from streams.broker.server.outages import OUTAGE
from streams.common.log_facts import logger_of
from streams.errors import AccessDenied, BrokerError, CommandRefused
from streams.policy.levels import Levels, checked_levels

logger = logger_of("scheduler")

_BATCH = 200
_POLL = 0.5
_POLL_EMPTY = 1.0
_LONG = 60.0


class Scheduler:
    """Moves the due events of one stream. Several may run: each event is moved once.

    With scheduled events it polls at least every 0.5 s, and at the next due time that it
    knows. Without any it polls once a second, or, if the process has many schedulers,
    waits for a notice of the process's lookout.

    Args:
        broker: an open broker.
        stream: the stream's name.
        levels: the levels of the stream.

    Attributes:
        promoted: the number of events that this scheduler has moved.
    """

    def __init__(
        self, broker: Broker, stream: str, levels: Levels | None = None
    ) -> None:
        self.stream = checked_broker(broker).keys(stream).stream
        self.promoted = 0
        self._clock = broker.clock
        self._outages = broker.outages
        self._scheduling = Scheduling(
            broker, broker.keys(stream), checked_levels(levels)
        )
        self._lookout = Lookout.of(broker)
        self._watch: Watch | None = None
        self._is_empty = False
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let ``run`` return."""
        self._stopping.set()
        if self._watch is not None:
            self._watch.nudge()

    async def run(self) -> None:
        """Promote until ``stop`` is called.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
        """
        who = f"{self.stream} scheduler {id(self)}"
        self._lookout.enter(consumes=False)
        try:
            await self._promote_on(who)
        finally:
            self._outages.leave(who)
            await self._lookout.leave(consumes=False)

    async def _promote_on(self, who: str) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                wait = await self.promote()
                backoff.reset()
                self._outages.back(who)
                if self._is_empty and self._lookout.is_crowded:
                    await self._until_scheduled()
                    continue
            except AccessDenied:
                raise
            except OUTAGE as error:
                # Other roles may not get this refusal, and would not report it.
                if isinstance(error, CommandRefused):
                    self._outages.away(who, error)

                wait = backoff.next()
            except BrokerError as error:
                extra = {"where": self.stream, "error": str(error)}
                logger.error("cannot promote", extra=extra)  # noqa: TRY400
                wait = 5.0

            try:
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _until_scheduled(self) -> None:
        """Wait, together with other schedulers, until an event is scheduled.

        Raises:
            BrokerUnavailable: the server is unavailable.
        """
        self._watch = watch = self._lookout.watch({}, (self._scheduling.waits_for,))
        try:
            while not self._stopping.is_set() and not await watch.news(_LONG):
                continue
        finally:
            self._watch = None
            self._lookout.forget(watch)

    async def promote(self) -> float:
        """Move one batch of due events; returns the seconds until the next poll."""
        promotion = await self._scheduling.promote(_BATCH)
        self.promoted += promotion.moved
        self._is_empty = promotion.next_due is None
        if promotion.next_due is None:
            return _POLL_EMPTY
        return min(_POLL, max(0.001, promotion.next_due - self._clock.now()))
