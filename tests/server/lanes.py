"""Consumers of lanes, and a history of what they started."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams import Broker, Consumer, ConsumerOptions, Event, Lanes, Levels, Retry
from streams.broker.entries.declare import Declaring
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import FetchingByKey, Ways
from streams.handlers.routes import Route, Router
from streams.policy.declaration import AS_IT_IS

BY_SUBJECT = Lanes(order_by=("subject",))

BY_TENANT = Lanes(fair_by=("tenant",))


class History:
    """What ran, and whether two of a key ever ran at once."""

    def __init__(self) -> None:
        self.started: list[Event] = []
        self.done: list[Event] = []
        self.running: Counter[str] = Counter()
        self.clashes: list[str] = []

    @asynccontextmanager
    async def attempt(self, event: Event) -> AsyncIterator[None]:
        key = event.subject or ""
        self.started.append(event)
        self.running[key] += 1
        if key and self.running[key] > 1:
            self.clashes.append(key)
        try:
            yield
        finally:
            self.running[key] -= 1
        self.done.append(event)

    def by_key(self) -> dict[str, list[object]]:
        found: dict[str, list[object]] = defaultdict(list)
        for event in self.done:
            if event.subject:
                found[event.subject].append(event.data)
        return found


@asynccontextmanager
async def consuming(
    broker: Broker,
    handler,
    lanes: Lanes,
    *,
    count: int = 1,
    retry: Retry | None = None,
    limits=(),
    **options,
) -> AsyncIterator[list[Consumer]]:
    route = Route(handler, retry=retry or Retry(delay=0.01, jitter=0.0), limits=limits)
    consumers = [
        Consumer(
            broker,
            "s",
            "g",
            Router([route]),
            ConsumerOptions(name=f"c{n}", lanes=lanes, **options),
        )
        for n in range(count)
    ]
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield consumers
    finally:
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*running)


async def left(broker: Broker) -> set[str]:
    """Keys of the group that hold something."""
    prefix = f"{broker.namespace}:{{s}}:g:"
    found = await broker.control.call("KEYS", prefix + "*")
    return {name.decode().removeprefix(prefix) for name in found}


async def fetching(
    broker: Broker, lanes: Lanes, consumer: str = "c", lease: float = 0.0
) -> FetchingByKey:
    levels = Levels()
    declaring = Declaring(broker.keys("s"), levels, "g", AS_IT_IS)
    made = FetchingByKey(
        GroupConsumer(broker, broker.keys("s"), levels, "g", consumer, lease=lease),
        declaring,
        Ways(lanes),
    )
    await made.ensure_group()
    await made.declare()
    return made
