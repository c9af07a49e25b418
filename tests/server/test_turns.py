"""Weighted levels and the longest wait: who is started when, counted on a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from streams import (
    Broker,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    Event,
    Producer,
)
from tests.conftest import eventually

WEIGHTS = {10: 8, 5: 4, 1: 2, 0: 1}


@contextlib.asynccontextmanager
async def consuming(broker: Broker, handler, **options):
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(**options))
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def fill(broker: Broker, count: int, *levels: int) -> None:
    for level in levels:
        await Producer(broker, "s").publish_many(
            (level for _ in range(count)), type="t", priority=level
        )


async def test_what_is_read_by_turns_is_known_to_the_loss_watch(broker):
    """A worker that lives through an outage compares with the newest that it was given."""
    await fill(broker, 3, *WEIGHTS)
    consumer = Consumer(
        broker, "s", "g", lambda _: None, ConsumerOptions(weights=WEIGHTS)
    )
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.stats.done == 12, what="all to be handled")
    consumer.stop()
    await running
    newest = consumer.take_delivered()
    for level in WEIGHTS:
        key = broker.keys("s").level(level)
        last = dict(await xinfo(broker, key))[b"last-generated-id"]
        assert newest[level] == last
    assert consumer.take_delivered() == {}


async def xinfo(broker: Broker, key: str) -> list[tuple[bytes, bytes]]:
    reply = await broker.control.call("XINFO", "STREAM", key)
    return list(zip(reply[::2], reply[1::2], strict=True))


@pytest.mark.parametrize("concurrency", [1, 7, 50])
async def test_levels_with_work_get_their_shares(broker, concurrency):
    await fill(broker, 600, *WEIGHTS)
    started: list[int] = []

    async def handler(event: Event) -> None:
        started.append(event.priority)
        await asyncio.sleep(0)

    async with consuming(broker, handler, concurrency=concurrency, weights=WEIGHTS):
        await eventually(lambda: len(started) >= 600, what="enough starts")
    counts = Counter(started[:600])
    for level, weight in WEIGHTS.items():
        assert abs(counts[level] - 600 * weight / 15) <= 12, counts


async def test_what_a_level_leaves_goes_to_the_others(broker):
    await fill(broker, 200, 5, 0)
    started: list[int] = []

    async def handler(event: Event) -> None:
        started.append(event.priority)
        await asyncio.sleep(0)

    async with consuming(broker, handler, concurrency=20, weights=WEIGHTS):
        await eventually(lambda: len(started) == 400, what="all")
    assert abs(Counter(started[:200])[0] - 200 / 5) <= 12
    assert set(started[320:]) == {0}


async def test_without_weights_the_highest_level_goes_first(broker):
    await fill(broker, 50, *WEIGHTS)
    started: list[int] = []

    async def handler(event: Event) -> None:
        started.append(event.priority)

    async with consuming(broker, handler, concurrency=1):
        await eventually(lambda: len(started) == 200, what="all")
    assert started == [10] * 50 + [5] * 50 + [1] * 50 + [0] * 50


async def waited(broker: Broker, seconds: float) -> None:
    """Until the server's clock is so much later."""
    await broker.connect()
    until = broker.clock.now() + seconds
    while broker.clock.now() < until:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
async def test_the_overdue_get_every_second_place_under_a_flood(broker, weights):
    await fill(broker, 5, 0)
    await waited(broker, 0.01)
    await fill(broker, 5, 1)
    await waited(broker, 0.3)
    await fill(broker, 300, 10)
    started: list[int] = []

    async def handler(event: Event) -> None:
        started.append(event.priority)
        if event.priority == 10:
            await flood.publish(10, type="t", priority=10)  # It never ends.

    flood = Producer(broker, "s")
    async with consuming(
        broker, handler, concurrency=1, max_wait=0.25, weights=weights
    ):
        await eventually(lambda: len(started) >= 22, what="enough starts")
    # Oldest first: level 0 was published before level 1. The first place is theirs, then every second one.
    if weights is None:
        assert started[:20:2] == [0] * 5 + [1] * 5
        assert started[1:20:2] == [10] * 10
    else:  # The other places are given by weight, to the same levels among others.
        assert Counter(started[:20])[0] == Counter(started[:20])[1] == 5


async def test_what_is_not_overdue_waits_its_turn(broker):
    await fill(broker, 5, 0)
    await fill(broker, 50, 10)
    started: list[int] = []

    async def handler(event: Event) -> None:
        started.append(event.priority)

    async with consuming(broker, handler, concurrency=1, max_wait=600.0):
        await eventually(lambda: len(started) == 55, what="all")
    assert started == [10] * 50 + [0] * 5


async def test_many_overdue_take_half_of_a_read_and_no_more(broker):
    await fill(broker, 100, 0)
    await waited(broker, 0.2)
    await fill(broker, 100, 10)
    release, running = asyncio.Event(), []

    async def handler(event: Event) -> None:
        running.append(event.priority)
        await release.wait()

    async with consuming(broker, handler, concurrency=40, max_wait=0.15) as consumer:
        await eventually(lambda: len(running) == 40, what="every slot")
        assert Counter(running) == {0: 20, 10: 20}
        release.set()
        await eventually(lambda: consumer.stats.done == 200, what="all")


@pytest.mark.parametrize(
    "options",
    [
        {"weights": {10: 1}},
        {"weights": {10: 0, 5: 1, 1: 1, 0: 1}},
        {"weights": {10: 1.5, 5: 1, 1: 1, 0: 1}},
        {"max_wait": 0},
        {"max_wait": float("nan")},
        {"max_wait": True},
    ],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ConfigurationError, match=r"weights|max_wait"):
        ConsumerOptions(**options)
