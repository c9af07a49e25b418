"""Workers of two declarations side by side, in both directions: each event ends once, and nothing is left behind.

Two orders side by side are a test of their own, in ``test_declarations.py``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Lanes,
    Levels,
    Limit,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
)
from streams.handlers.routes import Route, Router
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn

LEVELS = Levels((0,))
QUICK = {"delay": 0.02, "jitter": 0.0}
CHANGES = {
    "lease": ({"lease": 60.0}, {"lease": 3.0}),
    "concurrency": ({"concurrency": 1}, {"concurrency": 8}),
    "order_by or none": ({"lanes": Lanes(order_by=("key",))}, {}),
    "fair_by": (
        {"lanes": Lanes(fair_by=("key",))},
        {"lanes": Lanes(fair_by=("tenant",))},
    ),
    "fair_by or none": ({"lanes": Lanes(fair_by=("key",))}, {}),
    "max_wait or none": ({"max_wait": 0.05}, {}),
    "retry": (
        {"retry": Retry(max_retries=0, **QUICK)},
        {"retry": Retry(max_retries=5, **QUICK)},
    ),
    "limits": (
        {"limits": [Limit("tenant", concurrency=1)]},
        {"limits": [Limit("key", rate="900/s", burst=9)]},
    ),
}


class Books:
    """How each event ended well."""

    def __init__(self) -> None:
        self.done: Counter[int] = Counter()
        self.failed: set[int] = set()

    async def __call__(self, event: Event) -> None:
        await asyncio.sleep(0.001)
        if event.data % 9 == 0 and event.attempt == 1:
            self.failed.add(event.data)
            raise RuntimeError("one in nine")
        self.done[event.data] += 1


@asynccontextmanager
async def working(
    broker: Broker, books: Books, name: str, declared: dict[str, Any]
) -> AsyncIterator[Consumer]:
    """A consumer and a reclaimer that looks often."""
    options = {"lease": 5.0, "concurrency": 4} | declared
    retry = options.pop("retry", Retry(max_retries=5, **QUICK))
    router = Router(
        [Route(books.__call__, retry=retry, limits=options.pop("limits", ()))]
    )
    consumer = Consumer(
        broker, "s", "g", router, ConsumerOptions(levels=LEVELS, name=name, **options)
    )
    swept = {"lanes": options["lanes"]} if "lanes" in options else {}
    sweeping = ReclaimerOptions(
        levels=LEVELS, lease=options["lease"], interval=0.1, name=name, **swept
    )
    reclaimer = Reclaimer(broker, "s", "g", router, sweeping)
    running = [
        asyncio.create_task(consumer.run()),
        asyncio.create_task(reclaimer.run()),
    ]
    try:
        yield consumer
    finally:
        consumer.stop()
        reclaimer.stop()
        await asyncio.gather(*running)


async def left(broker: Broker) -> set[str]:
    prefix = f"{broker.namespace}:{{s}}:g:"
    found = await broker.control.call("KEYS", prefix + "*")
    return {name.decode().removeprefix(prefix) for name in found} - {
        "rules",
        "dead",
        "limits",
        "sweep",
    }


@pytest.mark.one_server
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("what", CHANGES)
async def test_every_event_ends_once_while_workers_are_replaced(broker, what, way):
    before, after = CHANGES[what] if way == "up" else reversed(CHANGES[what])
    books, producer, letters = (
        Books(),
        Producer(broker, "s"),
        DeadLetters(broker, "s", "g"),
    )

    async def publish(part: int) -> None:
        numbers = range(part * 40, part * 40 + 40)
        await producer.publish_many(
            Event("t", n, key=f"k{n % 5}", tenant=f"t{n % 3}") for n in numbers
        )

    async def ended() -> int:
        return len(books.done) + await letters.count()

    async with working(broker, books, "old", before) as old:
        await publish(0)
        await eventually(lambda: len(books.done) > 5, what="the old worker to begin")
        async with working(broker, books, "new", after):
            await publish(1)
            await eventually(lambda: len(books.done) > 45, what="both to work")
            await publish(2)
            await eventually(lambda: len(books.done) > 85, what="both to go on")
            await publish(3)
            old.stop()

            async def all_ended() -> bool:
                return await ended() == 160

            await eventually(all_ended, seconds=15, what="all of it")

            async def nothing_left() -> bool:
                found = await left(broker)
                return not {
                    name
                    for name in found
                    if not name.startswith(("limit:", "leases", "workers"))
                }

            await eventually(nothing_left, seconds=10, what="the last rows to go")
    assert set(books.done.values()) == {1}
    buried = {letter.reason for letter in await letters.page(limit=200)}
    assert buried <= ({"retries-used-up"} if what == "retry" else set())
    assert "leases" not in await left(broker)
