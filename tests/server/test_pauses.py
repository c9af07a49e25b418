"""What pauses hold: each scope, due retries, workers that are busy or idle, and what a pause costs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter

import pytest

from streams import Broker, Consumer, ConsumerOptions, Event, Pauses, Producer, Retry
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Postponed, Settling
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.pausing import LEVELS, group_of

SOON = 1.0
"""Seconds within which a pause or its end must be felt."""


class Worker:
    """A consumer of stream ``s`` that keeps what it started."""

    def __init__(
        self, broker: Broker, group: str = "g", seconds: float = 0.0, **options
    ) -> None:
        self.seconds = seconds
        self.started: list[tuple[int, object, int]] = []
        self.at: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.consumer = Consumer(
            broker,
            "s",
            group,
            Route(self.handle, retry=Retry(delay=0.0, jitter=0.0)),
            ConsumerOptions(**options),
        )

    async def handle(self, event: Event) -> None:
        self.at.append(time.monotonic())
        self.started.append((event.priority, event.data, event.attempt))
        await self.gate.wait()
        if self.seconds:
            await asyncio.sleep(self.seconds)

    def count(self, level: int | None = None) -> int:
        return sum(level in (None, found) for found, _, _ in self.started)

    async def __aenter__(self) -> Worker:
        self.task = asyncio.create_task(self.consumer.run())
        return self

    async def __aexit__(self, *_) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def parked(
    broker: Broker, fetching: Fetching, count: int, level: int, record: bytes = b""
) -> list[Delivery]:
    """Due retries of a level."""
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=level) for n in range(count)
    )
    taken = await fetching.take(count)
    assert {delivery.level for delivery in taken} == {level}
    settling = Settling(GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "c"))
    await settling.settle((), [Postponed(delivery, 0, record) for delivery in taken])
    return taken


# --- what consumers are given


@pytest.mark.parametrize(
    ("where", "held"),
    [
        ({}, {10, 5, 1, 0}),
        ({"group": "g"}, {10, 5, 1, 0}),
        ({"group": "h"}, set()),
        ({"level": 5}, {5}),
        ({"group": "g", "level": 1}, {1}),
        ({"group": "h", "level": 1}, set()),
    ],
)
async def test_each_scope_holds_what_it_names(broker, where, held):
    fetching = await group_of(broker)
    await group_of(broker, "h")
    for level in LEVELS.ascending:
        await parked(broker, fetching, 2, level)
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=n) for n in LEVELS.ascending
    )
    await Pauses(broker, "s").pause(**where)
    reply = await fetching.take_due(100, 1)
    assert reply.paused == held
    assert Counter(d.level for d in reply.deliveries) == {
        level: 2 for level in LEVELS.ascending if level not in held
    }
    fetching.hold(reply.paused)
    assert set(fetching.open_levels) == set(LEVELS.ascending) - held
    if len(held) < 4:
        new = await fetching.take(100)
        assert {d.level for d in new} == set(LEVELS.ascending) - held
        await Producer(broker, "s").publish_many(
            Event("t", n, priority=n) for n in LEVELS.ascending
        )
        taken, _ = await fetching.take_from(fetching.open_levels[-1], 100)
        assert {d.level for d in taken} == set(fetching.open_levels)
        await Producer(broker, "s").publish_many(
            Event("t", n, priority=n) for n in LEVELS.ascending
        )
        assert {d.level for d in await fetching.wait(10, 0.2)} == set(
            fetching.open_levels
        )
    await Pauses(broker, "s").resume(**where)
    got = []
    for _ in range(2):
        reply = await fetching.take_due(100, 1)
        assert not reply.paused
        fetching.hold(reply.paused)
        got += reply.deliveries
    assert Counter(d.level for d in got) == dict.fromkeys(held, 2)
    assert {d.level for d in await fetching.take(100)} == held


async def test_due_retries_of_a_paused_level_hide_no_others(broker):
    """However many: each call walks over a thousand, and says that it is worth to come back at once."""
    fetching = await group_of(broker)
    many, few = (
        await parked(broker, fetching, 2500, 5),
        await parked(broker, fetching, 3, 1),
    )
    await Pauses(broker, "s").pause(level=5)
    got: list[Delivery] = []
    for calls in itertools.count(1):
        reply = await fetching.take_due(10, 1)
        got += reply.deliveries
        if reply.next_due is None:
            break
        assert calls < 10
    assert {d.place for d in got} == {d.place for d in few}
    # Walked over once: what is set later is found by the first look.
    began = await commands(broker)
    assert (await fetching.take_due(10, 1)).next_due is None
    assert await commands(broker) - began < 10
    (later,) = await parked(broker, fetching, 1, 1)
    assert [d.place for d in (await fetching.take_due(10, 1)).deliveries] == [
        later.place
    ]
    await Pauses(broker, "s").resume(level=5)
    fetching.hold((await fetching.take_due(10, 1)).paused)
    back = (await fetching.take_due(5000, 1)).deliveries
    assert {d.place for d in back} == {d.place for d in many}
    assert {d.count for d in back} == {2}


async def commands(broker: Broker) -> int:
    info = await broker.control.call("INFO", "stats")
    return int(info.partition(b"total_commands_processed:")[2].split()[0])


async def test_due_retries_of_one_moment_hide_no_others(broker):
    fetching = await group_of(broker)
    await parked(broker, fetching, 2500, 5)
    await parked(broker, fetching, 1, 0)
    rows = await broker.control.call("ZRANGE", broker.keys("s").retry("g"), 0, -1)
    for row in rows:
        await broker.control.call("ZADD", broker.keys("s").retry("g"), 7, row)
    await Pauses(broker, "s").pause(level=5)
    got = [
        delivery
        for _ in range(5)
        for delivery in (await fetching.take_due(10, 1)).deliveries
    ]
    assert [d.level for d in got] == [0]


async def test_a_waiting_suspect_is_not_walked_over(broker):
    fetching = await group_of(broker)
    await parked(broker, fetching, 5, 5)
    await parked(broker, fetching, 2, 1, b'{"stalls":1,"suspect":true}')
    await parked(broker, fetching, 2, 0)
    await Pauses(broker, "s").pause(level=5)
    assert [d.level for d in (await fetching.take_due(10, 0)).deliveries] == [0, 0]
    assert [d.level for d in (await fetching.take_due(10, 1)).deliveries] == [1]
    assert [d.level for d in (await fetching.take_due(10, 1)).deliveries] == [1]
    assert (await fetching.take_due(10, 1)).next_due is None


async def test_a_clock_that_was_set_back_hides_nothing_for_long(broker):
    fetching = await group_of(broker)
    await parked(broker, fetching, 2, 5)
    await Pauses(broker, "s").pause(level=5)
    assert (await fetching.take_due(10, 1)).deliveries == []
    (early,) = await parked(broker, fetching, 1, 0)
    await broker.control.call(
        "ZADD", broker.keys("s").retry("g"), 1, f"0|{early.entry_id}"
    )
    assert (await fetching.take_due(10, 1)).deliveries == []
    await fetching.hand_back_unknown([])
    assert [d.place for d in (await fetching.take_due(10, 1)).deliveries] == [
        early.place
    ]


async def test_the_next_due_time_is_that_of_an_open_level(broker):
    fetching = await group_of(broker)
    held, other = (
        *(await parked(broker, fetching, 1, 5)),
        *(await parked(broker, fetching, 1, 0)),
    )
    await broker.connect()
    for delivery, seconds in ((held, 10), (other, 20)):
        at = round((broker.clock.now() + seconds) * 1000)
        member = f"{delivery.level}|{delivery.entry_id}"
        await broker.control.call("ZADD", broker.keys("s").retry("g"), at, member)
    assert 9 < (await fetching.take_due(10, 1)).next_due - broker.clock.now() < 11
    await Pauses(broker, "s").pause(level=5)
    assert 19 < (await fetching.take_due(10, 1)).next_due - broker.clock.now() < 21
    await Pauses(broker, "s").pause()
    assert (await fetching.take_due(10, 1)).next_due is None


# --- consumers


async def test_full_busy_and_idle_workers_hold_and_go_on(broker, caplog):
    """Whatever they do when it comes: within a second nothing starts any more, and within a second it goes on."""
    caplog.set_level(logging.INFO, "streams.consumer")
    producer = Producer(broker, "s")
    await group_of(broker, "idle")
    await group_of(broker, "busy")
    async with (
        Worker(broker, "full", concurrency=5) as full,
        Worker(broker, "idle") as idle,
    ):
        full.gate.clear()
        await producer.publish_many(range(20), type="t")
        await eventually(lambda: full.count() == 5 and idle.count() == 20, what="work")
        async with Worker(broker, "busy", concurrency=5, seconds=0.01) as busy:
            await producer.publish_many(range(1000), type="t")
            await eventually(
                lambda: busy.count() > 50 and idle.count() == 1020, what="work"
            )
            asked = time.monotonic()
            await Pauses(broker, "s").pause()
            await eventually(
                lambda: len(idle.consumer.paused) == len(busy.consumer.paused) == 4,
                what="the pause",
            )
            assert time.monotonic() - asked < SOON
            # Places are free again: what was running ends, what waits is not begun.
            full.gate.set()
            await producer.publish_many(range(10), type="t", priority=10)
            await eventually(lambda: full.consumer.busy == busy.consumer.busy == 0)
            before = [full.count(), busy.count(), idle.count()]
            assert before[0] == 5
            assert 50 < before[1] < 1000
            assert before[2] == 1020
            await asyncio.sleep(0.7)
            assert [full.count(), busy.count(), idle.count()] == before
            asked = time.monotonic()
            await Pauses(broker, "s").resume()
            await eventually(
                lambda: full.count() == busy.count() == idle.count() == 1030,
                what="the rest",
                seconds=20,
            )
            for worker, count in zip((full, busy, idle), before, strict=True):
                assert worker.at[count] - asked < SOON
                assert [
                    level for level, _, _ in worker.started[count : count + 10]
                ] == [10] * 10
    assert {
        attempt for _, _, attempt in full.started + busy.started + idle.started
    } == {1}
    lines = Counter(
        (r.streams_message, r.where)
        for r in caplog.records
        if r.streams_message in ("paused", "resumed")
    )
    assert lines == {
        (what, where): 1
        for what in ("paused", "resumed")
        for where in ("s/full", "s/busy", "s/idle")
    }


async def test_a_paused_level_stands_still_while_the_others_go_on(broker):
    producer = Producer(broker, "s")
    await group_of(broker)
    await Pauses(broker, "s").pause(level=10)
    async with Worker(broker) as worker:
        for batch in range(1, 4):
            await producer.publish_many(
                Event("t", n, priority=LEVELS.ascending[n % 4]) for n in range(40)
            )
            await eventually(
                lambda n=batch: worker.count() == 30 * n, what="the open levels"
            )
        assert worker.count(10) == 0
        await Pauses(broker, "s").resume(level=10)
        await eventually(
            lambda: worker.count(10) == 30, what="the level to go on", seconds=SOON
        )


async def test_a_worker_that_starts_in_a_pause_holds_from_the_start(broker):
    fetching = await group_of(broker)
    await parked(broker, fetching, 3, 1)
    await Producer(broker, "s").publish_many(range(3), type="t")
    await Pauses(broker, "s").pause(group="g")
    async with Worker(broker) as worker:
        await eventually(lambda: len(worker.consumer.paused) == 4)
        await asyncio.sleep(0.6)
        assert worker.count() == 0
        await Pauses(broker, "s").resume(group="g")
        await eventually(lambda: worker.count() == 6, seconds=SOON)
    assert sorted(attempt for _, _, attempt in worker.started) == [1] * 6


@pytest.mark.one_server
async def test_a_paused_worker_is_cheap_and_held_retries_do_not_wake_it(broker):
    """At most five commands a second, with everything paused and with a level whose retries become due all the time."""
    fetching = await group_of(broker)
    held = await parked(broker, fetching, 200, 5)
    await broker.connect()
    now = broker.clock.now() * 1000
    for n, delivery in enumerate(held):
        at = round(now + 20 * n)
        await broker.control.call(
            "ZADD", broker.keys("s").retry("g"), at, f"5|{delivery.entry_id}"
        )
    for scope in ({"level": 5}, {}):
        await Pauses(broker, "s").pause(**scope)
        async with Worker(broker, lease=60.0) as worker:
            await eventually(lambda w=worker: w.consumer.paused)
            await asyncio.sleep(0.2)
            began, before = time.monotonic(), await scripts_and_reads(broker)
            await asyncio.sleep(1.5)
            rate = (await scripts_and_reads(broker) - before) / (
                time.monotonic() - began
            )
            assert worker.count() == 0
        assert 1 <= rate <= 5.5, scope


async def scripts_and_reads(broker: Broker) -> int:
    """Commands that came from outside: scripts, and reads that are not a script's own."""
    info = (await broker.control.call("INFO", "commandstats")).decode()
    counts = {
        line.split(":")[0]: int(line.split("calls=")[1].split(",")[0])
        for line in info.splitlines()
        if "calls=" in line
    }
    return counts.get("cmdstat_evalsha", 0) + counts.get("cmdstat_xreadgroup", 0)
