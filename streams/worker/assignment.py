"""Partition assignment without a coordinator.

Each worker reads the live workers' leases and computes its own share.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math

from streams.broker import Backoff, Broker
from streams.broker.admin.handing import hand_on
from streams.broker.entries.members import Attending
from streams.broker.server.outages import OUTAGE
from streams.common.log_facts import logger_of
from streams.errors import BrokerError, ConfigurationError, StreamsError
from streams.handlers.plans import GroupPlan
from streams.policy.partitions import assigned
from streams.worker.options import ServiceOptions, of_partition
from streams.worker.roles import WorkerRoles

logger = logger_of("worker")
BEAT = 2.0
"""Seconds between two looks at the live workers."""
_THERE = 4
"""Beats for which a worker counts as live. A killed worker's partitions wait so long."""
_FOREVER = 86_400.0
_FAREWELL = 1.0


class Assignment:
    """Serves this worker's share of the partitions of a stream.

    Two workers may serve a partition at the same time: they share it as a consumer group,
    and the server keeps the order by key. Every partition has a worker, because the live
    workers take all of them.

    When a partition is reassigned, this worker stops fetching from it and lets running
    handlers finish.

    Args:
        broker: an open broker.
        plan: the group, with the partitions of its stream.
        options: see ``ServiceOptions``.
        name: the worker's name.
    """

    def __init__(
        self, broker: Broker, plan: GroupPlan, options: ServiceOptions, name: str
    ) -> None:
        self.plan = plan
        self._broker = broker
        self._options = options
        self._name = name
        self._attending = Attending(broker, plan.stream, plan.group, name)
        self._roles: dict[int, WorkerRoles] = {}
        self._leaving: set[WorkerRoles] = set()
        self._tasks: dict[asyncio.Task[None], WorkerRoles] = {}
        self._starts = itertools.count()
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def where(self) -> str:
        """``stream/group``."""
        return f"{self.plan.stream}/{self.plan.group}"

    @property
    def roles(self) -> list[WorkerRoles]:
        """The running roles, with those of partitions that this worker gives up."""
        return [*self._roles.values(), *self._leaving]

    @property
    def serves(self) -> list[int]:
        """The partitions of this worker."""
        return sorted(self._roles)

    def stop(self, grace: float) -> None:
        """End in order; a second call cancels the handlers."""
        again = self._stopped.is_set()
        self._stopped.set()
        for roles in self._roles.values():
            roles.stop(grace)

        for roles in self._leaving:
            if again or grace <= 0:
                roles.stop(0.0)
            else:  # Their handlers had no time limit until now.
                asyncio.get_running_loop().call_later(grace, roles.stop, 0.0)

    async def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            AccessDenied, ConfigurationError: see ``WorkerRoles.run``.
            ConfigurationError: the stream has partitions by another attribute.
        """
        try:
            await self._serve()
            while self._tasks:
                await asyncio.wait(self._tasks)
                self._collect()

            if self._failure is not None:
                raise self._failure
        finally:
            for task in self._tasks:
                task.cancel()

            await asyncio.gather(*self._tasks, return_exceptions=True)
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._attending.attend(0.0, self.plan.partitions)

            await self._attending.close()

    async def _serve(self) -> None:
        backoff = Backoff()
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            while not self._stopped.is_set():
                wait = BEAT
                try:
                    await self._look()
                    backoff.reset()
                except StreamsError as error:
                    if not error.retryable and not isinstance(error, OUTAGE):
                        self._fail(error)

                    wait = backoff.next()  # The present partitions stay assigned.

                await asyncio.wait(
                    (stopping, *self._tasks),
                    timeout=wait,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._collect()
        finally:
            stopping.cancel()

    async def _look(self) -> None:
        plan = self.plan
        if not self._roles:
            # First, so that a new partition starts with the pauses of its stream.
            await hand_on(self._broker, plan.stream, plan.group, plan.partitions.count)

        found = await self._attending.attend(BEAT * _THERE, plan.partitions)
        stored = found.partitions
        if stored.by != plan.partitions.by:
            raise ConfigurationError(
                f"stream {plan.stream!r} is spread by {stored.by!r}: "
                f"declare Partitions({stored.count}, by={stored.by!r}), "
                f"not by {plan.partitions.by!r}"
            )

        if self._stopped.is_set():
            return

        mine = assigned(found.members, self._name, stored.count)
        for number in self._roles.keys() - mine:
            roles = self._roles.pop(number)
            self._leaving.add(roles)
            roles.stop(_FOREVER)

        for number in sorted(mine - self._roles.keys()):
            self._start(number)

        # The partitions divide the group's slots in this process.
        share = math.ceil(plan.concurrency / max(1, len(self._roles)))
        for roles in self._roles.values():
            for consumer in roles.consumers:
                consumer.limit(share)

    def _start(self, number: int) -> None:
        plan = of_partition(self.plan, number)
        start = next(self._starts)
        # A partition may come back before its earlier consumer has ended. Their names
        # have to be different.
        name = f"{self._name}.{start}" if start else self._name
        roles = WorkerRoles(self._broker, [plan], self._options, name)
        self._roles[number] = roles
        work = self._work(roles)
        task = asyncio.create_task(work, name=f"streams-partition-{plan.stream}")
        self._tasks[task] = roles
        extra = {"stream": plan.stream, "group": plan.group}
        logger.info("partition taken", extra=extra)

    async def _work(self, roles: WorkerRoles) -> None:
        await roles.run(self._options.grace_period)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await roles.heartbeat.record(leaves=True)

    def _collect(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            roles = self._tasks.pop(task)
            self._leaving.discard(roles)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        if not self._stopped.is_set():
            self.stop(self._options.grace_period)
