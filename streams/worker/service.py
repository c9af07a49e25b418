"""The service: all roles of a worker process, from its start to its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from streams.broker import Broker
from streams.common.forks import children_without
from streams.common.log_facts import logger_of
from streams.consumer import Consumer
from streams.consuming.naming import consumer_name
from streams.consuming.vitals import Vitals
from streams.handlers.plans import GroupPlan
from streams.handlers.routes import busy_threads, end_threads
from streams.middleware.django_connections import let_go
from streams.reclaimer import Reclaimer
from streams.worker.assignment import Assignment
from streams.worker.lifeline import interrupts_allowed, is_supervised
from streams.worker.options import ServiceOptions
from streams.worker.patience import reach
from streams.worker.roles import WorkerRoles, first_failure
from streams.worker.scheduler import Scheduler

logger = logger_of("worker")

EXIT_FORCED = 70
"""Exit code of a process whose handler ignored its cancellation (sysexits: EX_SOFTWARE)."""
STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if hasattr(signal, name)
)
"""The signals of an orchestrator, a user or a closing terminal, which stop a worker."""
SignalHandler = Callable[[int, FrameType | None], object] | int | None
_LAST_RESORT = 10.0
_FAREWELL = 1.0
_LETTING_GO = 3.0


class Service:
    """Runs a consumer and a reclaimer for every group, and a scheduler for every stream.

    Of a stream with partitions it serves this worker's share; see
    ``streams.worker.assignment``.

    A shutdown has these steps: reclaimers and schedulers stop; consumers stop fetching;
    handlers get the grace period; the remaining ones are cancelled and their events given
    back; outcomes are written; connections close. Leases are renewed until the last
    handler has ended.

    ``options.wait`` decides whether it waits for an unavailable server at the start.

    Args:
        broker: a broker, which the service opens if it is not open.
        plans: the groups.
        options: see ``ServiceOptions``.
    """

    def __init__(
        self,
        broker: Broker,
        plans: Sequence[GroupPlan],
        options: ServiceOptions | None = None,
    ) -> None:
        self.options = options = options or ServiceOptions()
        self.name = options.name or consumer_name()
        plain = [plan for plan in plans if plan.partitions.count == 1]
        self._roles = WorkerRoles(broker, plain, options, self.name)
        self.assignments = [
            Assignment(broker, plan, options, self.name)
            for plan in plans
            if plan.partitions.count > 1
        ]
        self._plans = plans
        self._broker = broker
        self._orders = {"call": 0, "signal": 0}
        self._stops = 0
        self._is_asked_to_stop = False
        self._stop_news = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def consumers(self) -> list[Consumer]:
        """The consumers, with those of the present partitions."""
        return [role for roles in self._all_roles() for role in roles.consumers]

    @property
    def reclaimers(self) -> list[Reclaimer]:
        """The reclaimers, with those of the present partitions."""
        return [role for roles in self._all_roles() for role in roles.reclaimers]

    @property
    def schedulers(self) -> list[Scheduler]:
        """The schedulers, with those of the present partitions."""
        return [role for roles in self._all_roles() for role in roles.schedulers]

    def _all_roles(self) -> list[WorkerRoles]:
        found = [self._roles]
        for assignment in self.assignments:
            found += assignment.roles

        return found

    def stop(self) -> None:
        """Shut down in order; a second call cancels the handlers.

        A signal and a call count as one, because a stopped web server also stops the
        service that runs in it.
        """
        self._take("call")

    def _take(self, way: str) -> None:
        self._orders[way] += 1
        self._is_asked_to_stop = True
        if self._orders[way] <= self._stops:
            return

        self._stops = self._orders[way]
        self._stop_news.set()
        grace = self.options.grace_period
        if self._stops == 1:
            busy = sum(consumer.busy for consumer in self.consumers)
            logger.info("stopping", extra={"running": busy, "grace": grace})
        elif self._stops == 2:
            logger.warning(
                "stopping now: "
                "running handlers are cancelled and their entries given back"
            )

        self._roles.stop(grace)
        for assignment in self.assignments:
            assignment.stop(grace)

    async def run(self, *, signals: bool = True) -> None:
        """Run until ``stop`` or a signal (SIGTERM, SIGINT, SIGHUP).

        A second signal cancels the handlers.

        Args:
            signals: whether signals end it. They do so in the main thread only, and their
                earlier handlers are called as well.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            BrokerUnavailable: the server cannot be reached at the start, and
                ``options.wait`` is ``never``.
            ConfigurationError: a stream has another declaration, e.g. for another group.
        """
        with self._signals() if signals else contextlib.nullcontext():
            if await self._is_reached():
                try:
                    await self._serve()
                finally:
                    await end_handlers()

    async def _is_reached(self) -> bool:
        """Wait for the server; False if the service is stopped before it answers."""
        if not self._broker.was_reached:
            reached = reach(self._broker, self.name, self.options.wait)
            reaching = asyncio.create_task(reached)
            stopping = asyncio.create_task(self._stop_news.wait())
            both = (reaching, stopping)
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not reaching.done():
                    logger.info("stopped before the server was there")
                    return False

                reaching.result()
            finally:
                for task in both:
                    task.cancel()

                await asyncio.gather(*both, return_exceptions=True)

        self.options.on_reached()
        return True

    async def _serve(self) -> None:
        counted = self.consumers
        logger.info("started", extra=self._who())
        for assignment in self.assignments:
            run = asyncio.create_task(assignment.run())
            self._tasks[f"balance {assignment.where}"] = run

        tasks = list(self._tasks.values())
        if self._roles.consumers:
            run = asyncio.create_task(self._roles.run(self.options.grace_period))
            tasks.append(run)

        try:
            await first_failure(tasks, self.stop)
        finally:
            counted += [one for one in self.consumers if one not in counted]
            for task in tasks:
                task.cancel()

            await asyncio.gather(*tasks, return_exceptions=True)

        # Without the server these statistics are lost, and the worker looks silent.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._roles.heartbeat.record(leaves=True)

        stats = [consumer.stats.as_dict() for consumer in counted]
        totals = {
            name: sum(counts[name] for counts in stats)
            for name in ("done", "retried", "dead", "released")
        }
        logger.info("stopped", extra=totals)

    @property
    def vitals(self) -> Vitals:
        """The present state of the worker. Any thread may read it."""
        missing = [name for name, task in list(self._tasks.items()) if task.done()]
        for roles in self._all_roles():
            missing += roles.missing

        return Vitals(
            self.name,
            self._is_asked_to_stop,
            tuple(consumer.vitals for consumer in self.consumers),
            tuple(missing),
        )

    @property
    def abandoned(self) -> int:
        """The number of handlers that ignored their cancellation, threads included."""
        tasks = sum(len(consumer.abandoned) for consumer in self.consumers)
        return tasks + busy_threads()

    def _who(self) -> dict[str, str]:
        who = {"worker": self.name, "server": self._broker.address}
        if self.options.serve is not None:
            who["levels"] = ",".join(map(str, self.options.serve.ascending))

        groups = [f"{plan.stream}/{plan.group}" for plan in self._plans]
        return who | {"groups": ",".join(groups)}

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle signals while open.

        Plain signal handlers run even while a handler blocks the event loop, whose own
        handlers would not. They start the timer that ends the process in the last resort.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        loop = asyncio.get_running_loop()
        wait = self.options.grace_period + self.options.cancel_grace + _LAST_RESORT
        last = threading.Timer(wait, os._exit, (EXIT_FORCED,))
        last.daemon = True
        # A second signal may interrupt the handler of the first one at any step. ``pop``
        # is one step, so that only one of them is the first.
        unused = [last]
        before: dict[int, SignalHandler] = {}

        def received(number: int, frame: FrameType | None) -> None:
            if last.finished.is_set() or loop.is_closed():
                # The worker has ended. One that began later and ended later put this
                # back, or the loop was given up with the worker in it.
                _hand_back(received, before[number], number, frame)
                return

            try:
                timer = unused.pop()
            except IndexError:
                if number == signal.SIGTERM and is_supervised():
                    # systemd and the supervisor both send SIGTERM. The supervisor sends
                    # SIGINT to cancel the handlers.
                    return
            else:
                timer.start()

            # Readiness has to fail at once, even while a handler blocks the loop.
            self._is_asked_to_stop = True
            loop.call_soon_threadsafe(self._take, "signal")
            pass_on(before.get(number), number, frame)

        # An ignored signal stays ignored, for nohup and for background jobs of scripts.
        # A supervised process needs SIGINT from its supervisor. A handler outside of
        # Python (None) could not be restored.
        own = (signal.SIGINT,) if is_supervised() else ()
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            if number in own or handler not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, received)

        try:
            with children_without(before), interrupts_allowed():
                yield
        finally:
            for number, handler in before.items():
                _put_back(received, handler, number)

            last.cancel()


async def end_handlers() -> None:
    """End the threads of handlers, and close their database connections, within seconds.

    A process that goes on, e.g. a test, could not drop a database with open connections.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LETTING_GO):
            await end_threads()
            await let_go()


def _put_back(own: SignalHandler, handler: SignalHandler, number: int) -> bool:
    """Restore the earlier handler of a signal, unless ``own`` was replaced meanwhile."""
    is_own = signal.getsignal(number) is own
    if is_own:
        signal.signal(number, handler)

    return is_own


def _hand_back(
    own: SignalHandler, handler: SignalHandler, number: int, frame: FrameType | None
) -> None:
    """Leave a signal that came after the worker's end to the earlier handler."""
    if _put_back(own, handler, number):
        signal.raise_signal(number)
    else:
        pass_on(handler, number, frame)


def pass_on(handler: SignalHandler, number: int, frame: FrameType | None) -> None:
    """Call the earlier handler of a signal, because e.g. a web server needs it, too.

    Python's own handler of Ctrl-C and that of ``asyncio.run`` would cancel the worker
    during its shutdown, so that they are not called. An exception of the handler that ends
    the program is suppressed for the same reason: the program ends after the worker.
    """
    owner = getattr(getattr(handler, "func", None), "__self__", None)
    if handler is signal.default_int_handler or isinstance(owner, asyncio.Runner):
        return

    if callable(handler):
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            handler(number, frame)
