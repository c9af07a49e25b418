"""What an event costs, in counts that no machine changes: commands, round trips, calls of Python functions, objects.

A bound is what was measured plus a tenth or so. Whoever makes it dearer on purpose moves it, and says why.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from streams import Broker, Consumer, ConsumerOptions, Event, Producer
from streams.broker.server.wire import Wire
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn

BODY = {
    "phone": "5511999999999",
    "message": "x" * 160,
    "tenant_id": 1,
    "instance_id": 1,
}
KIND = "message.queued"
COUNT = 5_000


@dataclass
class Counts:
    """What was sent: commands by name, and the round trips that carried them."""

    trips: int = 0
    commands: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.trips = 0
        self.commands.clear()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    found = Counts()
    exchange = Wire.exchange

    async def counted(self, commands, count, within):
        # Where the primary is, is asked with each connection.
        if commands[0][0] != "SENTINEL":
            found.trips += 1
            found.commands += [str(command[0]) for command in commands]
        return await exchange(self, commands, count, within)

    monkeypatch.setattr(Wire, "exchange", counted)
    return found


@contextmanager
def python_calls() -> Iterator[list[int]]:
    """Calls of functions written in Python, resumed coroutines included, inside the block and this thread."""
    calls = [0]

    def count(_frame: object, what: str, _argument: object) -> None:
        calls[0] += what == "call"

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def ready(broker: Broker) -> Producer:
    """A producer whose stream is registered and whose scripts the server knows."""
    producer = Producer(broker, "s")
    await producer.publish_many([BODY] * 2, type=KIND)
    return producer


async def test_one_publish_is_one_command(broker: Broker, counts: Counts) -> None:
    producer = await ready(broker)
    counts.reset()
    for _ in range(20):
        await producer.publish(BODY, type=KIND)
    assert counts.trips == 20
    assert counts.commands == ["XADD"] * 20


@pytest.mark.parametrize(("tasks", "most_trips"), [(10, 110), (100, 210), (1000, 25)])
async def test_concurrent_publishes_share_trips(
    broker: Broker, counts: Counts, tasks: int, most_trips: int
) -> None:
    producer = await ready(broker)
    counts.reset()
    each = 10_000 // tasks if tasks > 10 else 100

    async def publisher() -> None:
        for _ in range(each):
            await producer.publish(BODY, type=KIND)

    await asyncio.gather(*(publisher() for _ in range(tasks)))
    assert (
        await broker.control.call("XLEN", broker.keys("s").level(0)) == tasks * each + 2
    )
    assert counts.trips <= most_trips


async def test_many_go_500_to_a_trip_and_few_are_prepared_ahead(
    broker: Broker, counts: Counts
) -> None:
    producer = await ready(broker)
    counts.reset()
    taken = 0

    def source() -> Iterator[dict[str, object]]:
        nonlocal taken
        for _ in range(COUNT):
            taken += 1
            yield BODY

    stored = 0
    async for receipts in producer.publish_batches(source(), type=KIND):
        stored += len(receipts)
        assert taken <= stored + 500
    assert stored == COUNT
    assert counts.commands == ["EVALSHA"] * (COUNT // 500)


async def drained(broker: Broker, concurrency: int = 100) -> None:
    """Consume until nothing is left."""

    async def nothing(event: Event) -> None:
        pass

    consumer = Consumer(
        broker, "s", "g", nothing, ConsumerOptions(concurrency=concurrency)
    )
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.stats.done >= COUNT, what="everything to be done")
    consumer.stop()
    await running


async def test_a_backlog_costs_two_trips_per_hundred_events(
    broker: Broker, counts: Counts
) -> None:
    """Of one level: read natively, in two commands for that level and those above it; acknowledged in one."""
    producer = await ready(broker)
    await producer.publish_many([BODY] * COUNT, type=KIND)
    await drained(broker, 10)  # The scripts are known now.
    await producer.publish_many([BODY] * COUNT, type=KIND)
    counts.reset()
    await drained(broker)
    batches = COUNT / 91  # A few places are kept free for each level above.
    assert counts.commands.count("XREADGROUP") <= 2 * batches * 1.1
    assert len(counts.commands) <= 3.3 * batches
    assert counts.trips <= 2.3 * batches
    assert len(counts.commands) / COUNT <= 0.05


async def test_calls_of_python_functions_per_event(broker: Broker) -> None:
    producer = await ready(broker)
    with python_calls() as many:
        await producer.publish_many([BODY] * COUNT, type=KIND)
    with python_calls() as drain:
        await drained(broker)

    async def publisher() -> None:
        for _ in range(COUNT // 100):
            await producer.publish(BODY, type=KIND)

    with python_calls() as shared:
        await asyncio.gather(*(publisher() for _ in range(100)))
    assert many[0] / COUNT <= 5
    assert drain[0] / COUNT <= 30
    assert shared[0] / COUNT <= 26 + broker.is_spread, (
        "a cluster's link looks for the server of each key"
    )


async def test_objects_that_a_consumer_holds_per_event(broker: Broker) -> None:
    """With 1,000 handlers that wait, and none left once they are done."""
    producer = await ready(broker)
    await producer.publish_many([BODY] * 3_000, type=KIND)
    gate = asyncio.Event()

    async def wait(event: Event) -> None:
        await gate.wait()

    async def hold(concurrency: int) -> int:
        gate.clear()
        consumer = Consumer(
            broker, "s", "g", wait, ConsumerOptions(concurrency=concurrency)
        )
        running = asyncio.create_task(consumer.run())
        await eventually(
            lambda: consumer.busy == concurrency, what="all handlers to wait"
        )
        gc.collect()
        held = sys.getallocatedblocks()
        gate.set()
        consumer.stop()
        await running
        return held

    async def blocks(concurrency: int) -> tuple[int, int]:
        held = await hold(concurrency)
        gc.collect()
        return held, sys.getallocatedblocks()

    await blocks(10)
    few, after_few = await blocks(10)
    many, after_many = await blocks(1_000)
    assert (many - few) / 990 <= 40
    assert after_many - after_few < 1_000
