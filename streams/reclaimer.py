"""The reclaimer: finds what silent consumers hold and decides what becomes of it.

It never runs handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any

from streams.broker import Backoff, Broker, checked_broker
from streams.broker.entries.admit import Admitting
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.observing import ConsumerId, Settled
from streams.broker.entries.ordering import LaneRepair, Ways
from streams.broker.entries.reclaim import Reclaiming, Stalled
from streams.broker.entries.settle import Buried, Postponed, Settling, was_written
from streams.broker.keys import RECLAIMER_SUFFIX
from streams.broker.server.outages import OUTAGE
from streams.common.arguments import checked_options, checked_seconds
from streams.common.log_facts import logger_of
from streams.consuming.naming import consumer_name
from streams.consuming.telling import log_death
from streams.errors import (
    AccessDenied,
    BrokerError,
    CommandRefused,
    GroupMissing,
    MalformedEvent,
)
from streams.events.codec import MAX_NESTING, parse_json
from streams.events.names import checked_name
from streams.handlers.routes import Router
from streams.policy.levels import Levels, checked_levels
from streams.policy.ordering import NO_LANES, Lanes
from streams.policy.retry import (
    AttemptRecord,
    Bury,
    Decision,
    Retry,
    RetryPolicy,
    checked_decision,
)

logger = logger_of("reclaimer")

_SILENT = "the consumer went silent"

_SLICE = 100


@dataclass(frozen=True, slots=True)
class ReclaimerOptions:
    """How a reclaimer works.

    Attributes:
        levels: of the stream.
        lease: seconds; the same as the consumers'.
        interval: seconds between sweeps; a third of the lease, at most 10 s, if 0.
        silence: seconds after which a consumer with nothing pending is removed from the
            group.
        name: of the worker that it belongs to; made up if empty.
        lanes: order and fairness by key, as the consumers have it.
    """

    levels: Levels = Levels()
    lease: float = 30.0
    interval: float = 0.0
    silence: float = 3600.0
    name: str = ""
    lanes: Lanes = NO_LANES

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", checked_levels(self.levels))
        checked_seconds("lease", self.lease, 0.3, 86_400)
        checked_seconds("interval", self.interval, 0, 1e9)
        checked_seconds("silence, at least one lease,", self.silence, self.lease, 1e9)

    def pause(self) -> float:
        """Seconds between sweeps, varied by a tenth so that workers do not move in step."""
        interval = self.interval or min(10.0, self.lease / 3)
        return interval * random.uniform(0.9, 1.1)  # noqa: S311 - no secret


class Reclaimer:
    """Sweeps one group of one stream. Any number may run; one works at a time.

    Args:
        broker: an open broker.
        stream: the stream's name.
        group: the group's name.
        retry: the policy for stalled entries, or a router that knows one per event
            type.
        options: see ``ReclaimerOptions``.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        group: str,
        retry: RetryPolicy | Router | None = None,
        options: ReclaimerOptions | None = None,
    ) -> None:
        self.options = options = checked_options(options, ReclaimerOptions)
        self.stream = checked_broker(broker).keys(stream).stream
        self.group = checked_name(group, "group")
        self.stalled = 0
        self._retry = Retry() if retry is None else retry
        self._slotted: frozenset[str] | None = None
        if isinstance(retry, Router):
            self._slotted = frozenset(
                limit.name for limit in retry.limits() if limit.concurrency
            )
        self._broker = broker
        self._clock = broker.clock
        # A name of its own: what it takes over must not look like something that a
        # consumer holds.
        name = f"{options.name or consumer_name()}{RECLAIMER_SUFFIX}"
        keys = broker.keys(stream)
        me = GroupConsumer(
            broker, keys, options.levels, self.group, name, lease=options.lease
        )
        self._reclaiming = Reclaiming(me)
        ways = Ways(options.lanes)
        link = self._reclaiming.link
        self._settling = Settling(me, ways, link)
        self._admitting = Admitting(me, link)
        self._mending = (
            LaneRepair(broker, keys, options.levels, self.group, ways)
            if options.lanes
            else None
        )
        self._id = ConsumerId(self.stream, self.group, name)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let ``run`` return after the sweep that is under way."""
        self._stopping.set()

    async def run(self) -> None:
        """Sweep until ``stop`` is called.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
        """
        try:
            await self._sweep_on()
        finally:
            self._broker.outages.leave(self._who)
            await self._reclaiming.leave()

    async def _sweep_on(self) -> None:
        backoff = Backoff()
        wait = random.uniform(0, self.options.pause())  # noqa: S311 - no secret
        while not await self._stopped_within(wait):
            try:
                while await self.sweep():
                    if self._stopping.is_set():
                        return
            except AccessDenied:
                raise
            except OUTAGE as error:
                # The consumer says that the server is away; once is enough. After an
                # outage every lease looks run out, those of workers in good health too:
                # they get one lease, at most 10 s, to renew what they hold. It may be
                # this one only that is refused.
                if isinstance(error, CommandRefused):
                    self._broker.outages.away(self._who, error)
                await self._server_back(backoff)
                wait = min(10.0, self.options.lease)
            except GroupMissing:
                wait = self.options.pause()  # The consumer creates it.
            except BrokerError as error:
                logger.error(  # noqa: TRY400
                    "cannot sweep", extra={"where": self._where, "error": str(error)}
                )
                wait = self.options.pause()
            else:
                backoff.reset()
                self._broker.outages.back(self._who)
                wait = self.options.pause()

    async def _server_back(self, backoff: Backoff) -> None:
        """Return once the server answers, or ``stop`` is called."""
        while not await self._stopped_within(backoff.next()):
            with contextlib.suppress(*OUTAGE):
                await self._broker.connect()
                return

    async def sweep(self) -> bool:
        """Take over one slice of stalled entries and decide on each.

        True: there may be more at once.
        """
        pause = self.options.interval or min(10.0, self.options.lease / 3)
        sweep = await self._reclaiming.sweep(
            lease=self.options.lease,
            lock=3 * pause,
            silence=self.options.silence,
            most=_SLICE,
        )
        if sweep.rows_restored:
            logger.warning(
                "retry rows were missing and are restored",
                extra={"where": self._where, "count": sweep.rows_restored},
            )
        if sweep.consumers_removed:
            logger.info(
                "silent consumers removed",
                extra={"where": self._where, "count": sweep.consumers_removed},
            )
        if sweep.stalled:
            await self._decide(sweep.stalled)
        if sweep.mine or self._slotted is not None:
            # A worker of before may be the sweeper for as long as it lives, and know
            # limits that are no more.
            await self._admitting.look_after_queues(
                self._slotted, only_release=not sweep.mine
            )
        if sweep.mine and self._mending is not None:
            followed, restored = await self._mending.mend()
            if followed or restored:
                facts = {
                    "where": self._where,
                    "heads_ended": followed,
                    "rows_restored": restored,
                }
                logger.info("lanes mended", extra=facts)
        return sweep.more

    async def _decide(self, stalled: list[Stalled]) -> None:
        postponed: list[Postponed] = []
        buried: list[Buried] = []
        now = round(self._clock.now(), 3)
        for entry in stalled:
            self.stalled += 1
            decision, record = self._judge(entry, now)
            if isinstance(decision, Bury):
                buried.append(Buried(entry.delivery, decision.reason, record))
            else:
                postponed.append(
                    Postponed(entry.delivery, round(decision.delay * 1000), record)
                )
            logger.warning(
                "stalled entry reclaimed",
                extra={
                    "where": self._where,
                    "level_of_stream": entry.delivery.level,
                    "entry": entry.delivery.entry_id,
                    "consumer": entry.previous,
                    "outcome": "dead" if isinstance(decision, Bury) else "retry",
                },
            )
        began = time.time_ns()
        settlement = await self._settling.settle((), postponed, buried)
        written = settlement.statuses
        letters = [
            row for row in buried if was_written(written, row.delivery, certain=True)
        ]
        for letter in letters:
            attempt = AttemptRecord.from_json(letter.record).attempts
            facts: dict[str, Any] = {
                "attempt": attempt,
                "error": "Stalled",
                "error_message": _SILENT,
            }
            log_death(self._id, letter.delivery, letter.reason, said_by=logger, **facts)
        for observer in self._broker.observers:
            rows = [
                (row, "stalled")
                for row in postponed
                if was_written(written, row.delivery, certain=True)
            ]
            observer.settled(self._id, Settled(began, [], rows, letters))
        if settlement.refused is not None:
            raise settlement.refused

    def _judge(self, entry: Stalled, now: float) -> tuple[Decision, bytes]:
        """Decide what becomes of a stalled entry; gives its attempt record, too.

        A policy that fails does not end the sweep.
        """
        own = _own_limit(entry.meta)
        record = _with_stall(entry, now)
        try:
            decision = checked_decision(
                self._policy(entry).after_stall(record, max_retries=own)
            )
            return decision, record.to_json()
        except BaseException:
            # A policy of the user's, which may raise SystemExit; nothing is cancelled
            # in here.
            delivery = entry.delivery
            logger.exception(
                "the retry policy failed, the default policy decides",
                extra={
                    "where": self._where,
                    "level_of_stream": delivery.level,
                    "entry": delivery.entry_id,
                },
            )
        record = _with_stall(entry, now)
        return Retry().after_stall(record, max_retries=own), record.to_json()

    def _policy(self, entry: Stalled) -> RetryPolicy:
        if isinstance(self._retry, Router):
            return self._retry.retry_for(entry.kind.decode("utf-8", "replace"))
        return self._retry

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    @property
    def _who(self) -> str:
        return f"{self._where} {self._id.name}"

    @property
    def _where(self) -> str:
        return self._id.where


def _with_stall(entry: Stalled, now: float) -> AttemptRecord:
    record = entry.delivery.history()
    cause = {
        "type": "Stalled",
        "message": _SILENT,
        "where": "",
        "consumer": entry.previous,
    }
    record.add("stall", cause, at=now)
    return record


def _own_limit(meta: bytes) -> int | None:
    """The event's own ``max_retries``.

    Metadata that cannot be read is left for the consumer to refuse.
    """
    if not meta:
        return None
    try:
        limit = parse_json(meta, MAX_NESTING, "meta").get("max_retries")
    except (MalformedEvent, AttributeError):
        return None
    return (
        limit
        if isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
        else None
    )
