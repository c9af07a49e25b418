"""The fetch loop: decides what to read next. Everything that it reads starts at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from streams.broker import Backoff
from streams.broker.entries.delivery import Delivery
from streams.broker.server.outages import OUTAGE
from streams.common.log_facts import logger_of
from streams.consuming.executor import Executor
from streams.consuming.gate import Gate
from streams.consuming.idle import Idling
from streams.consuming.isolation import Suspects
from streams.consuming.settler import Settler
from streams.consuming.sources import Source
from streams.consuming.state import ConsumerState
from streams.errors import (
    AccessDenied,
    BrokerError,
    GroupMissing,
    WrongKeyType,
    WrongServer,
)

logger = logger_of("consumer")

POLL = 0.5
"""Seconds between looks for due retries that another worker may have set, and the longest block."""
_GATHER = 0.002
"""The longest wait, in seconds, for more slots to become free or for outcomes to be written."""
_LAST_LOOK = 1.0
"""Seconds that a stopping worker gives the server to hand back what a failed read took."""
_WRONG_TYPE_WAIT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The other parts of a consumer that its fetcher works with.

    Attributes:
        executor: it gets what may start.
        settler: takes back what may not start.
        idling: how an idle group waits.
        gate: tells what may start.
        declare: further declarations, done one after the other whenever the group is
            declared.
        on_return: done at the start and when the server is back, before anything is
            read from it.
    """

    executor: Executor
    settler: Settler
    idling: Idling
    gate: Gate
    declare: Sequence[Callable[[], Awaitable[None]]]
    on_return: Callable[[], Awaitable[None]]


class Fetcher:
    """Reads for one consumer, strictly highest level first.

    Nothing is fetched that cannot start at once (ADR 3). Every entry that a killed
    worker held had started. Entries that had not started are still on the stream. A new
    event of a high level never waits behind fetched ones of a low level.

    Args:
        state: shared by the parts of the consumer.
        source: the entries come from it.
        parts: the other parts of the consumer.
    """

    def __init__(self, state: ConsumerState, source: Source, parts: Parts) -> None:
        self._state = state
        self._source = source
        self._fetching = source.store
        self._executor = parts.executor
        self._settler = parts.settler
        self._idling = parts.idling
        self._gate = parts.gate
        self._declare = parts.declare
        self._on_return = parts.on_return
        self._stats = state.stats
        self._held = state.held
        self._where = state.where
        self._who = f"{state.where} {state.id.name}"
        self._observers = state.observers
        self._isolation = state.isolation
        self._suspects = Suspects(state.isolation)
        self._stopping = False
        self._stop_news = asyncio.Event()
        self._due_at = 0.0
        self._check_at = 0.0
        self._paused: frozenset[int] = frozenset()
        self._away = False
        self._is_unknown = True
        self._is_waiting = False
        """It waits for news, so entries that may start are to be taken for it."""
        self._started = False
        self._taking = asyncio.Lock()
        self.read_at = 0.0
        """When the last trip that went well began (monotonic seconds; 0.0: none yet)."""
        self.is_full = False
        """Nothing is read because every handler is busy."""
        self.trouble = ""
        """Why nothing can be read at the moment."""

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping

    @property
    def paused(self) -> frozenset[int]:
        """The levels that are paused for the group, as of the last look for work."""
        return self._paused

    def stop(self) -> None:
        """Fetch nothing more; a read that is blocking ends by itself within POLL seconds."""
        self._stopping = True
        self._executor.slot_freed.set()
        self._stop_news.set()
        self._isolation.tell()
        self._idling.stop()

    async def run(self) -> None:
        """Fetch until stopped.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            GroupMissing: an operator dropped the group.
        """
        try:
            await self._fetch()
        finally:
            self._state.outages.leave(self._who)

    async def _fetch(self) -> None:
        backoff = Backoff()
        await self._idling.begin()
        await self._until_it_works(self._create_group, backoff)
        while not self._stopping:
            try:
                if self._is_unknown:
                    await self._in_turn(self._on_return)
                self._is_unknown = False
                await self._turn()
            except GroupMissing as error:
                self.trouble = str(error)
                await self._sleep(backoff.next())
                await self._until_it_works(self._create_group, backoff)
            except (AccessDenied, WrongServer):
                raise
            except OUTAGE as error:
                self._say_away(error)
                self._state.unsure = True
                await self._until_back(backoff)
                self._check_at = 0.0
            except BrokerError as error:
                self.trouble = str(error)
                logger.error(  # noqa: TRY400
                    "cannot read the stream",
                    extra={"where": self._where, "error": self.trouble},
                )
                await self._sleep(_WRONG_TYPE_WAIT)
            else:
                self.trouble = ""
                if self._away:
                    self._away = False
                    self._state.outages.back(self._who)
                backoff.reset()
        if self._check_at == 0.0:
            # A read failed and may have taken entries. Left alone they would wait for
            # their lease and count as stalled.
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(_LAST_LOOK):
                    await self._find_lost_reads()

    async def _turn(self) -> None:
        """One step while the gate is open; and a suspect, when it is time for one."""
        if self._isolation.is_closed:
            # The consumer that closed it waits for entries that this one may have got.
            if self._state.unsure:
                await self._find_lost_reads()
            self.is_full = True
            await self._isolation.wait_open(lambda: self._stopping)
            self.is_full = False
            return
        with self._isolation:
            await self._step()
        if self._suspects.is_time and not self._stopping:
            await self._run_suspect()

    async def _run_suspect(self) -> None:
        """Have the process run one suspect alone, after all that it runs has ended."""
        suspect = self._suspects.waiting
        self._suspects.saw("")
        if not await self._isolation.close(
            lambda: self._stopping, f"{self._where} {suspect}"
        ):
            return
        try:
            with self._isolation:
                taken = await self._fetching.take_alone(suspect)
                if taken:
                    logger.info(
                        "a suspect runs alone",
                        extra={"where": self._where, "entry": suspect},
                    )
                await self.start(taken, alone=True)
        finally:
            self._isolation.open_when_quiet()
        self._due_at = 0.0

    async def _step(self) -> None:
        """One read, of the kind that suits what is known."""
        if self._started:
            # The runners first: handlers that do not wait are done before the next read
            # is planned.
            self._started = False
            await asyncio.sleep(0)
        free = self._executor.free
        if free <= 0 or self._settler.unsettled >= max(
            2 * self._state.concurrency, 100
        ):
            await self._wait_for_slot()
            return
        if free * 8 < self._state.concurrency:
            # A few slots only: a moment later there are more, and they share the trip.
            await self._executor.wait_for(self._state.concurrency // 4, _GATHER)
            free = self._executor.free
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + self._idling.check_again_in(
                self._state.options.lease / 2
            )
            await self._find_lost_reads()
            if self._idling.is_resting:
                # Once in a while by itself, whatever was heard.
                self._source.heard(news=True)
        if (
            now >= self._due_at
            and not self._idling.sees_to_retries
            and await self._take_due(free)
        ):
            return
        if self._paused and not self._fetching.open_levels:
            await self._sleep(self._due_at - time.monotonic())
            return
        began = time.time_ns() if self._observers else 0
        taken = await self._source.read(free)
        if taken is None:
            taken = await self._wait(free)
        if taken and self._observers:
            self._tell(taken, began)
        self.read_at = now
        await self.start(taken)

    async def _take_due(self, free: int) -> bool:
        """Fetch due retries, and in turn with them what is new.

        True: there was something, or a suspect is next.
        """
        began = time.time_ns() if self._observers else 0
        try:
            reply = await self._source.take_due(free)
        except WrongKeyType as error:
            # Retries have to wait; new entries need not.
            logger.error(  # noqa: TRY400
                "cannot fetch retries",
                extra={"where": self._where, "error": str(error)},
            )
            self._due_at = time.monotonic() + _WRONG_TYPE_WAIT
            return False
        self.read_at = time.monotonic()
        self._stats.vanished += reply.vanished
        self._suspects.saw(reply.suspect)
        self._idling.looked(reply)
        self._due_at = time.monotonic() + POLL
        if reply.next_due is not None:
            self._due_at = min(
                self._due_at,
                time.monotonic() + max(0.01, reply.next_due - self._state.clock.now()),
            )
        if reply.more:
            # They have their turn at the next free slot, however soon that is.
            self._due_at = 0.0
        if reply.fresh:
            self._source.look_again()
        if reply.paused != self._paused:
            self._hold(reply.paused)
        if reply.scopes != self._gate.scopes:
            logger.info(
                "pauses by attribute",
                extra={"where": self._where, "count": len(reply.scopes)},
            )
            self._gate.hold(reply.scopes)
        if reply.deliveries and self._observers:
            self._tell(reply.deliveries, began)
        await self.start(reply.deliveries)
        return bool(reply.deliveries) or self._suspects.is_time

    async def _wait_with_others(
        self, until_due: float, until_check: float
    ) -> bool | None:
        """Wait as ``Idling.wait`` does.

        That may take long and takes no entry, so a suspect need not wait for it.
        """
        if not self._idling.may_rest:
            # It says at once that it does not.
            return await self._idling.wait(until_due, until_check)
        with self._isolation.aside():
            return await self._idling.wait(until_due, until_check) or False

    def _tell(self, deliveries: list[Delivery], began: int) -> None:
        for observer in self._observers:
            observer.received(self._state.id, deliveries, began)

    def _hold(self, paused: frozenset[int]) -> None:
        """Read from other levels from now on: some were paused or resumed."""
        before, self._paused = self._paused, paused
        self._fetching.hold(paused)
        self._idling.changed()
        self._source.look_again()
        if before - paused:
            # Their due retries were walked over until now.
            self._due_at = 0.0
            logger.info(
                "resumed",
                extra={"where": self._where, "levels": sorted(before - paused)},
            )
        if paused - before:
            logger.info(
                "paused",
                extra={"where": self._where, "levels": sorted(paused - before)},
            )

    async def _wait(self, free: int) -> list[Delivery]:
        """Wait for new entries, no longer than to the next due retry."""
        now = time.monotonic()
        seconds = min(POLL, self._due_at - now)
        self._is_waiting = True
        try:
            if self._state.keys_ready.is_set():
                return []
            news = await self._wait_with_others(seconds, self._check_at - now)
            if news is not None:
                self._source.heard(news=news)
            elif seconds <= 0.001:
                # Too short for a blocking read; not to be spun through either.
                await asyncio.sleep(max(0.0, seconds))
            else:
                # A lost answer must be noticed while its entries are still leased to
                # this consumer.
                patience = min(10.0, max(1.0, self._state.options.lease / 3))
                return await self._source.wait(free, seconds, patience)
            return []
        finally:
            self._is_waiting = False

    async def follow(self) -> None:
        """Begin what was behind entries that are settled now. Runs until cancelled."""
        ready = self._state.keys_ready
        while True:
            await ready.wait()
            ready.clear()
            self._source.heard(news=True)
            if self._is_waiting:
                try:
                    await self.take_over(self._source.take_next)
                except BrokerError as error:
                    logger.debug(
                        "cannot go on with keys",
                        extra={"where": self._where, "error": str(error)},
                    )

    async def take_over(
        self, hand_over: Callable[[int], Awaitable[list[Delivery]]]
    ) -> None:
        """Begin what ``hand_over`` fetches when it is told how many entries can begin at once."""
        with self._isolation:
            async with self._taking:
                has_room = not self._stopping and not self._isolation.is_closed
                await self.start(
                    await hand_over(max(0, self._executor.free) if has_room else 0)
                )

    async def wait_taken(self) -> None:
        """Wait until what is just being taken over begins, or is given back.

        To be called after ``stop``.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LOOK), self._taking:
                return

    async def start(self, taken: list[Delivery], *, alone: bool = False) -> None:
        """Begin what was fetched and may start: each is read, admitted, and given to the runners.

        A suspect begins ``alone`` or not at all.
        """
        if not taken:
            return
        self._idling.work()
        taken.sort(key=lambda delivery: -delivery.level)
        self._stats.fetched += len(taken)
        for delivery in taken:
            self._held[delivery.place] = delivery
        room = 0 if self._stopping else max(0, self._executor.free)
        starting, soonest = await self._gate.admit(taken, room, alone=alone)
        if soonest is not None:
            self._due_at = min(self._due_at, time.monotonic() + soonest)
        if self._stopping:  # Since it was asked.
            for delivery in starting:
                self._settler.postpone(delivery, 0.0, "released")
        elif starting:
            self._executor.dispatch(starting)
            self._started = True

    async def _wait_for_slot(self) -> None:
        """Wait until a handler is free; new entries are queued meanwhile."""
        while not self._stopping:
            try:
                async with asyncio.timeout(self._source.lines_up_every):
                    await self._slot_freed()
            except TimeoutError:
                await self._source.line_up(lambda: self._executor.free <= 0)
            else:
                return

    async def _slot_freed(self) -> None:
        # The event is not set again for a slot that is free already.
        if self._executor.free > 0:
            self.is_full = False
            if self._settler.unsettled:
                await self._settler.wait_trip(_GATHER)
            return
        self._executor.slot_freed.clear()
        if not self._stopping:
            self.is_full = True
            await self._executor.slot_freed.wait()
            self.is_full = False

    async def _find_lost_reads(self) -> None:
        """Give back what the server holds for this consumer without its knowing.

        Such entries came with an answer that was lost.
        """
        # An entry that is just being taken over is not held yet, and not lost either.
        async with self._taking:
            back = await self._fetching.hand_back_unknown(list(self._held))
            # For its row may have been lost with others.
            await self._fetching.announce()
        self._state.unsure = False
        self._isolation.tell()
        if back:
            logger.warning(
                "entries of a lost read handed back",
                extra={"where": self._where, "count": back},
            )
            self._due_at = 0.0

    async def _create_group(self) -> None:
        created, lost = await self._fetching.ensure_group()
        if created and (self._stats.fetched or self._state.id.group in lost):
            logger.warning(
                "the group was gone and is created again, reading from the beginning",
                extra={"where": self._where, "levels": created},
            )
        self._source.look_again()
        for declare in self._declare:
            await declare()

    async def _until_it_works(
        self, call: Callable[[], Awaitable[None]], backoff: Backoff
    ) -> None:
        while not self._stopping:
            try:
                await self._in_turn(call)
            except (AccessDenied, WrongServer, GroupMissing):
                raise  # Missing although it was to be created: an operator dropped it.
            except OUTAGE as error:
                self._say_away(error)
                await self._until_back(backoff)
            except BrokerError as error:
                self.trouble = str(error)
                logger.error(  # noqa: TRY400
                    "cannot create the group",
                    extra={"where": self._where, "error": self.trouble},
                )
                await self._sleep(_WRONG_TYPE_WAIT)
            else:
                return

    async def _in_turn(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call when not too many groups of this process do the same.

        If the consumer is to stop by then, it is not called any more.
        """
        async with self._idling.starting:
            if not self._stopping:
                await call()

    def _say_away(self, error: BrokerError) -> None:
        self.trouble = str(error)
        self._is_unknown = True
        self._away = True
        self._state.outages.away(self._who, error)

    async def _until_back(self, backoff: Backoff) -> None:
        """Wait before the next try.

        Where many groups wait, one of them tries for all, and this waits for its
        answer.
        """
        await self._sleep(backoff.next())
        while self._idling.is_away and not self._stopping:
            await self._sleep(backoff.next())

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop_news.wait()
        except TimeoutError:
            pass
