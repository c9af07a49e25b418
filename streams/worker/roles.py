"""The roles of some groups in one process, from start to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from streams.broker import Backoff, Broker
from streams.common.log_facts import logger_of
from streams.consumer import Consumer
from streams.consuming.options import ConsumerOptions
from streams.handlers.plans import GroupPlan
from streams.logs import failure_facts
from streams.reclaimer import Reclaimer, ReclaimerOptions
from streams.worker.heartbeat import Heartbeat
from streams.worker.loss_watch import LossWatch
from streams.worker.options import ServiceOptions
from streams.worker.scheduler import Scheduler

logger = logger_of("worker")


class WorkerRoles:
    """A consumer and a reclaimer per group, a scheduler per stream, and a heartbeat.

    Args:
        broker: an open broker.
        plans: the groups.
        options: see ``ServiceOptions``.
        name: the worker's name.
    """

    def __init__(
        self,
        broker: Broker,
        plans: Sequence[GroupPlan],
        options: ServiceOptions,
        name: str,
    ) -> None:
        self.consumers: list[Consumer] = []
        self.reclaimers: list[Reclaimer] = []
        for plan in plans:
            consuming = ConsumerOptions(
                levels=options.levels,
                concurrency=plan.concurrency,
                lease=plan.lease,
                cancel_grace=options.cancel_grace,
                max_event_bytes=options.max_event_bytes,
                name=name,
                middleware=options.middleware,
                declaration=plan.declaration,
                weights=plan.weights,
                max_wait=plan.max_wait,
                serve=options.serve,
                lanes=plan.lanes,
            )
            reclaiming = ReclaimerOptions(
                levels=options.levels,
                lease=plan.lease,
                silence=max(3600.0, 2 * plan.lease),
                name=name,
                lanes=plan.lanes,
            )
            group = (broker, plan.stream, plan.group, plan.router)
            self.consumers.append(Consumer(*group, consuming))
            self.reclaimers.append(Reclaimer(*group, reclaiming))

        self.schedulers: list[Scheduler] = []
        self.watches: list[LossWatch] = []
        for stream in dict.fromkeys(plan.stream for plan in plans):
            self.schedulers.append(Scheduler(broker, stream, options.levels))
            consumers = [one for one in self.consumers if one.stream == stream]
            watch = LossWatch(broker, consumers)
            self.watches.append(watch)
            for consumer in consumers:
                consumer.on_return(watch.look_after_outage)

        self.heartbeat = Heartbeat(broker, self.consumers, name)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """The roles that ended although they were not stopped."""
        return tuple(name for name, task in list(self._tasks.items()) if task.done())

    def stop(self, grace: float) -> None:
        """End in order; handlers get ``grace`` seconds. A second call cancels them."""
        for reclaimer in self.reclaimers:
            reclaimer.stop()

        for scheduler in self.schedulers:
            scheduler.stop()

        for consumer in self.consumers:
            consumer.stop(grace)

    async def run(self, grace: float) -> None:
        """Run until ``stop``. If a role fails, stop the others with ``grace``.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            ConfigurationError: a stream has another declaration, e.g. for another group.
        """
        runs: dict[str, Coroutine[Any, Any, None]] = {}
        for consumer in self.consumers:
            runs[f"consumer {consumer.stream}/{consumer.group}"] = consumer.run()

        for reclaimer in self.reclaimers:
            runs[f"reclaimer {reclaimer.stream}/{reclaimer.group}"] = reclaimer.run()

        for scheduler in self.schedulers:
            runs[f"scheduler {scheduler.stream}"] = scheduler.run()

        self._tasks = {name: asyncio.create_task(runs[name]) for name in runs}
        tasks = list(self._tasks.values())
        beside = [asyncio.create_task(_kept("the heartbeat", self.heartbeat.run))]
        for watch in self.watches:
            kept = _kept("the watch for losses", watch.run)
            beside.append(asyncio.create_task(kept))

        try:
            await first_failure(tasks, lambda: self.stop(grace))
        finally:
            for task in (*tasks, *beside):
                task.cancel()

            await asyncio.gather(*tasks, *beside, return_exceptions=True)


async def first_failure(
    tasks: Sequence[asyncio.Task[None]], stop: Callable[[], None]
) -> None:
    """Wait for all tasks. If one fails, call ``stop`` and raise its error at the end."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception():
            stop()
            await asyncio.wait(tasks)
            task.result()


async def _kept(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run an auxiliary role until cancelled. If it fails, log that and start it again."""
    backoff = Backoff(limit=30.0)
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - handlers run without it
            facts = failure_facts(error)
            said = f"{facts['error']}: {facts.pop('error_message')}"
            wait = backoff.next()
            facts["seconds"] = round(wait, 1)
            logger.error("%s failed and begins again: %s", name, said, extra=facts)  # noqa: TRY400
            await asyncio.sleep(wait)
