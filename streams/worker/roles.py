"""A crew: the roles of some groups in one process, from start to end, whoever starts them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from streams.broker import Backoff, Broker
from streams.common.log_facts import logger_of
from streams.consumer import Consumer
from streams.consuming.options import ConsumerOptions
from streams.handlers.plans import GroupPlan
from streams.logs import failure_facts
from streams.reclaimer import Reclaimer, ReclaimerOptions
from streams.worker.heartbeat import Recorder
from streams.worker.loss_watch import LossWatch
from streams.worker.options import ServiceOptions
from streams.worker.scheduler import Scheduler

logger = logger_of("worker")


class Crew:
    """A consumer and a reclaimer for every group, a scheduler for every stream, and a recorder for all.

    Args:
        broker: an open broker.
        plans: the groups.
        options: see ``ServiceOptions``.
        name: of the worker.
    """

    def __init__(
        self,
        broker: Broker,
        plans: Sequence[GroupPlan],
        options: ServiceOptions,
        name: str,
    ) -> None:
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
                    name=name,
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
                    name=name,
                    lanes=plan.lanes,
                ),
            )
            for plan in plans
        ]
        streams = dict.fromkeys(plan.stream for plan in plans)
        self.schedulers = [
            Scheduler(broker, stream, options.levels) for stream in streams
        ]
        self.recorder = Recorder(broker, self.consumers, name)
        self.watches = [
            LossWatch(
                broker,
                [consumer for consumer in self.consumers if consumer.stream == stream],
            )
            for stream in streams
        ]
        for watch in self.watches:
            for consumer in watch.consumers:
                consumer.on_return(watch.look_after_outage)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """Roles that ended although the crew runs."""
        return tuple(name for name, task in list(self._tasks.items()) if task.done())

    def stop(self, grace: float) -> None:
        """End in order; consumers' handlers get ``grace`` seconds. Called again: now."""
        for reclaimer in self.reclaimers:
            reclaimer.stop()
        for scheduler in self.schedulers:
            scheduler.stop()
        for consumer in self.consumers:
            consumer.stop(grace)

    async def run(self, grace: float) -> None:
        """Run until ``stop``; when a role fails the others end in order, with ``grace``.

        Raises:
            AccessDenied: the credentials or permissions do not suffice.
            ConfigurationError: a stream is declared otherwise, e.g. for one group that is not the one to serve.
        """
        roles: dict[str, Consumer | Reclaimer | Scheduler] = {
            **{f"consumer {role.stream}/{role.group}": role for role in self.consumers},
            **{
                f"reclaimer {role.stream}/{role.group}": role
                for role in self.reclaimers
            },
            **{f"scheduler {role.stream}": role for role in self.schedulers},
        }
        self._tasks = {
            name: asyncio.create_task(role.run()) for name, role in roles.items()
        }
        tasks = list(self._tasks.values())
        beside = [asyncio.create_task(_kept("the recorder", self.recorder.run))]
        beside += [
            asyncio.create_task(_kept("the watch for losses", watch.run))
            for watch in self.watches
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            failed = [
                task
                for task in tasks
                if task.done() and not task.cancelled() and task.exception()
            ]
            if failed:
                self.stop(grace)
                await asyncio.wait(tasks)
                failed[0].result()
        finally:
            for task in (*tasks, *beside):
                task.cancel()
            await asyncio.gather(*tasks, *beside, return_exceptions=True)


async def _kept(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run what handlers do without; where it fails that is told, and it begins again. Until cancelled."""
    backoff = Backoff(limit=30.0)
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - whatever it is, handlers go on
            facts = failure_facts(error)
            said = f"{facts['error']}: {facts.pop('error_message')}"
            wait = backoff.next()
            extra = {**facts, "seconds": round(wait, 1)}
            logger.error("%s failed and begins again: %s", name, said, extra=extra)  # noqa: TRY400 - the facts have it
            await asyncio.sleep(wait)
