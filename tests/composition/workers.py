"""Workers that move only when they are told to: a look is all that a worker would do by itself within its poll."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.ordering import FetchingByKey
from streams.broker.server.connection import Broker
from streams.consumer import Consumer
from streams.errors import BrokerError, BrokerUnavailable, GroupMissing
from streams.worker.options import every_partition, service_options
from streams.worker.roles import WorkerRoles
from tests.composition.books import Books, Where
from tests.composition.clock import Clock
from tests.composition.declared import STREAM, Declared

_MOST_STEPS = 200
_QUIET = 3
"""Steps of a fetcher that found nothing: one that looks for retries, one that reads, one that waits."""


class Mortal(Broker):
    """A broker whose process can be killed: it reaches nothing any more, and says so to nobody."""

    is_dead = False

    async def _open(self) -> Any:
        if self.is_dead:
            raise BrokerUnavailable("this worker is dead")
        return await super()._open()

    async def die(self) -> None:
        self.is_dead = True
        for link in list(self._links):
            await link.close()


class NoKeeper:
    """Stands in for the thread that renews leases: no lease ends here while its worker lives."""

    alive = True

    def __init__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    async def close(self) -> None:
        pass


def install(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("streams.consumer.LeaseRenewer", NoKeeper)
    patch.setattr("streams.consuming.fetcher.POLL", 0.002)
    # What a killed worker would say to nobody is not waited for.
    patch.setattr("streams.middleware.dedupe._PATIENCE", 0.05)
    # A suspect waits for handlers that end when the run travels, not by themselves.
    patch.setattr("streams.consuming.isolation.FIRST_WAIT", 0.002)
    patch.setattr("streams.consuming.isolation.LEAVE", (0.0, 0.0))
    patch.setattr(Fetching, "wait", _wait)
    patch.setattr(FetchingByKey, "wait", _wait_by_key)


async def _wait(
    self: Fetching, count: int, seconds: float, patience: float = 10.0
) -> list[Delivery]:
    """As it is, but without waiting: the server ends a wait of milliseconds a tenth of a second late."""
    del seconds, patience
    streams = self._open_streams
    return self._by_stream(
        await self._blocking.call(
            *self._head, count, "STREAMS", *streams, *(">",) * len(streams)
        )
    )


async def _wait_by_key(
    self: FetchingByKey, count: int, seconds: float, patience: float = 10.0
) -> list[Delivery]:
    """It takes nothing, and ends as if something were new."""
    del self, count, seconds, patience
    return []


class Turn:
    """Lets a fetcher take one step at a time."""

    def __init__(self, consumer: Consumer) -> None:
        self._fetcher = consumer._fetcher
        self._step = self._fetcher._step
        self._permits = asyncio.Semaphore(0)
        self.taking = False
        self.is_free = False
        self.reached = asyncio.Event()
        self._fetcher._step = self._wait  # type: ignore[method-assign]

    async def _wait(self) -> None:
        self.reached.set()
        isolation = self._fetcher._isolation
        if not self.is_free:
            # A step that waits here has nothing: a suspect need not wait for it, each time for twice as long.
            with isolation.aside():
                await self._permits.acquire()
        self.taking = True
        try:
            if not isolation.is_closed:
                await self._step()
        finally:
            self.taking = False

    def allow(self) -> None:
        """One step, unless one is under way still."""
        if not self.taking and self._permits.locked():
            self.taking = True
            self._permits.release()

    @property
    def is_over(self) -> bool:
        """The step ended, or waits for a handler to end."""
        return not self.taking or self._fetcher.is_full

    def free(self) -> None:
        """The consumer stops: no step waits any more."""
        self.is_free = True
        self._permits.release()


def _event_id(delivery: Delivery) -> str:
    return dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=False))[
        b"id"
    ].decode()


class Worker:
    """One process: consumers, reclaimers, a scheduler and a heartbeat, on connections of its own."""

    def __init__(
        self,
        name: str,
        declared: Declared,
        url: str,
        clock: Clock,
        books: Books,
        namespace: str,
    ) -> None:
        self.name = name
        self.declared = declared
        self._books = books
        self._clock = clock
        pipeline = declared.pipeline(url, namespace, books.handler(name, declared))
        self.broker = Mortal(url, namespace=namespace)
        self.broker.clock = clock  # type: ignore[assignment]
        options = service_options(pipeline.settings, pipeline.middleware)
        self.crew = WorkerRoles(
            self.broker, every_partition(pipeline.plans), options, name
        )
        self._turns = {consumer: Turn(consumer) for consumer in self.crew.consumers}
        self._tasks: dict[Consumer, asyncio.Task[None]] = {}

    async def start(self) -> None:
        await self.broker.connect()
        self._tasks = {
            c: asyncio.create_task(c.run(), name=f"{self.name}/{c.stream}/{c.group}")
            for c in self.crew.consumers
        }
        for turn in self._turns.values():
            await turn.reached.wait()  # All of it is declared.

    async def look(self) -> None:
        """Everything that it does by itself within its poll. A handler may kill it meanwhile."""
        self._books.looks(self.name)
        for scheduler in self.crew.schedulers:
            before = -1
            while scheduler.promoted != before:
                before = scheduler.promoted
                await scheduler.promote()
        for reclaimer in self.crew.reclaimers:
            with contextlib.suppress(GroupMissing):
                while await reclaimer.sweep():
                    pass
        for consumer in self.crew.consumers:
            await self._consume(consumer)
            if self.is_crashed:
                return
        await self.crew.heartbeat.record()

    async def _consume(self, consumer: Consumer) -> None:
        fetcher, idle = consumer._fetcher, 0
        fetcher._due_at = 0.0  # It has not looked for a poll.
        for _ in range(_MOST_STEPS):
            before = consumer.stats.fetched
            self._turns[consumer].allow()
            await self.settled(consumer)
            if self.is_crashed or self._tasks[consumer].done():
                self._check(consumer)
                return
            idle = idle + 1 if consumer.stats.fetched == before else 0
            if idle >= _QUIET:
                return
        self._books.wrong.append(f"{self.name}/{consumer.group} fetches on and on")

    @property
    def is_crashed(self) -> bool:
        return self.name in self._books.crashed

    async def settled(self, consumer: Consumer) -> None:
        """Wait until a consumer can do nothing but wait for its next step, or for a handler."""
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0)
            if self.is_crashed or self._tasks[consumer].done():
                return
            quiet = quiet + 1 if self._is_quiet(consumer) else 0

    def _is_quiet(self, consumer: Consumer) -> bool:
        fetcher, state = consumer._fetcher, consumer._state
        return (
            self._turns[consumer].is_over
            and not consumer._settler.unsettled
            and consumer.busy
            == self._books.parked(self.name, consumer.stream, consumer.group)
            and not fetcher._taking.locked()
            and not state.slots_freed.is_set()
            and not state.keys_ready.is_set()
        )

    async def rest(self) -> None:
        """Let what a handler's end started come to its end."""
        for consumer in self.crew.consumers:
            await self.settled(consumer)

    async def renew(self) -> None:
        """What its lease keeper does."""
        for consumer in self.crew.consumers:
            if held := list(consumer._state.held.values()):
                lost = await consumer._settling.renew(held)
                consumer._executor.lost(lost)
                await self.settled(consumer)
                self._books.seen["lost"] += len(lost)
                theirs = [
                    delivery.place for delivery in lost if not self._is_erased(delivery)
                ]
                self._books.wrong += [
                    f"{self.name} lost the lease of {place}" for place in theirs
                ]

    @property
    def held(self) -> set[Where]:
        """What it has in hand: the server has no outcome of it yet."""
        consumers = self.crew.consumers
        return {
            (c.group, _event_id(delivery))
            for c in consumers
            for delivery in c._state.held.values()
        }

    @property
    def claims(self) -> list[str]:
        """Keys of the claims that its handlers extend while they run."""
        runs = [run for run in self._books.running.values() if run.worker == self.name]
        return [self.broker.keys(run.event.stream).handled(*run.where) for run in runs]

    def _is_erased(self, delivery: Delivery) -> bool:
        return any(name == _event_id(delivery) for _, name in self._books.erased)

    async def stop(self) -> None:
        """In order; what runs is cancelled and given back."""
        self.crew.stop(0.0)
        for turn in self._turns.values():
            turn.free()
        await asyncio.wait(list(self._tasks.values()))
        for consumer in self._tasks:
            self._check(consumer)
        for reclaimer in self.crew.reclaimers:
            with contextlib.suppress(BrokerError):
                await reclaimer._reclaiming.leave()
        await self.crew.heartbeat.record(leaves=True)
        await self.broker.close()

    async def kill(self) -> None:
        """As by SIGKILL: nothing is written any more."""
        self._books.dead.add(self.name)
        self._clock.dead[self.name] = self._clock.ahead
        self._clock.dead[f"{self.name}.reclaimer"] = self._clock.ahead
        await self.broker.die()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.broker.close()

    def _check(self, consumer: Consumer) -> None:
        task = self._tasks[consumer]
        if (
            task.done()
            and not task.cancelled()
            and (error := task.exception()) is not None
        ):
            self._books.wrong.append(f"{self.name}/{consumer.group} ended: {error!r}")


__all__ = ["STREAM", "Worker", "install"]
