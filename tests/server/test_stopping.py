"""How a consumer stops: what may finish, what is given back, and what stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import pytest

from streams import Consumer, ConsumerOptions, Event, Producer, Retry
from streams.broker.keys import PARKED
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.consuming import _short_polls as _short_polls
from tests.server.consuming import consuming, gone, held, idle, length, pending
from tests.server.consuming import real_polls as real_polls


async def test_stop_lets_running_handlers_finish_and_starts_nothing(broker):
    gate = asyncio.Event()
    started, ended = [], []

    async def handler(event: Event) -> None:
        started.append(event.data)
        await gate.wait()
        ended.append(event.data)

    await Producer(broker, "s").publish_many(range(10), type="t")
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(concurrency=2))
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: len(started) == 2, what="two starts")
    consumer.stop(grace=30)
    gate.set()
    await asyncio.wait_for(task, 5)
    assert started == ended == [0, 1]
    assert consumer.stats.done == 2
    assert await length(broker) == 8
    assert await held(broker, consumer.name) == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_what_does_not_finish_is_given_back_free_of_charge(broker, twice):
    started = []

    async def handler(event: Event) -> None:
        started.append(event.data)
        await asyncio.sleep(60)

    await Producer(broker, "s").publish_many(range(3), type="t")
    consumer = Consumer(
        broker,
        "s",
        "g",
        Route(handler, retry=Retry(max_retries=0)),
        ConsumerOptions(concurrency=2),
    )
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: len(started) == 2, what="two starts")
    consumer.stop(grace=60 if twice else 0.05)
    if twice:
        consumer.stop()
    await asyncio.wait_for(task, 5)
    assert consumer.stats.released == 2
    assert [(owner, count) for _, owner, _, count in await pending(broker)] == [
        (PARKED, 1)
    ] * 2
    again = []

    async def second(event: Event) -> None:
        again.append((event.data, event.attempt))

    async with consuming(broker, second):
        await eventually(gone(broker), what="the next worker")
    assert sorted(again) == [(0, 1), (1, 1), (2, 1)]


async def test_a_stop_names_what_it_gives_back_and_since_when_that_ran(broker, caplog):
    started = []

    async def handler(event: Event) -> None:
        started.append(event.id)
        await asyncio.sleep(60)

    await Producer(broker, "s").publish_many(range(23), type="t")
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(concurrency=30))
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: len(started) == 23, what="the starts")
    caplog.set_level(logging.INFO, "streams")
    began = time.monotonic()
    await eventually(lambda: time.monotonic() - began > 0.3)
    consumer.stop(grace=0.0)
    await asyncio.wait_for(task, 5)
    *named, rest = [record for record in caplog.records if "given back" in record.msg]
    assert [record.event_id for record in named] == started[:20]
    assert {
        (record.event_type, record.where, record.levelname) for record in named
    } == {("t", "s/g", "WARNING")}
    assert all(record.handler.startswith("test_stopping.py:") for record in named)
    assert all(record.handler.endswith(" in handler") for record in named)
    assert all(0.1 <= record.seconds < 5 for record in named)
    assert rest.count == 3
    assert consumer.stats.released == 23


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_exit(
    broker,
):
    release = asyncio.Event()
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    await Producer(broker, "s").publish(1, type="t")
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(cancel_grace=0.05))
    task = asyncio.create_task(consumer.run())
    await started.wait()
    consumer.stop(grace=0.0)
    await asyncio.wait_for(task, 5)
    assert consumer.stats.abandoned == len(consumer.abandoned) == 1
    assert [(owner, count) for _, owner, _, count in await pending(broker)] == [
        (PARKED, 1)
    ]
    (left,) = consumer.abandoned
    release.set()
    await left
    assert len(await pending(broker)) == 1  # Its late return acknowledges nothing.


@pytest.mark.one_server
async def test_stop_while_idle_ends_soon(broker, real_polls):
    async def handler(event: Event) -> None:
        pass

    consumer = Consumer(broker, "s", "g", handler)
    task = asyncio.create_task(consumer.run())
    await eventually(idle(broker), what="the consumer to wait")
    before = time.monotonic()
    consumer.stop()
    await asyncio.wait_for(task, 5)
    assert time.monotonic() - before < 1.5


async def test_cancelled_again_and_again_it_leaves_nobody_who_holds_its_entries(broker):
    """A thread that went on renewing would keep what the consumer held from everybody, for as long as the process."""
    before = set(threading.enumerate())
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    await Producer(broker, "s").publish(1, type="t")
    running = asyncio.create_task(
        Consumer(broker, "s", "g", handler, ConsumerOptions(lease=0.6)).run()
    )
    await started.wait()
    while not running.done():
        running.cancel()
        await asyncio.sleep(0)
    mine = [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name == "streams-leases"
    ]
    await eventually(
        lambda: not any(thread.is_alive() for thread in mine), what="the thread to end"
    )


async def test_stops_in_order_leave_no_consumer_behind(broker):
    """Each start has a name of its own, and each name would stay in the group for good."""
    seen = set()

    async def names() -> set[str]:
        rows = await broker.control.call(
            "XINFO", "CONSUMERS", broker.keys("s").level(0), "g"
        )
        return {row[1].decode() for row in rows}

    async def handler(event: Event) -> None:
        seen.update(await names())

    for n in range(20):
        await Producer(broker, "s").publish(n, type="t")
        consumer = Consumer(
            broker, "s", "g", handler, ConsumerOptions(name=f"worker-{n}")
        )
        running = asyncio.create_task(consumer.run())
        await eventually(
            lambda consumer=consumer: consumer.stats.done == 1,
            what="the event to be handled",
        )
        consumer.stop()
        await running
    assert {f"worker-{n}" for n in range(20)} <= seen
    assert not {name for name in await names() if name.startswith("worker-")}
