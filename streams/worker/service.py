"""The service: consumers, reclaimers and schedulers of a process, from start to orderly end."""

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
from streams.worker.assignment import Balance
from streams.worker.lifeline import hearing, is_supervised
from streams.worker.options import ServiceOptions
from streams.worker.patience import reach
from streams.worker.roles import Crew
from streams.worker.scheduler import Scheduler

logger = logger_of("worker")

EXIT_FORCED = 70
"""Exit code when the process had to be ended because a handler did not let go (sysexits: internal software error)."""
STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if hasattr(signal, name)
)
"""What asks a worker to stop in order: its orchestrator, its user, or the terminal that goes away."""
SignalHandler = Callable[[int, FrameType | None], object] | int | None
_LAST_RESORT = 10.0
_FAREWELL = 1.0
_LETTING_GO = 3.0


class Service:
    """Runs a consumer and a reclaimer for every group, and a scheduler for every stream.

    Of a stream with partitions it serves those that fall to this worker; see ``streams.worker.assignment``.

    Shutdown, in this order: reclaimers and schedulers stop; consumers stop fetching; running handlers get the grace
    period; what is left is cancelled and given back; outcomes are written; connections close. Leases are renewed until
    the last handler ended.

    A server that is away at the start is waited for, as ``options.wait`` says.

    Args:
        broker: open, or to be opened when it runs.
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
        self._crew = Crew(
            broker,
            [plan for plan in plans if plan.partitions.count == 1],
            options,
            self.name,
        )
        spread = [plan for plan in plans if plan.partitions.count > 1]
        self.balances = [Balance(broker, plan, options, self.name) for plan in spread]
        self._plans = plans
        self._broker = broker
        self._orders = {"call": 0, "signal": 0}
        self._stops = 0
        self._is_asked_to_stop = False
        self._stop_news = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def consumers(self) -> list[Consumer]:
        """The consumers, of partitions those that are served at this moment."""
        return [
            *self._crew.consumers,
            *(consumer for balance in self.balances for consumer in balance.consumers),
        ]

    @property
    def reclaimers(self) -> list[Reclaimer]:
        """As ``consumers``."""
        return [
            *self._crew.reclaimers,
            *(role for crew in self._others() for role in crew.reclaimers),
        ]

    @property
    def schedulers(self) -> list[Scheduler]:
        """As ``consumers``."""
        return [
            *self._crew.schedulers,
            *(role for crew in self._others() for role in crew.schedulers),
        ]

    def _others(self) -> list[Crew]:
        return [crew for balance in self.balances for crew in balance.crews]

    def stop(self) -> None:
        """Shut down in order; called again: now.

        A signal and a call are one order: a web server that is told to end ends what runs in it, too.
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
                "stopping now: running handlers are cancelled and their entries given back"
            )
        self._crew.stop(grace)
        for balance in self.balances:
            balance.stop(grace)

    async def run(self, *, signals: bool = True) -> None:
        """Run until ``stop`` is called or a signal (SIGTERM, SIGINT, SIGHUP) arrives; a second signal ends it now.

        Args:
            signals: whether signals end it. They do so in the main thread only, and whatever handled them before is
                told as well.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            BrokerUnavailable: the server cannot be reached at the start, and is not to be waited for.
            ConfigurationError: a stream is declared otherwise, e.g. for one group that is not the one to serve.
        """
        with self._signals() if signals else contextlib.nullcontext():
            if await self._is_reached():
                try:
                    await self._serve()
                finally:
                    await end_handlers()

    async def _is_reached(self) -> bool:
        """Wait for the server; False if told to stop before it answered."""
        if not self._broker.was_reached:
            reaching = asyncio.create_task(
                reach(self._broker, self.name, self.options.wait)
            )
            stopping = asyncio.create_task(self._stop_news.wait())
            try:
                await asyncio.wait(
                    (reaching, stopping), return_when=asyncio.FIRST_COMPLETED
                )
                if not reaching.done():
                    logger.info("stopped before the server was there")
                    return False
                reaching.result()
            finally:
                for task in (reaching, stopping):
                    task.cancel()
                await asyncio.gather(reaching, stopping, return_exceptions=True)
        self.options.on_reached()
        return True

    async def _serve(self) -> None:
        counted = self.consumers
        logger.info("started", extra=self._who())
        self._tasks = {
            f"balance {balance.where}": asyncio.create_task(balance.run())
            for balance in self.balances
        }
        if self._crew.consumers:
            self._tasks["crew"] = asyncio.create_task(
                self._crew.run(self.options.grace_period)
            )
        tasks = list(self._tasks.values())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [
                task
                for task in tasks
                if task.done() and not task.cancelled() and task.exception()
            ]
            if failed:
                self.stop()
                await asyncio.wait(tasks)
                failed[0].result()
        finally:
            counted += [
                consumer for consumer in self.consumers if consumer not in counted
            ]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Nobody waits for figures: where the server is away they are lost, and the worker looks silent for a while.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._crew.recorder.record(leaves=True)
        totals = {
            name: sum(c.stats.as_dict()[name] for c in counted)
            for name in ("done", "retried", "dead", "released")
        }
        logger.info("stopped", extra=totals)

    @property
    def vitals(self) -> Vitals:
        """How the worker is, at this moment. May be taken in any thread."""
        ended = [
            name
            for name, task in list(self._tasks.items())
            if task.done() and name != "crew"
        ]
        missing = (
            *ended,
            *(name for crew in (self._crew, *self._others()) for name in crew.missing),
        )
        return Vitals(
            self.name,
            self._is_asked_to_stop,
            tuple(c.vitals for c in self.consumers),
            missing,
        )

    @property
    def abandoned(self) -> int:
        """Handlers that did not end when they were told to; plain ones run in threads, which nothing can end."""
        return (
            sum(len(consumer.abandoned) for consumer in self.consumers) + busy_threads()
        )

    def _who(self) -> dict[str, str]:
        who = {"worker": self.name, "server": self._broker.address}
        if self.options.serve is not None:
            who["levels"] = ",".join(map(str, self.options.serve.ascending))
        return who | {
            "groups": ",".join(f"{plan.stream}/{plan.group}" for plan in self._plans)
        }

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle signals while inside.

        Plain signal handlers, not the loop's own: they run even while a handler blocks the event loop, and then start
        the timer that ends the process when nothing else can.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wait = self.options.grace_period + self.options.cancel_grace + _LAST_RESORT
        last = threading.Timer(wait, os._exit, (EXIT_FORCED,))
        last.daemon = True
        # Taken out by the first signal. A second one may come while the first is handled, between any two steps of it:
        # which of them is the first is decided in one step, or both would count, and what runs would be cancelled.
        unused = [last]

        before: dict[int, SignalHandler] = {}

        def received(number: int, frame: FrameType | None) -> None:
            try:
                timer = unused.pop()
            except IndexError:
                if number == signal.SIGTERM and is_supervised():
                    # systemd and the supervisor both send it; to stop now the supervisor sends SIGINT.
                    return
            else:
                timer.start()
            # Seen from outside at once, even while a handler blocks the loop.
            self._is_asked_to_stop = True
            loop.call_soon_threadsafe(self._take, "signal")
            pass_on(before.get(number), number, frame)

        # What is ignored stays ignored: that is how nohup keeps a worker running when its terminal goes, and a script
        # one in the background at Ctrl-C. To a supervised process SIGINT is the supervisor's word for: now. And what is
        # handled outside of Python (None) could not be given back.
        own = (signal.SIGINT,) if is_supervised() else ()
        unheard = (signal.SIG_IGN, None)
        numbers = [
            number
            for number in STOP_SIGNALS
            if number in own or signal.getsignal(number) not in unheard
        ]
        for number in numbers:
            before[number] = signal.getsignal(number)
            signal.signal(number, received)
        try:
            with children_without(numbers), hearing():
                yield
        finally:
            for taken, handler in before.items():
                # Else somebody has taken it over since.
                if signal.getsignal(taken) is received:
                    signal.signal(taken, handler)
            last.cancel()


async def end_handlers() -> None:
    """End the threads that handlers have left, and close the database connections in them; for some seconds at most.

    Where the process goes on, as in a test, nothing else would: a database with connections cannot be dropped.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LETTING_GO):
            await end_threads()
            await let_go()


def pass_on(handler: SignalHandler, number: int, frame: FrameType | None) -> None:
    """Tell whatever handled a signal before: a web server that has a worker in it waits for it, too.

    Left out are Python's own handler of Ctrl-C and that of ``asyncio.run``: they would cancel the worker amid its end.
    So would one that exits by raising: the program goes on to its end once the worker has come to its own.
    """
    owner = getattr(getattr(handler, "func", None), "__self__", None)
    if (
        callable(handler)
        and handler is not signal.default_int_handler
        and not isinstance(owner, asyncio.Runner)
    ):
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            handler(number, frame)
