"""The service: consumers, reclaimers and schedulers of a process, from start to orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from streams.broker import Broker
from streams.consumer import Consumer, ConsumerOptions
from streams.consumer_name import consumer_name
from streams.declaration import AS_IT_IS, Declaration
from streams.handlers import Router
from streams.lanes import NO_LANES, Lanes
from streams.lifeline import is_supervised
from streams.middleware.base import Middleware
from streams.priority import Levels
from streams.reclaimer import Reclaimer, ReclaimerOptions
from streams.recorder import Recorder
from streams.scheduler import Scheduler
from streams.vitals import Vitals

logger = logging.getLogger("streams.worker")

EXIT_FORCED = 70
"""Exit code when the process had to be ended because a handler did not let go (sysexits: internal software error)."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What asks a worker to stop in order: its orchestrator, its user, or the terminal that goes away."""
_LAST_RESORT = 10.0
_FAREWELL = 1.0


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One group to serve: names, handlers, what is declared of the stream, and how."""

    stream: str
    group: str
    router: Router
    lease: float
    concurrency: int
    declaration: Declaration = AS_IT_IS
    weights: Mapping[int, int] | None = None
    max_wait: float | None = None
    lanes: Lanes = NO_LANES


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What all groups of a process share.

    Attributes:
        levels: of the streams.
        serve: those of the levels whose events are taken; None: all of them.
        max_event_bytes: the largest body.
        grace_period: seconds that running handlers get to finish at shutdown.
        cancel_grace: seconds that a cancelled handler gets to end.
        middleware: what wraps every attempt, outermost first.
        name: of the worker; made from host, process and start if empty.
    """

    levels: Levels = Levels()
    max_event_bytes: int = 1024 * 1024
    grace_period: float = 10.0
    cancel_grace: float = 5.0
    middleware: tuple[Middleware, ...] = ()
    name: str = ""
    serve: Levels | None = None


class Service:
    """Runs a consumer and a reclaimer for every group, and a scheduler for every stream.

    Shutdown, in this order: reclaimers and schedulers stop; consumers stop fetching; running handlers get the grace
    period; what is left is cancelled and given back; outcomes are written; connections close. Leases are renewed until
    the last handler ended.

    Args:
        broker: an open broker.
        plans: the groups.
        options: see ``ServiceOptions``.
    """

    def __init__(self, broker: Broker, plans: Sequence[GroupPlan], options: ServiceOptions | None = None) -> None:
        self.options = options = options or ServiceOptions()
        self.name = options.name or consumer_name()
        self.consumers = [
            Consumer(
                broker,
                plan.stream,
                plan.group,
                plan.router,
                ConsumerOptions(
                    levels=options.levels,
                    concurrency=plan.concurrency,
                    lease=plan.lease,
                    cancel_grace=options.cancel_grace,
                    max_event_bytes=options.max_event_bytes,
                    name=self.name,
                    middleware=options.middleware,
                    declaration=plan.declaration,
                    weights=plan.weights,
                    max_wait=plan.max_wait,
                    serve=options.serve,
                    lanes=plan.lanes,
                ),
            )
            for plan in plans
        ]
        self.reclaimers = [
            Reclaimer(
                broker,
                plan.stream,
                plan.group,
                plan.router,
                ReclaimerOptions(
                    levels=options.levels,
                    lease=plan.lease,
                    silence=max(3600.0, 2 * plan.lease),
                    name=self.name,
                    lanes=plan.lanes,
                ),
            )
            for plan in plans
        ]
        streams = dict.fromkeys(plan.stream for plan in plans)
        self.schedulers = [Scheduler(broker, stream, options.levels) for stream in streams]
        self.recorder = Recorder(broker, self.consumers, self.name)
        self._broker = broker
        self._stops = 0
        self._is_asked_to_stop = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def stop(self) -> None:
        """Shut down in order; called again: now."""
        self._stops += 1
        self._is_asked_to_stop = True
        if self._stops == 1:
            busy = sum(consumer.busy for consumer in self.consumers)
            logger.info("stopping", extra={"running": busy, "grace": self.options.grace_period})
        elif self._stops == 2:
            logger.warning("stopping now: running handlers are cancelled and their entries given back")
        for reclaimer in self.reclaimers:
            reclaimer.stop()
        for scheduler in self.schedulers:
            scheduler.stop()
        for consumer in self.consumers:
            consumer.stop(self.options.grace_period)

    async def run(self) -> None:
        """Run until ``stop`` is called or a signal (SIGTERM, SIGINT, SIGHUP) arrives; a second signal ends it now.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            ConfigurationError: a stream is declared otherwise, e.g. for one group that is not the one to serve.
        """
        roles: dict[str, Consumer | Reclaimer | Scheduler] = {
            **{f"consumer {role.stream}/{role.group}": role for role in self.consumers},
            **{f"reclaimer {role.stream}/{role.group}": role for role in self.reclaimers},
            **{f"scheduler {role.stream}": role for role in self.schedulers},
        }
        with self._signals():
            logger.info("started", extra=self._who())
            self._tasks = {name: asyncio.create_task(role.run()) for name, role in roles.items()}
            tasks = list(self._tasks.values())
            recording = asyncio.create_task(self.recorder.run())
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception()]
                if failed:
                    self.stop()
                    await asyncio.wait(tasks)
                    failed[0].result()
            finally:
                for task in (*tasks, recording):
                    task.cancel()
                await asyncio.gather(*tasks, recording, return_exceptions=True)
            # Nobody waits for figures: where the server is away they are lost, and the worker looks silent for a while.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self.recorder.record(leaves=True)
        totals = {
            name: sum(c.stats.as_dict()[name] for c in self.consumers)
            for name in ("done", "retried", "dead", "released")
        }
        logger.info("stopped", extra=totals)

    @property
    def vitals(self) -> Vitals:
        """How the worker is, at this moment. May be taken in any thread."""
        missing = tuple(name for name, task in list(self._tasks.items()) if task.done())
        return Vitals(self.name, self._is_asked_to_stop, tuple(c.vitals for c in self.consumers), missing)

    @property
    def abandoned(self) -> int:
        """Handlers that never ended."""
        return sum(len(consumer.abandoned) for consumer in self.consumers)

    def _who(self) -> dict[str, str]:
        who = {"worker": self.name, "server": self._broker.address}
        if self.options.serve is not None:
            who["levels"] = ",".join(map(str, self.options.serve.ascending))
        return who | {"groups": ",".join(f"{consumer.stream}/{consumer.group}" for consumer in self.consumers)}

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
        # Taken out by the first signal. A second one may come while the first is handled, between any two steps of it.
        unused = [last]

        def received(number: int, frame: FrameType | None) -> None:
            del frame
            if not unused and number == signal.SIGTERM and is_supervised():
                return  # systemd and the supervisor both send it; to stop now the supervisor sends SIGINT.
            self._is_asked_to_stop = True  # Seen from outside at once, even while a handler blocks the loop.
            with contextlib.suppress(IndexError):
                unused.pop().start()
            loop.call_soon_threadsafe(self.stop)

        # What is ignored stays ignored: that is how nohup keeps a worker running when its terminal goes.
        numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, received) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            last.cancel()
