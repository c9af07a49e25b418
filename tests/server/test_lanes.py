"""Order and fairness together: pauses, costs, lost rows, and how both are declared."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import (
    Cancellations,
    ConfigurationError,
    DeadLetters,
    Event,
    Groups,
    Lanes,
    Levels,
    Pauses,
    Pipeline,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
    Status,
)
from streams.broker.entries.ordering import LaneKeys, LaneRepair, Ways, follow
from streams.broker.keys import WAITING
from tests.conftest import eventually
from tests.server.lanes import BY_SUBJECT, BY_TENANT, History, consuming, fetching, left

BOTH = Lanes(order_by=("subject",), fair_by=("tenant",))

# --- both, pauses, costs


async def test_order_and_fairness_together(broker):
    history = History()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await asyncio.sleep(random.random() * 0.002)

    chance = random.Random(7)
    events = [
        Event(
            "t", n, subject=f"k{chance.randrange(20)}", tenant=f"t{chance.randrange(3)}"
        )
        for n in range(500)
    ]
    await Producer(broker, "s").publish_many(events)
    async with consuming(broker, handle, BOTH, count=2, concurrency=8):
        await eventually(lambda: len(history.done) == 500)
    assert not history.clashes
    assert all(found == sorted(found) for found in history.by_key().values())
    assert await left(broker) == {"rules"}


async def test_a_paused_level_is_neither_read_nor_handed_out(broker):
    started: list[int] = []

    async def handle(event: Event) -> None:
        started.append(event.priority)

    producer = Producer(broker, "s")
    await producer.publish_many(
        Event("t", n, priority=p, tenant="a") for n, p in enumerate((0, 10, 0, 10))
    )
    await Pauses(broker, "s").pause(level=10)
    async with consuming(broker, handle, BY_TENANT):
        await eventually(lambda: started == [0, 0])
        await Pauses(broker, "s").resume(level=10)
        await eventually(lambda: started == [0, 0, 10, 10])


async def test_what_is_lined_up_counts_as_waiting(broker):
    made = await fetching(broker, BOTH)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"k{n % 2}", tenant="a") for n in range(10)
    )
    assert await made.take(0) == []
    (row,) = await Status(broker).overview()
    level = next(level for level in row.groups[0].levels if level.level == 0)
    assert (level.waiting, level.processing, level.retrying) == (10, 0, 0)
    assert row.groups[0].consumers == 0
    taken = await made.take(10)
    assert [event.place[1] for event in taken] == sorted(
        event.place[1] for event in taken
    )
    assert len(taken) == 2
    (row,) = await Status(broker).overview()
    level = next(level for level in row.groups[0].levels if level.level == 0)
    assert (level.waiting, level.processing) == (8, 2)


async def test_a_group_that_is_not_lined_up_any_more_gives_back_what_was(broker):
    made = await fetching(broker, BOTH)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k", tenant="a") for n in range(10)
    )
    await made.take(0)
    done: list[object] = []

    async def handle(event: Event) -> None:
        done.append(event.data)

    async with consuming(broker, handle, Lanes()):
        await eventually(lambda: sorted(done) == list(range(10)))
    assert await left(broker) == set()


async def test_a_dropped_group_leaves_no_lanes(broker):
    made = await fetching(broker, BOTH)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k", tenant="a") for n in range(10)
    )
    await made.take(0)
    await Groups(broker, "s").drop("g", force=True)
    assert await left(broker) == set()


async def test_an_idle_worker_asks_as_seldom_as_any(broker):
    async with consuming(broker, lambda _: None, BOTH):
        await Producer(broker, "s").publish(Event("t", 1, subject="k"))
        await asyncio.sleep(1.5)
        before = (await broker.control.call("INFO", "stats")).decode()
        await asyncio.sleep(2.0)
        after = (await broker.control.call("INFO", "stats")).decode()

    def commands(text: str) -> int:
        return int(text.partition("total_commands_processed:")[2].split()[0])

    # A script counts its own commands, too: a handful per look.
    assert commands(after) - commands(before) <= 120


# --- what goes wrong


async def test_a_killed_worker_keeps_the_place_of_what_it_held(broker):
    """Its entry stalls, is retried, and only then the next of the key starts."""
    made = await fetching(broker, BY_SUBJECT, "killed", 0.3)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(3)
    )
    (first,) = await made.take(10)
    done: list[object] = []

    async def handle(event: Event) -> None:
        done.append((event.data, event.attempt))

    options = ReclaimerOptions(lease=0.3, interval=0.1, lanes=BY_SUBJECT)
    reclaimer = Reclaimer(broker, "s", "g", Retry(delay=0.0, jitter=0.0), options)
    sweeping = asyncio.create_task(reclaimer.run())
    async with consuming(broker, handle, BY_SUBJECT, lease=0.3):
        await eventually(lambda: len(done) == 3)
    reclaimer.stop()
    await sweeping
    assert done == [(0, 2), (1, 1), (2, 1)]
    assert first.count == 2


async def test_a_head_that_dies_of_stalls_lets_its_key_go_on(broker):
    made = await fetching(broker, BY_SUBJECT, "killed", 0.3)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k", max_retries=0) for n in range(2)
    )
    reclaimer = Reclaimer(
        broker, "s", "g", None, ReclaimerOptions(lease=0.3, lanes=BY_SUBJECT)
    )
    (first,) = await made.take(10)
    for stalls in range(2):
        await asyncio.sleep(0.35)
        await reclaimer.sweep()
        assert await DeadLetters(broker, "s", "g").count() == stalls
        assert len(await made.take_alone(f"0|{first.entry_id}")) == 1 - stalls
    (second,) = await made.take(10)
    assert second.entry_id > first.entry_id


async def test_a_cancelled_head_lets_its_key_go_on(broker):
    history = History()

    async def handle(event: Event) -> None:
        if event.data == 0:
            raise RuntimeError
        async with history.attempt(event):
            pass

    receipts = await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(3)
    )
    async with consuming(broker, handle, BY_SUBJECT, retry=Retry(delay=60.0)) as (
        consumer,
    ):
        await eventually(lambda: consumer.stats.retried == 1)
        await Cancellations(broker, "s").cancel(receipts[0].event_id)
        await eventually(lambda: len(history.done) == 2)
    assert await left(broker) == {"rules"}


async def test_a_head_that_is_still_pending_is_not_followed(broker):
    """Its acknowledgement was refused, or its lease is lost and somebody else has it."""
    made = await fetching(broker, BY_SUBJECT)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(2)
    )
    (first,) = await made.take(10)
    place = LaneKeys.of(broker.keys("s"), Levels(), "g")
    command = follow(place, "g", Ways(BY_SUBJECT), [first], [])
    assert command is not None
    assert await broker.control.send(command) == [0, 1]
    assert await made.take(10) == []
    await broker.control.call("XACK", broker.keys("s").level(0), "g", first.entry_id)
    assert await broker.control.send(command) == [1, 0]
    assert len(await made.take(10)) == 1


@pytest.mark.parametrize("lost", ["heads", "behind", "lane:0", "ring:0"])
async def test_lost_rows_are_found_again(broker, lost):
    made = await fetching(broker, BOTH)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"k{n % 3}", tenant="a") for n in range(12)
    )
    await made.take(0)
    await broker.control.call("UNLINK", f"{broker.namespace}:{{s}}:g:{lost}")
    mending = LaneRepair(broker, broker.keys("s"), Levels(), "g", Ways(BOTH))
    restored = sum([(await mending.mend())[1] for _ in range(3)])
    assert restored > 0
    assert await mending.mend() == (0, 0)
    history = History()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await asyncio.sleep(0.001)

    async with consuming(broker, handle, BOTH):
        await eventually(lambda: len(history.done) == 12)
    assert not history.clashes
    assert await left(broker) == {"rules"}


async def test_a_server_without_memory_goes_on(broker, server):
    made = await fetching(broker, BOTH)
    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"k{n % 3}", tenant="a") for n in range(12)
    )
    done: list[object] = []

    async def handle(event: Event) -> None:
        done.append(event.data)

    await broker.control.call("CONFIG", "SET", "maxmemory", "1")
    try:
        async with consuming(broker, handle, BOTH):
            await eventually(lambda: len(done) == 12)
    finally:
        await broker.control.call("CONFIG", "SET", "maxmemory", "0")
    assert made is not None


async def test_entries_that_vanish_while_they_wait_are_counted(broker):
    made = await fetching(broker, BY_TENANT)
    receipts = await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a") for n in range(3)
    )
    await made.take(0)
    await broker.control.call("XDEL", broker.keys("s").level(0), receipts[1].entry_id)
    assert len(await made.take(10)) == 2
    assert made.take_vanished() == 1
    pending = await broker.control.call(
        "XPENDING", broker.keys("s").level(0), "g", "-", "+", 10
    )
    assert [row[1] for row in pending] == [b"c", b"c"]


# --- the server makes the same key as the library


TEXTS = st.text(
    st.characters(exclude_categories=("Cs",)), max_size=12
) | st.sampled_from(["x" * 200, "x" * 201, "é" * 150])


@pytest.mark.one_server
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), st.data())
async def test_server_and_library_agree_on_keys(broker, pairs, data):
    lanes = Lanes(order_by=("subject", "key"))
    made = await fetching(broker, lanes)
    fields = [
        (
            b"type",
            b"t",
            b"data",
            b"1",
            b"meta",
            json.dumps({"subject": a, "key": b}, ensure_ascii=False).encode(),
        )
        for a, b in pairs
    ]
    for each in fields:
        await broker.control.call("XADD", broker.keys("s").level(0), "*", *each)
    await made.take(0)
    stored = await broker.control.call("HGETALL", broker.keys("s").heads("g"))
    assert {name.decode() for name in stored[::2]} == {
        key for each in fields if (key := lanes.order_key(each))
    }
    await broker.control.call("FLUSHALL")


# --- declaring


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"order_by": "nobody"}, "order_by is one or several of"),
        (
            {"order_by": lambda e: e.subject},
            "a function can only make the key of a Limit",
        ),
        ({"order_by": ("key", "key")}, "twice"),
        ({"fair_by": "nobody"}, "fair_by is one or several of"),
        ({"order_by": "key", "on_dead": "stop"}, "on_dead is"),
        ({"on_dead": "hold"}, "give order_by too"),
        ({"fair_weights": {"a": 2}}, "give fair_by too"),
        ({"fair_by": "tenant", "fair_weights": {"a": 0}}, "from 1 to 1000"),
        ({"fair_by": "tenant", "fair_weights": {1: 2}}, "texts to integers"),
    ],
)
def test_bad_declarations_are_refused(options, match):
    with pytest.raises(ConfigurationError, match=match):
        Pipeline("memory://").handler("s", group="g", **options)(lambda _: None)


def test_handlers_of_a_group_line_up_alike():
    pipeline = Pipeline("memory://")
    pipeline.handler("s", group="g", types=["a"], order_by="key")(lambda _: None)
    with pytest.raises(ConfigurationError, match="give every handler of it the same"):
        pipeline.handler("s", group="g", types=["b"])(lambda _: None)
    pipeline.handler("s", group="g", types=["b"], order_by="key")(lambda _: None)
    assert pipeline.plans[0].lanes == Lanes(order_by=("key",))


def test_the_waiting_consumer_cannot_be_a_worker():
    assert WAITING.startswith("-")
