"""Due retries and new events share the free slots, by level and by turn: counted on a real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Levels,
    Pauses,
    Producer,
    Retry,
)
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Postponed, Settling
from streams.handlers.routes import Route
from streams.policy.levels import LevelTurns
from tests.conftest import eventually

LEVELS = Levels()
AT_ONCE = Retry(max_retries=1_000_000, delay=0.0, jitter=0.0, backoff="fixed")
LANES = [
    pytest.param(Lanes(), id="plain"),
    pytest.param(Lanes(fair_by=("tenant",)), id="fair"),
    pytest.param(Lanes(order_by=("subject",)), id="ordered"),
]


@asynccontextmanager
async def consuming(
    broker: Broker, handle: Callable[[Event], Awaitable[None]], **options: object
) -> AsyncIterator[Consumer]:
    consumer = Consumer(
        broker,
        "s",
        "g",
        Route(handle, retry=AT_ONCE),
        ConsumerOptions(concurrency=1, **options),
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await running


async def fail() -> None:
    """As a call that fails: it takes a moment, so that those before it are due again."""
    await asyncio.sleep(0.012)
    raise RuntimeError("told to fail")


@pytest.mark.parametrize("lanes", LANES)
async def test_a_new_event_of_the_highest_level_waits_for_one_free_slot_and_for_nothing_else(
    broker, lanes
):
    started: list[int] = []
    urgent: list[int] = []
    producer = Producer(broker, "s")

    async def handle(event: Event) -> None:
        started.append(event.priority)
        if event.priority == 10:
            return
        if len(started) % 10 == 0:
            urgent.append(len(started))
            await producer.publish("urgent", type="t", priority=10)
        await fail()

    await producer.publish_many(
        Event("t", n, tenant="a", subject=f"s{n}") for n in range(3)
    )
    async with consuming(broker, handle, lanes=lanes):
        await eventually(lambda: len(started) > 40, what="enough starts")
    assert len(urgent) >= 3
    assert [started[at] for at in urgent[:3]] == [10] * 3, "each was the next to start"


@pytest.mark.parametrize("lanes", LANES)
async def test_events_that_fail_do_not_keep_others_from_their_first_attempt(
    broker, lanes
):
    started: list[object] = []

    async def handle(event: Event) -> None:
        started.append(event.data)
        # All together take longer than it is to the first look for retries.
        await asyncio.sleep(0.03)
        if event.data < 3:
            raise RuntimeError("told to fail")

    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a", subject=f"s{n}") for n in range(24)
    )
    async with consuming(broker, handle, lanes=lanes):
        await eventually(
            lambda: len(set(started)) == 24, what="every event to be tried"
        )
    # Every second start at least is one of those that were never tried.
    assert started.index(23) <= 2 * 24 + 3, started


@pytest.mark.parametrize("lanes", LANES)
async def test_new_events_do_not_keep_retries_of_their_level_from_starting(
    broker, lanes
):
    """Once the worker has looked for them, which it does twice a second."""
    started: list[object] = []
    seen: Counter[object] = Counter()
    producer = Producer(broker, "s")

    async def handle(event: Event) -> None:
        seen[event.data] += 1
        if any(count > 1 for data, count in seen.items() if data != "new"):
            started.append("new" if event.data == "new" else "retry")
        if event.data != "new":
            raise RuntimeError("told to fail")
        await producer.publish(Event("t", "new", tenant="a"))  # It never ends.

    await producer.publish_many(
        Event("t", data, tenant="a") for data in (*range(10), *["new"] * 3)
    )
    async with consuming(broker, handle, lanes=lanes):
        await eventually(lambda: len(started) >= 16, what="enough starts")
    # As long as more of them are due; then it looks again half a second later.
    assert 7 <= Counter(started[:16])["retry"] <= 9, started


async def test_what_waits_for_too_long_is_not_kept_back_by_retries_of_a_higher_level(
    broker,
):
    """The longest wait counts for new events whatever keeps the slots busy."""
    started: list[int] = []
    producer = Producer(broker, "s")

    async def handle(event: Event) -> None:
        started.append(event.priority)
        if event.priority == 10:
            await fail()

    await producer.publish_many(Event("t", n, priority=10) for n in range(3))
    async with consuming(broker, handle, max_wait=0.2):
        await eventually(lambda: len(started) >= 10)
        await producer.publish_many(Event("t", n) for n in range(3))
        await eventually(
            lambda: Counter(started)[0] == 3, what="those of the low level"
        )


async def test_a_retry_that_waits_for_too_long_is_overdue_as_well(broker):
    started: list[int] = []
    producer = Producer(broker, "s")

    async def handle(event: Event) -> None:
        started.append(event.priority)
        if event.priority == 0:
            raise RuntimeError("told to fail")
        await producer.publish("flood", type="t", priority=10)  # It never ends.
        await asyncio.sleep(0.002)

    await producer.publish("low", type="t")
    async with consuming(broker, handle, max_wait=0.2):
        await producer.publish_many(["flood"] * 2, type="t", priority=10)
        await eventually(lambda: started.count(0) >= 3, what="its retries")
    assert started.count(10) > started.count(0)


async def test_weights_count_retries_in_their_levels(broker):
    """Level 10 has only retries, level 0 only new events, and each gets its share."""
    started: list[int] = []
    retried = 0
    producer = Producer(broker, "s")

    async def handle(event: Event) -> None:
        nonlocal retried
        retried += event.attempt > 1
        if retried:
            started.append(event.priority)
        if event.priority == 10:
            raise RuntimeError("told to fail")
        await producer.publish("low", type="t")  # It never ends.

    await producer.publish_many(Event("t", n, priority=10) for n in range(60))
    await producer.publish_many(["low"] * 3, type="t")
    async with consuming(broker, handle, weights={10: 3, 5: 1, 1: 1, 0: 1}):
        await eventually(lambda: len(started) >= 60, what="enough starts")
    assert 41 <= Counter(started[:60])[10] <= 49, Counter(started[:60])


# --- what one read takes


async def fetching_of(broker: Broker) -> Fetching:
    made = Fetching(GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "c"))
    await made.ensure_group()
    return made


async def parked(
    broker: Broker, fetching: Fetching, count: int, level: int
) -> list[Delivery]:
    """Retries of a level that are due."""
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=level) for n in range(count)
    )
    taken = await fetching.take(count)
    settling = Settling(GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "c"))
    for at in range(0, count, 500):
        await settling.settle(
            (), [Postponed(delivery, 0) for delivery in taken[at : at + 500]]
        )
    return taken


async def test_due_retries_come_by_level_and_then_by_due_time(broker):
    fetching = await fetching_of(broker)
    low, high = (
        await parked(broker, fetching, 5, 0),
        await parked(broker, fetching, 5, 10),
    )
    places = [delivery.place for delivery in (await fetching.take_due(7, 1)).deliveries]
    assert places == [d.place for d in (*high, *low[:2])]


async def test_a_backlog_of_due_retries_hides_no_higher_ones(broker):
    """However large: each look goes on where the last one was, and comes back at once."""
    fetching = await fetching_of(broker)
    await parked(broker, fetching, 5000, 0)
    high = await parked(broker, fetching, 2, 10)
    found: list[int] = []
    for _ in range(5):
        reply = await fetching.take_due(1, 1)
        assert reply.more
        found += [delivery.level for delivery in reply.deliveries]
    assert found.count(10) == len(high)
    (later,) = await parked(broker, fetching, 1, 5)
    assert [d.place for d in (await fetching.take_due(1, 1)).deliveries] == [
        later.place
    ]
    rest = 0
    while (reply := await fetching.take_due(1000, 1)).deliveries:
        assert {d.level for d in reply.deliveries} == {0}
        rest += len(reply.deliveries)
    assert rest + found.count(0) == 5000
    assert reply.next_due is None


async def test_retries_and_new_events_of_a_level_share_a_read_and_nothing_is_left_unused(
    broker,
):
    fetching, turns = await fetching_of(broker), LevelTurns()
    await parked(broker, fetching, 30, 5)
    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, priority=5) for n in range(10))
    await producer.publish_many(Event("t", n, priority=10) for n in range(4))
    await producer.publish_many(Event("t", n) for n in range(10))

    async def kinds(limit: int) -> Counter[tuple[int, int]]:
        reply = await fetching.take_due(limit, 1, turns)
        return Counter((d.level, d.count) for d in reply.deliveries)

    assert await kinds(14) == {(10, 1): 4, (5, 2): 5, (5, 1): 5}
    assert await kinds(3) == {(5, 2): 2, (5, 1): 1}
    assert await kinds(3) == {(5, 2): 1, (5, 1): 2}
    # What one kind leaves is the other's, and then the next level's.
    assert await kinds(25) == {(5, 2): 22, (5, 1): 2, (0, 1): 1}
    # Without a due retry it hands out nothing: there is a cheaper way.
    assert await kinds(25) == {}
    assert len(await fetching.take(25)) == 9


async def test_a_paused_level_gives_neither_retries_nor_new_events(broker):
    fetching = await fetching_of(broker)
    await parked(broker, fetching, 3, 10)
    await parked(broker, fetching, 3, 0)
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=p) for n in range(2) for p in (10, 0)
    )
    await Pauses(broker, "s").pause(level=10)
    reply = await fetching.take_due(100, 1, LevelTurns())
    assert Counter(d.level for d in reply.deliveries) == {0: 5}
    assert reply.paused == {10}
