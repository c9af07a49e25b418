"""Consumers of one group that declare different things, and the books of both."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Levels,
    Reject,
    Retry,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import FetchingByKey, Ways
from streams.handlers.routes import Route
from streams.policy.declaration import AS_IT_IS

BY_KEY, BY_SUBJECT = Lanes(order_by=("key",)), Lanes(order_by=("subject",))

FAIR, FAIR_BY_KEY = Lanes(fair_by=("tenant",)), Lanes(fair_by=("key",))

NARROW, WIDE = Levels((0, 1)), Levels((0, 1, 5))


class Books:
    """Who started and who ended, and two of a key that ran at once."""

    def __init__(self) -> None:
        self.started: list[Event] = []
        self.done: list[Event] = []
        self.running: Counter[str] = Counter()
        self.clashes: list[str] = []

    async def handle(self, event: Event) -> None:
        key = event.key or ""
        self.started.append(event)
        self.running[key] += 1
        if self.running[key] > 1:
            self.clashes.append(key)
        try:
            await asyncio.sleep(0.001)
            if event.data == "bad":
                raise Reject("bad")
        finally:
            self.running[key] -= 1
        self.done.append(event)

    def in_order(self) -> bool:
        """Of each key and level, in the order of publishing."""
        found: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        for event in self.done:
            found[event.key, event.priority].append(event.data)
        return all(numbers == sorted(numbers) for numbers in found.values())


@asynccontextmanager
async def consuming(
    broker: Broker, books: Books, lanes: Lanes, levels: Levels = NARROW, **options
):
    """A worker without a reclaimer: whatever goes on, goes on by itself."""
    route = Route(books.handle, retry=Retry(delay=0.01, jitter=0.0))
    consumer = Consumer(
        broker, "s", "g", route, ConsumerOptions(lanes=lanes, levels=levels, **options)
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await running


@asynccontextmanager
async def reading(
    broker: Broker, ways: Ways, levels: Levels = NARROW
) -> AsyncIterator[FetchingByKey]:
    declaring = Declaring(broker.keys("s"), levels, "g", AS_IT_IS)
    made = FetchingByKey(
        GroupConsumer(broker, broker.keys("s"), levels, "g", "before"), declaring, ways
    )
    await made.ensure_group()
    await made.declare()
    try:
        yield made
    finally:
        await made.close()


async def line_up(broker: Broker, lanes: Lanes, levels: Levels = NARROW) -> None:
    """What a worker that is declared like that read and had no slot for, before it stopped."""
    async with reading(broker, Ways(lanes), levels) as made:
        await made.take(0)


def events(count: int, **more) -> list[Event]:
    return [
        Event(
            "t",
            n,
            **(
                {"key": f"k{n % 3}", "subject": f"s{n % 5}", "tenant": f"t{n % 4}"}
                | more
            ),
        )
        for n in range(count)
    ]


async def left(broker: Broker) -> set[str]:
    prefix = f"{broker.namespace}:{{s}}:g:"
    found = await broker.control.call("KEYS", prefix + "*")
    return {name.decode().removeprefix(prefix) for name in found} - {"rules", "dead"}


async def rules(broker: Broker) -> dict[str, str]:
    reply = await broker.control.call("HGETALL", broker.keys("s").rules("g"))
    return {
        name.decode(): value.decode()
        for name, value in zip(reply[::2], reply[1::2], strict=True)
    }
