"""The runners: a fixed pool that starts handlers and turns what they do into outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from streams.broker.entries.delivery import Delivery
from streams.common.exception_text import place_of
from streams.common.forks import Origin, end_copy, keep_loop
from streams.common.log_facts import logger_of
from streams.consuming.decode import Decoder
from streams.consuming.execution import Ending, Execution
from streams.consuming.failing import Failing
from streams.consuming.gate import Gate
from streams.consuming.settler import Settler
from streams.consuming.state import ConsumerState
from streams.consuming.telling import log_entry
from streams.events.event import Event
from streams.middleware.base import Place
from streams.middleware.chain import Chain, finished

logger = logger_of("consumer")

_TICK = 0.1
_NAMED = 20
"""How many events a stop names of those that it gives back."""
_STOPPED = "the worker stops, so a handler is cancelled and its event given back"
_STOPPED_TOO = "more handlers are cancelled by the stop, and their events given back"


class Executor:
    """Starts handlers from a pool of tasks over one queue; no task and no timer per event.

    A runner is made when there is work for it for the first time, and kept: a group
    without events has none.

    Whatever a handler does ends in an outcome: a return, any exception (SystemExit and
    a CancelledError of its own included), a timeout. A handler that does not end within
    ``cancel_grace`` after it was cancelled is abandoned: its entry is settled without
    it, its place is taken by a new runner, its late result is dropped.
    """

    def __init__(
        self,
        state: ConsumerState,
        decoder: Decoder,
        settler: Settler,
        chain: Chain,
        place: Place,
        gate: Gate,
    ) -> None:
        self._state = state
        self._failing = Failing(state, settler, gate)
        self._chain = chain if chain.wraps else None
        self._entering = chain.entering
        self._place = place
        self._decoder = decoder
        self._settler = settler
        self._stats = state.stats
        self._queue: deque[Delivery] = deque()
        self._parked: deque[asyncio.Future[None]] = deque()
        self._running: dict[int, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted = 1
        self._most = 0
        self._made = 0
        self._at_work = asyncio.Event()
        self._at_work_since = 0.0
        self._end = Ending()
        self._origin = Origin()
        self.slot_freed = asyncio.Event()
        self.abandoned: set[asyncio.Task[None]] = set()
        self.replaced = 0
        """How many runners ended although nothing told them to, and were replaced."""

    @property
    def missing(self) -> int:
        """How many runners are missing, so that fewer handlers can run at once."""
        return 0 if self._end.is_near else max(0, self._made - len(self._tasks))

    @property
    def free(self) -> int:
        """How many more entries can start at once."""
        return self._state.concurrency - len(self._running) - len(self._queue)

    @property
    def busy(self) -> int:
        """How many attempts are in progress or about to start."""
        return len(self._running) + len(self._queue)

    @property
    def running(self) -> list[tuple[int, str]]:
        """Level and entry id of what handlers have at this moment, the longest first."""
        return [run.delivery.place for run in self._running.values()]

    async def wait_for(self, slots: int, seconds: float) -> None:
        """Return when so many slots are free, but after ``seconds`` at the latest."""
        self._wanted = max(1, slots)
        self.slot_freed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.slot_freed.wait()
        except TimeoutError:
            pass
        finally:
            self._wanted = 1

    def start(self, most: int) -> None:
        """Open the pool, for at most ``most`` runners."""
        self._most = most
        self._origin = Origin()
        keep_loop(asyncio.get_running_loop())

    def dispatch(self, deliveries: Iterable[Delivery]) -> None:
        """Queue entries for the runners, highest level first."""
        now = time.monotonic()
        for delivery in deliveries:
            self._state.unstarted[id(delivery)] = (delivery, now)
            self._queue.append(delivery)
        if not self._at_work.is_set():
            self._at_work_since = now
            self._at_work.set()
        self._wake(1)

    def lost(self, deliveries: Iterable[Delivery]) -> None:
        """Cancel the handlers of entries whose lease is lost."""
        gone = {id(delivery) for delivery in deliveries}
        for ident in gone:
            self._state.unstarted.pop(ident, None)  # Its handler will not start.
        for run in list(self._running.values()):
            if id(run.delivery) in gone and not run.why:
                self._stats.lost += 1
                self._log(
                    logging.WARNING,
                    "lease lost, handler cancelled",
                    run.delivery,
                    run.event,
                )
                self._cancel(run, "lost")

    async def watch(self) -> None:
        """Enforce timeouts, and notice a blocked event loop. Runs until cancelled.

        A handler that does not end when it was cancelled is abandoned.

        It sleeps while no handler runs: there is nothing to watch, and no handler to
        name for a loop that is blocked.
        """
        last = time.monotonic()
        while True:
            if not self.busy:
                self._at_work.clear()
                await self._at_work.wait()
                last = self._at_work_since
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            if now - last > 1.0 + _TICK:
                logger.warning(
                    "the event loop was blocked: a handler computes or waits without awaiting",
                    extra={
                        "where": self._state.where,
                        "seconds": round(now - last - _TICK, 1),
                    },
                )
            last = now
            for run in list(self._running.values()):
                run.seen_at = run.seen_at or now
                if run.deadline <= now and not run.why:
                    self._cancel(run, "timeout")
                elif now - run.cancelled_at > self._state.options.cancel_grace:
                    self._abandon(run)

    async def drain(self, grace: float) -> None:
        """Let running handlers finish for ``grace`` seconds, then cancel them.

        Returns when none is left. An entry that had not started is given back at once.
        A cancelled one is given back too, and no attempt is counted.
        """
        while self._queue:
            delivery = self._queue.popleft()
            if self._claimed(delivery):
                self._settler.postpone(delivery, 0.0, "released")
        give_up = time.monotonic() + grace
        while self._running and time.monotonic() < give_up:
            self.slot_freed.clear()
            try:
                async with asyncio.timeout(max(0.01, give_up - time.monotonic())):
                    await self.slot_freed.wait()
            except TimeoutError:
                break
        self._cancel_the_rest()
        while self._running:
            self.slot_freed.clear()
            await self.slot_freed.wait()

    async def close(self) -> None:
        """End the runners. An abandoned one stays behind, and ``abandoned`` counts it."""
        tasks = list(self._tasks)
        self.end()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._failing.close()

    def end(self) -> None:
        """Tell the runners to end; none is replaced from now on. Idempotent."""
        self._end.is_near = True
        for task in list(self._tasks):
            task.cancel()

    def _add_runner(self) -> None:
        task = asyncio.create_task(self._serve(), name="streams-runner")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Replace a runner whose task is done.

        One that was told to end is not replaced, nor one with an abandoned handler.
        """
        if task not in self._tasks:
            return
        self._tasks.discard(task)
        if self._end.is_near or task.get_loop().is_closed():
            return
        self.replaced += 1
        logger.error(
            "a runner ended although nothing told it to, and is replaced",
            exc_info=None if task.cancelled() else task.exception(),
            extra={"where": self._state.where, "replaced": self.replaced},
        )
        self._add_runner()
        self._wake(1)

    def _wake(self, most: int) -> None:
        """Wake idle runners, or make some; each that finds work wakes two more.

        Handlers that never wait are thus all run by the first one, without a task
        switch per event, and handlers that do wait are all started after a few turns of
        the loop.
        """
        while most and self._queue:
            if self._parked:
                parked = self._parked.popleft()
                if parked.done():
                    continue
                parked.set_result(None)
            elif self._made < self._most:
                self._made += 1
                self._add_runner()
            else:
                return
            most -= 1

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker; a coroutine of a task has one
        woken = True  # It was made because there is work.
        while not self._end.is_near:
            while not self._queue:
                parked = loop.create_future()
                self._parked.append(parked)
                await parked
                woken = True
            delivery = self._queue.popleft()
            if woken:
                woken = False
                self._wake(2)
            if not self._claimed(delivery):
                continue
            run = Execution(delivery, task, self._end)
            self._running[id(run)] = run
            try:
                await self._attempt(run)
            finally:
                if not run.abandoned:
                    self._running.pop(id(run), None)
                    if self._wanted == 1 or self.free >= self._wanted:
                        self.slot_freed.set()
            if run.abandoned:
                self.abandoned.discard(task)
                return
            if task.cancelling():
                await self._settle_cancellations(task)

    def _claimed(self, delivery: Delivery) -> bool:
        """Whether a queued entry may start.

        It may not if its lease is lost, or the lease renewer has given it back.
        """
        if self._state.unstarted.pop(id(delivery), None) is not None:
            return True
        self._stats.released += 1
        self._settler.drop(delivery)
        self.slot_freed.set()
        return False

    async def _settle_cancellations(self, task: asyncio.Task[Any]) -> None:
        """Let no request to cancel outlive its attempt.

        A library may cancel the task that it runs in and never take that back, or a
        handler itself, just before it returns. The next attempt would then be cancelled
        for it, or taken for this runner's end.
        """
        if not self._end.is_near:
            with contextlib.suppress(asyncio.CancelledError):
                # A request that was not delivered yet is delivered here.
                await asyncio.sleep(0)
        while task.cancelling():
            task.uncancel()

    async def _attempt(self, run: Execution) -> None:
        """Take one entry that was decoded and admitted to its outcome."""
        try:
            if not self._decoder.open(run):
                return  # It has its outcome already.
            if run.route.timeout is not None:
                self._set_deadline(run, run.route.timeout)
            try:
                await self._call(run)
            except BaseException as error:  # noqa: BLE001 - the outcome of the handler
                self._raised(run, error)
                return
            if not self._origin.is_here:
                end_copy()
            if not run.abandoned:
                self._settler.done(run.delivery)
        except BaseException as error:
            if run.is_ending(error):
                raise
            if not run.abandoned:
                self._failing.defect(run.delivery, error)

    def _raised(self, run: Execution, error: BaseException) -> None:
        if not self._origin.is_here:
            # A child that the handler forked: the outcome is its parent's.
            end_copy(error)
        error = run.explained(error)
        if not run.abandoned:
            self._failing.failed(run, error)

    def _set_deadline(self, run: Execution, timeout: float) -> None:
        options = self._state.options
        run.deadline = time.monotonic() + timeout
        run.delivery.renew_until = run.deadline + options.cancel_grace + options.lease

    async def _call(self, run: Execution) -> None:
        """Run the handler, inside the middleware that wraps it."""
        call = run.route.call
        if self._chain is not None:
            run.place = self._place
            await self._chain.run(run, call)
            self._stats.skipped += run.skipped
            return
        for enter in self._entering:
            run.place, run.skipped = self._place, False
            if (waiting := enter(run)) is not None:
                await finished(waiting)
        await call(run.event)

    def _cancel_the_rest(self) -> None:
        """Cancel what runs when the time of a stop is over, and name it, the longest first."""
        now = time.monotonic()
        rest = [run for run in self._running.values() if not run.why]
        for run in rest[:_NAMED]:
            facts = {
                "handler": place_of(run.route.function),
                "seconds": round(now - (run.seen_at or now), 1),
            }
            self._log(logging.WARNING, _STOPPED, run.delivery, run.event, **facts)
        if rest[_NAMED:]:
            logger.warning(
                _STOPPED_TOO,
                extra={"where": self._state.where, "count": len(rest) - _NAMED},
            )
        for run in rest:
            self._cancel(run, "shutdown")

    def _cancel(self, run: Execution, why: str) -> None:
        run.why = why
        run.cancelled_at = time.monotonic()
        run.task.cancel()

    def _abandon(self, run: Execution) -> None:
        run.abandoned = True
        self._running.pop(id(run), None)
        self._stats.abandoned += 1
        self._log(
            logging.ERROR,
            "the handler does not end and is abandoned",
            run.delivery,
            run.event,
            why=run.why,
        )
        self.abandoned.add(run.task)
        self._tasks.discard(run.task)
        if run.why == "timeout":
            self._failing.timed_out(
                run, run.timed_out(" and did not end when cancelled")
            )
        elif run.why == "lost":
            self._settler.drop(run.delivery)
        else:
            self._settler.postpone(run.delivery, 0.0, "released")
        self._add_runner()
        self.slot_freed.set()

    def _log(
        self, level: int, what: str, delivery: Delivery, event: Event[Any], **facts: Any
    ) -> None:
        log_entry(self._state, level, what, delivery, event, **facts)
