"""Order and fairness that are declared anew while events are lined up, and two declarations side by side."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from streams import (
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Limit,
    Producer,
    ProducerOptions,
)
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import LaneRepair, Ways
from streams.broker.entries.settle import Settling
from streams.broker.keys import PARKED
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.declaring import (
    BY_KEY,
    BY_SUBJECT,
    FAIR,
    FAIR_BY_KEY,
    NARROW,
    Books,
    consuming,
    events,
    left,
    line_up,
    reading,
    rules,
)

# --- order_by


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(BY_SUBJECT, id="another order"),
        pytest.param(Lanes(order_by=("key", "subject")), id="a finer one"),
        pytest.param(FAIR, id="none, but turns"),
        pytest.param(Lanes(order_by=("subject",), fair_by=("tenant",)), id="both"),
    ],
)
async def test_what_is_lined_up_goes_on_after_order_by_is_changed(broker, after):
    books, producer = Books(), Producer(broker, "s")
    await producer.publish_many(events(60))
    await line_up(broker, BY_KEY)
    await producer.publish_many(
        Event("t", n, subject="new", tenant="t0") for n in range(20)
    )
    async with consuming(broker, books, after):
        await eventually(
            lambda: len(books.done) == 80, seconds=10, what="all of it, and no sweep"
        )
    # What was lined up keeps the order in which it was.
    old = [event for event in books.done if event.key]
    for key in ("k0", "k1", "k2"):
        numbers = [event.data for event in old if event.key == key]
        assert numbers == sorted(numbers)
    assert not [key for key in books.clashes if key]
    assert await left(broker) == set()


async def test_workers_with_two_orders_side_by_side_leave_nothing_behind(broker):
    """Each settles what the other has lined up, and each other's keys go on."""
    books, producer = Books(), Producer(broker, "s")
    await producer.publish_many(events(40))
    async with consuming(broker, books, BY_KEY, concurrency=4, name="old"):
        await eventually(lambda: len(books.done) > 5)
        async with consuming(broker, books, BY_SUBJECT, concurrency=4, name="new"):
            for _ in range(5):
                await producer.publish_many(events(40))
                await asyncio.sleep(0.01)
            await eventually(
                lambda: len(books.done) == 240,
                seconds=10,
                what="all of it, and no sweep",
            )
    assert len({event.entry_id for event in books.done}) == 240
    assert await left(broker) == set()


async def test_a_change_that_comes_back_is_no_change_of_what_is_lined_up(broker):
    """A deployment that is rolled back in the midst of it."""
    books, producer = Books(), Producer(broker, "s")
    await producer.publish_many(events(30))
    await line_up(broker, BY_KEY)
    await producer.publish_many(events(30))
    await line_up(broker, BY_SUBJECT)
    await producer.publish_many(events(30))
    async with consuming(broker, books, BY_KEY):
        await eventually(
            lambda: len(books.done) == 90, seconds=10, what="all of it, and no sweep"
        )
    assert await left(broker) == set()


async def test_ways_that_nothing_is_left_of_are_forgotten(broker):
    await Producer(broker, "s").publish_many(events(10))
    await line_up(broker, BY_KEY)
    await line_up(broker, BY_SUBJECT)
    assert set((await rules(broker))["ways"].split(";")) == {"key|", "subject|"}
    books = Books()
    async with consuming(broker, books, BY_SUBJECT):
        await eventually(lambda: len(books.done) == 10)
    await line_up(broker, BY_SUBJECT)
    assert (await rules(broker))["ways"] == "subject|"


async def test_rules_of_a_version_that_wrote_no_ways_say_what_was_declared(broker):
    await Producer(broker, "s").publish_many(events(30))
    await line_up(broker, BY_KEY)
    await broker.control.call("HDEL", broker.keys("s").rules("g"), "ways", "levels")
    books = Books()
    async with consuming(broker, books, BY_SUBJECT):
        await eventually(
            lambda: len(books.done) == 30, seconds=10, what="all of it, and no sweep"
        )
    assert books.in_order()


async def test_a_reclaimer_with_another_order_lets_the_keys_of_what_it_buries_go_on(
    broker,
):
    await Producer(broker, "s").publish_many(events(9))
    async with reading(broker, Ways(BY_KEY)) as made:
        heads = await made.take(3)
        keys = broker.keys("s")
        ways = Ways(BY_SUBJECT)
        await LaneRepair(broker, keys, NARROW, "g", ways).mend()
        settling = Settling(GroupConsumer(broker, keys, NARROW, "g", "before"), ways)
        assert (await settling.settle(heads)).ready == 3
        await settling.close()


async def test_that_order_was_changed_is_said_once(broker, caplog):
    await Producer(broker, "s").publish_many(events(6))
    await line_up(broker, BY_KEY)
    caplog.set_level("INFO", "streams.consumer")
    books = Books()
    async with consuming(broker, books, BY_SUBJECT):
        await eventually(lambda: len(books.done) == 6)
    said = [record for record in caplog.records if "order_by" in record.message]
    assert len(said) == 1


# --- fair_by, and weights


async def test_what_is_lined_up_goes_on_after_fair_by_is_changed(broker):
    books, producer = Books(), Producer(broker, "s")
    await producer.publish_many(events(30))
    await line_up(broker, FAIR)
    await producer.publish_many(events(30))
    async with consuming(broker, books, FAIR_BY_KEY, concurrency=4):
        await eventually(lambda: len(books.done) == 60, seconds=10, what="all of it")
    assert len({event.entry_id for event in books.done}) == 60
    assert await left(broker) == set()


async def test_rows_of_another_fair_key_are_no_lost_rows(broker):
    """A sweep that misses one row adds that one, and no second one for what waits under another key."""
    await Producer(broker, "s").publish_many(events(12))
    await line_up(broker, FAIR)
    lane = broker.keys("s").lane("g", 0)
    (lost,) = await broker.control.call("ZRANGE", lane, 0, 0)
    await broker.control.call("ZREM", lane, lost)
    ways = Ways(FAIR_BY_KEY)
    async with reading(broker, ways):
        assert await LaneRepair(broker, broker.keys("s"), NARROW, "g", ways).mend() == (
            0,
            1,
        )
    assert await broker.control.call("ZCARD", lane) == 12


async def test_shares_of_fair_keys_are_those_that_were_declared_last(broker):
    books = Books()
    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="ab"[n % 2]) for n in range(200)
    )
    await line_up(broker, Lanes(fair_by=("tenant",), weights={"b": 9}))
    async with consuming(
        broker, books, Lanes(fair_by=("tenant",), weights={"a": 3}), concurrency=1
    ):
        await eventually(lambda: len(books.done) >= 100)
    assert 70 <= Counter(event.tenant for event in books.done[:100])["a"] <= 80
    assert {name for name in await rules(broker) if name.startswith("weight:")} == {
        "weight:a"
    }


async def test_what_waits_for_a_slot_goes_on_after_an_order_is_declared(broker):
    """It stands in the queue of its limit, before the one that is the first of its key now, which it waits for."""
    done, free = [], asyncio.Event()

    async def handle(event: Event) -> None:
        await free.wait()
        done.append(event.data)

    def worker(lanes: Lanes) -> Consumer:
        route = Route(handle, limits=(Limit("tenant", concurrency=1),))
        options = ConsumerOptions(levels=NARROW, lanes=lanes, lease=60.0)
        return Consumer(broker, "s", "g", route, options)

    async def lost(freed: object, room: int) -> list[object]:
        return []

    before = worker(Lanes())
    running = asyncio.create_task(before.run())
    producer = Producer(broker, "s", ProducerOptions(levels=NARROW))
    await producer.publish(Event("t", 2, tenant="x", key="k", priority=1))
    await eventually(lambda: before.busy == 1, what="the first to have the slot")
    await producer.publish_many(Event("t", n, tenant="x", key="k") for n in range(2))
    await eventually(lambda: before.stats.limited == 2, what="two to wait for the slot")
    before._gate._admitting.hand_over = lost  # It ends before it hands the slot on.
    before.stop(0.0)
    await running
    free.set()
    after = worker(BY_KEY)
    running = asyncio.create_task(after.run())
    await eventually(lambda: sorted(done) == [0, 1, 2], what="all of them")
    after.stop()
    await running


async def test_what_is_taken_over_while_a_worker_stops_is_given_back(broker):
    """A slot is handed on to the worker that stops: its entry is due at once, though its answer came too late."""
    free = asyncio.Event()

    async def handle(event: Event) -> None:
        await free.wait()

    route = Route(handle, limits=(Limit("tenant", concurrency=1),))
    consumer = Consumer(
        broker, "s", "g", route, ConsumerOptions(levels=NARROW, lease=60.0)
    )
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "s", ProducerOptions(levels=NARROW)).publish_many(
        Event("t", n, tenant="x") for n in range(2)
    )
    await eventually(lambda: consumer.busy == 1 and consumer.stats.limited == 1)
    hand_over = consumer._gate._admitting.hand_over
    told = asyncio.Event()

    async def slow(freed, room):
        taken = await hand_over(freed, room)
        if room:
            consumer.stop()
            told.set()
            await asyncio.sleep(60.0)
        return taken

    consumer._gate._admitting.hand_over = slow
    free.set()
    await asyncio.wait_for(told.wait(), 20)
    await asyncio.wait_for(running, 20)
    keys = broker.keys("s")
    assert await broker.control.call("ZCARD", keys.retry("g")) == 1
    pending = await broker.control.call("XPENDING", keys.level(0), "g", "-", "+", 9)
    assert [row[1] for row in pending] == [PARKED.encode()]
    assert await broker.control.call("HLEN", keys.leases("g")) == 0


async def test_what_is_deleted_while_it_is_lined_up_leaves_no_record(broker):
    """As an erasure does, or somebody's XDEL: it comes up for its turn, and is not there."""
    receipt = await Producer(broker, "s", ProducerOptions(levels=NARROW)).publish(
        1, type="t", key="k"
    )
    keys, call = broker.keys("s"), broker.control.call
    async with reading(broker, Ways(BY_KEY)) as made:
        await made.take(0)
        await call(
            "HSET", keys.attempts("g"), f"0|{receipt.entry_id}", '{"failures":1}'
        )
        await call("XDEL", keys.level(0), receipt.entry_id)
        await made.take(5)
    assert await call("HLEN", keys.attempts("g")) == 0
