"""A worker that handles events as those of ``worker_app`` do, without a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any, Self

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
    Scheduler,
)
from streams.handlers.routes import Route
from tests.process.worker_app import GROUP, STREAM


class Live:
    """A worker inside the test: consumer, reclaimer, scheduler. Does to each event what its data says."""

    def __init__(
        self,
        broker: Broker,
        stream: str = STREAM,
        *,
        lease: float = 1.0,
        concurrency: int = 16,
        retry: Retry | None = None,
    ) -> None:
        self.starts: dict[str, list[int]] = defaultdict(list)
        self.times: dict[str, list[float]] = defaultdict(list)
        """Monotonic times of the starts."""
        self.done: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        retry = retry or Retry(max_retries=5, delay=0.05, backoff="fixed", jitter=0.0)
        self.consumer = Consumer(
            broker,
            stream,
            GROUP,
            Route(self.handle, retry=retry),
            ConsumerOptions(lease=lease, concurrency=concurrency),
        )
        self.reclaimer = Reclaimer(
            broker, stream, GROUP, retry, ReclaimerOptions(lease=lease)
        )
        self.scheduler = Scheduler(broker, stream)
        self._tasks: list[asyncio.Task[None]] = []

    async def handle(self, event: Event[Any]) -> None:
        order = event.data
        self.starts[event.id].append(event.attempt)
        self.times[event.id].append(time.monotonic())
        match order:
            case {"gate": name}:
                await self.gates[name].wait()
            case {"sleep": seconds}:
                await asyncio.sleep(seconds)
        if event.attempt <= order.get("fails", 0):
            raise RuntimeError("told to fail")
        if order.get("reject"):
            raise Reject("told to reject")
        self.done[event.id] += 1

    async def __aenter__(self) -> Self:
        roles = (self.consumer, self.reclaimer, self.scheduler)
        self._tasks = [asyncio.create_task(role.run()) for role in roles]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.consumer.stop(1.0)
        self.reclaimer.stop()
        self.scheduler.stop()
        async with asyncio.timeout(15):
            await asyncio.gather(*self._tasks)

    async def ended(self) -> None:
        """Wait for the first role to end, and raise what it raised."""
        done, _ = await asyncio.wait(
            self._tasks, return_when=asyncio.FIRST_EXCEPTION, timeout=5
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        errors = [
            task.exception()
            for task in done
            if not task.cancelled() and task.exception()
        ]
        self._tasks = []
        assert errors, "no role ended"
        raise errors[0]
