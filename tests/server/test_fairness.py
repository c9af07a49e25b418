"""Fairness by key, on every server: keys take turns, by their weights, whatever their backlogs."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from streams import (
    Broker,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Producer,
    Retry,
)
from streams.broker.entries.ordering import FetchingByKey
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.lanes import BY_SUBJECT, BY_TENANT, consuming, fetching


async def test_tenants_take_turns_whatever_their_backlogs(broker):
    order: list[str] = []

    async def handle(event: Event) -> None:
        order.append(event.tenant)

    producer = Producer(broker, "s")
    # More than one look reads, so that the others come with a later one.
    await producer.publish_many(Event("t", n, tenant="big") for n in range(600))
    await producer.publish_many(Event("t", n, tenant="small") for n in range(30))
    await producer.publish_many(Event("t", n) for n in range(30))
    async with consuming(broker, handle, BY_TENANT, concurrency=1):
        await eventually(lambda: len(order) == 660)
    # Once all is lined up, each of the three has every third start.
    from_there = order[order.index("small") :][:75]
    assert Counter(from_there)["big"] <= 30
    assert order[-1] == "big"


async def test_weights_are_shares(broker):
    order: list[str] = []

    async def handle(event: Event) -> None:
        order.append(event.tenant)

    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="ab"[n % 2]) for n in range(400)
    )
    lanes = Lanes(fair_by=("tenant",), weights={"a": 3})
    async with consuming(broker, handle, lanes, concurrency=1):
        await eventually(lambda: len(order) == 400)
    assert 145 <= Counter(order[:200])["a"] <= 155


async def test_a_higher_level_goes_before_every_tenant_of_a_lower_one(broker):
    order: list[int] = []

    async def handle(event: Event) -> None:
        order.append(event.priority)

    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, tenant=f"t{n % 5}") for n in range(100))
    await producer.publish_many(
        Event("t", n, tenant="t0", priority=10) for n in range(20)
    )
    async with consuming(broker, handle, BY_TENANT, concurrency=1):
        await eventually(lambda: len(order) == 120)
    assert order == [10] * 20 + [0] * 100


async def test_a_new_tenant_starts_soon_while_every_handler_is_busy_with_another(
    broker,
):
    """What arrives is lined up while nobody is free: the first free place is the new tenant's."""
    started: list[str] = []
    gate = asyncio.Semaphore(0)

    async def handle(event: Event) -> None:
        started.append(event.tenant)
        await gate.acquire()

    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, tenant="big") for n in range(10))
    async with consuming(broker, handle, BY_TENANT, concurrency=2):
        await eventually(lambda: len(started) == 2)
        await producer.publish_many(Event("t", n, tenant="big") for n in range(1500))
        await producer.publish(Event("t", 0, tenant="new"))
        rows = broker.keys("s").lane("g", 0)

        async def lined_up() -> bool:
            return await broker.control.call("ZCARD", rows) == 1509

        await eventually(lined_up)
        for _ in range(3):
            gate.release()
        await eventually(lambda: len(started) >= 4)
        assert "new" in started[2:5]
        for _ in range(2000):
            gate.release()
        await eventually(lambda: len(started) == 1511)


async def test_a_handler_that_ends_while_new_events_are_lined_up_leaves_no_worker_waiting(
    broker, monkeypatch
):
    """The worker looks for new events while every handler is busy, and hears meanwhile that one is not any more."""
    may_end, done, take = asyncio.Event(), list[object](), FetchingByKey.take

    async def handle(event: Event) -> None:
        await may_end.wait()
        done.append(event.data)

    async def slowly(self, limit):
        taken = await take(self, limit)
        if not limit:
            may_end.set()
            await eventually(
                lambda: consumer._executor.free and not consumer._settler.unsettled,
                what="its end",
            )
        return taken

    monkeypatch.setattr(FetchingByKey, "take", slowly)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"s{n}") for n in range(3)
    )
    consumer = Consumer(
        broker,
        "s",
        "g",
        Route(handle),
        ConsumerOptions(concurrency=1, lanes=BY_SUBJECT),
    )
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: done == [0, 1, 2], what="all of them", seconds=5.0)
    assert not consumer.vitals.is_full
    consumer.stop()
    await running


async def test_retries_do_not_take_the_places_of_others(broker):
    """Failing events of one tenant that are due again and again get every second place at most."""
    order: list[str] = []

    async def handle(event: Event) -> None:
        order.append(event.tenant)
        await asyncio.sleep(0.012)
        if event.tenant == "failing":
            raise RuntimeError

    producer = Producer(broker, "s")
    retry = Retry(max_retries=100_000, delay=0.0, jitter=0.0)
    await producer.publish_many(Event("t", n, tenant="failing") for n in range(60))
    async with consuming(broker, handle, BY_TENANT, concurrency=10, retry=retry):
        await eventually(lambda: len(order) >= 120)
        before = len(order)
        await producer.publish_many(Event("t", n, tenant="good") for n in range(100))
        await eventually(lambda: order.count("good") == 100)
        assert len(order) - before <= 350


async def ring_of(broker: Broker, level: int = 0) -> int:
    return await broker.control.call("ZCARD", broker.keys("s").ring("g", level))


async def test_tenants_that_are_quiet_leave_no_turn_behind(broker):
    """So the next event of any is the first that is looked at, after however many tenants."""
    made, producer = await fetching(broker, BY_TENANT), Producer(broker, "s")
    await producer.publish_many(Event("t", n, tenant=f"t{n}") for n in range(2500))
    taken: set[str] = set()
    while len(taken) < 2500:
        taken |= {delivery.entry_id for delivery in await made.take(100)}
    assert await ring_of(broker) == 0
    for name in ("a", "t7", "zz"):
        await producer.publish(Event("t", 1, tenant=name))
        assert len(await made.take(5)) == 1
    assert await ring_of(broker) == 0


async def test_turns_that_an_earlier_version_left_behind_hold_nothing_up(broker):
    """One call looks at a bounded number of them, and says that another is due."""
    made, producer = await fetching(broker, BY_TENANT), Producer(broker, "s")
    ring = broker.keys("s").ring("g", 0)
    for start in range(0, 3500, 500):
        await broker.control.call(
            "ZADD",
            ring,
            *(part for n in range(start, start + 500) for part in (0, f"t{n}")),
        )
    await producer.publish(Event("t", 1, tenant="zz"))
    await producer.publish_many(
        Event("t", n, tenant="zzz", priority=1) for n in range(2)
    )
    assert [delivery.level for delivery in await made.take(1)] == [1]
    looks = 0
    while not (taken := await made.take(2)) or taken[0].level:
        looks += 1
        assert made.more or taken
    assert looks <= 5
    assert await ring_of(broker) == 0


async def test_an_idle_worker_starts_a_new_tenant_with_its_first_look(broker):
    started: list[str] = []

    async def handle(event: Event) -> None:
        started.append(event.tenant)

    producer = Producer(broker, "s")
    ring = broker.keys("s").ring("g", 0)
    async with consuming(broker, handle, BY_TENANT, concurrency=2):
        await producer.publish_many(Event("t", n, tenant=f"t{n}") for n in range(60))
        await eventually(lambda: len(started) == 60)
        # As many as there can be while another tenant keeps the lane from being empty.
        await broker.control.call(
            "ZADD", ring, *(part for n in range(2000) for part in (0, f"q{n}"))
        )
        before = await calls_of_scripts(broker)
        await producer.publish(Event("t", 1, tenant="zz"))
        await eventually(lambda: started[-1] == "zz")
        assert await calls_of_scripts(broker) - before <= 20

    # Half a second passes between two looks of a worker that believes that there is nothing to do.


async def calls_of_scripts(broker: Broker) -> int:
    info = (await broker.control.call("INFO", "commandstats")).decode()
    return int(info.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])


async def test_a_turn_is_kept_while_others_wait(broker):
    """One that comes back at once gains nothing."""
    made, producer = await fetching(broker, BY_TENANT), Producer(broker, "s")
    await producer.publish_many(Event("t", n, tenant="big") for n in range(50))
    order: list[bool] = []
    for _ in range(20):
        await producer.publish(Event("t", 0, tenant="back"))
        (delivery,) = await made.take(1)
        order.append(b'"back"' in b"".join(delivery.fields))
    assert 9 <= sum(order) <= 11, order


async def test_weights_of_levels_and_fairness_go_together(broker):
    order: list[tuple[int, str]] = []

    async def handle(event: Event) -> None:
        order.append((event.priority, event.tenant))

    producer = Producer(broker, "s")
    for priority in (0, 10):
        await producer.publish_many(
            Event("t", n, tenant="ab"[n % 2], priority=priority) for n in range(200)
        )
    weights = {0: 1, 1: 1, 5: 1, 10: 3}
    async with consuming(broker, handle, BY_TENANT, concurrency=8, weights=weights):
        await eventually(lambda: len(order) == 400)
    levels = Counter(level for level, _ in order[:160])
    assert levels[0] >= 25
    assert levels[10] >= 90
    with pytest.raises(ConfigurationError, match="max_wait"):
        ConsumerOptions(lanes=BY_TENANT, max_wait=1.0)
