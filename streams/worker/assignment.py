"""Balance: a worker's part of the partitions of a stream. Nobody coordinates; leases in Redis say who is there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from streams.broker import Backoff, Broker
from streams.broker.admin.handing import hand_on
from streams.broker.entries.members import Attending
from streams.broker.server.outages import OUTAGE
from streams.common.log_facts import logger_of
from streams.consumer import Consumer
from streams.errors import BrokerError, ConfigurationError, StreamsError
from streams.handlers.plans import GroupPlan
from streams.policy.partitions import assigned
from streams.worker.options import ServiceOptions, of_partition
from streams.worker.roles import Crew

logger = logger_of("worker")
BEAT = 2.0
"""Seconds between two looks at who is there."""
_THERE = 4
"""Beats for which a worker counts as there. Its partitions are without a reader for so long after it was killed."""
_FOREVER = 86_400.0
_FAREWELL = 1.0


class Balance:
    """Serves the partitions that fall to this worker, and gives back those that fall to another.

    Correctness does not hang on it: a partition is read by a consumer group, so two workers that both believe it theirs
    share it, and its order by key is kept by the server. What it must not do is leave a partition to nobody, and it
    does not: whoever is there takes all of them.

    A partition that goes to another worker is left in order: nothing more is fetched, and what runs ends in peace.

    Args:
        broker: an open broker.
        plan: the group, with how its stream is spread.
        options: see ``ServiceOptions``.
        name: of the worker.
    """

    def __init__(
        self, broker: Broker, plan: GroupPlan, options: ServiceOptions, name: str
    ) -> None:
        self.plan = plan
        self._broker = broker
        self._options = options
        self._name = name
        self._attending = Attending(broker, plan.stream, plan.group, name)
        self._crews: dict[int, Crew] = {}
        self._leaving: set[Crew] = set()
        self._tasks: dict[asyncio.Task[None], Crew] = {}
        self._starts = itertools.count()
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def where(self) -> str:
        """``stream/group``."""
        return f"{self.plan.stream}/{self.plan.group}"

    @property
    def crews(self) -> list[Crew]:
        """Those at work at this moment, those that are leaving included."""
        return [*self._crews.values(), *self._leaving]

    @property
    def consumers(self) -> list[Consumer]:
        """The consumers of its crews."""
        return [consumer for crew in self.crews for consumer in crew.consumers]

    @property
    def serves(self) -> list[int]:
        """The partitions that are served here."""
        return sorted(self._crews)

    def stop(self, grace: float) -> None:
        """End in order; called again: now."""
        again = self._stopped.is_set()
        self._stopped.set()
        for crew in self._crews.values():
            crew.stop(grace)
        for crew in self._leaving:
            if again or grace <= 0:
                crew.stop(0.0)
            else:  # They were told to take their time; now it is up.
                asyncio.get_running_loop().call_later(grace, crew.stop, 0.0)

    async def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            AccessDenied, ConfigurationError: as ``Crew.run``; or the stream is spread by another attribute.
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
                    wait = backoff.next()  # What is served goes on being served.
                await asyncio.wait(
                    (stopping, *self._tasks),
                    timeout=wait,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._collect()
        finally:
            stopping.cancel()

    async def _look(self) -> None:
        if not self._crews:
            # Before their number is raised: nothing may start on a new one that an operator holds everywhere.
            await hand_on(
                self._broker,
                self.plan.stream,
                self.plan.group,
                self.plan.partitions.count,
            )
        found = await self._attending.attend(BEAT * _THERE, self.plan.partitions)
        if found.partitions.by != self.plan.partitions.by:
            raise ConfigurationError(
                f"stream {self.plan.stream!r} is spread by {found.partitions.by!r}: declare "
                f"Partitions({found.partitions.count}, by={found.partitions.by!r}), not by {self.plan.partitions.by!r}"
            )
        if self._stopped.is_set():
            return
        mine = assigned(found.members, self._name, found.partitions.count)
        for number in self._crews.keys() - mine:
            crew = self._crews.pop(number)
            self._leaving.add(crew)
            crew.stop(_FOREVER)
        for number in sorted(mine - self._crews.keys()):
            self._start(number)
        # All of them together have the places that the group has in this process.
        share = -(-self.plan.concurrency // max(1, len(self._crews)))
        for crew in self._crews.values():
            for consumer in crew.consumers:
                consumer.limit(share)

    def _start(self, number: int) -> None:
        plan = of_partition(self.plan, number)
        start = next(self._starts)
        # A name of its own: one that came back is not to be taken for the one that is just leaving.
        name = f"{self._name}.{start}" if start else self._name
        crew = self._crews[number] = Crew(self._broker, [plan], self._options, name)
        task = asyncio.create_task(self._work(crew), name=f"streams-crew-{plan.stream}")
        self._tasks[task] = crew
        logger.info(
            "partition taken", extra={"stream": plan.stream, "group": plan.group}
        )

    async def _work(self, crew: Crew) -> None:
        await crew.run(self._options.grace_period)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await crew.recorder.record(leaves=True)

    def _collect(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            crew = self._tasks.pop(task)
            self._leaving.discard(crew)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        if not self._stopped.is_set():
            self.stop(self._options.grace_period)
