"""The scheduler on a real server: when delayed events enter their stream, how often, and where."""

from __future__ import annotations

import asyncio
import contextlib
import random

from streams import Broker, Event, Levels, Producer, ProducerOptions, Scheduler
from tests.conftest import eventually

LEVELS = (0, 1, 5, 10)


async def stored(broker: Broker, level: int = 0) -> list[tuple[int, int, str]]:
    """Milliseconds of the entry id, body and event id of what a level holds."""
    rows = await broker.control.call("XRANGE", broker.keys("s").level(level), "-", "+")
    return [
        (int(i.partition(b"-")[0]), int(fields[5]), fields[3].decode())
        for i, fields in rows
    ]


async def server_ms(broker: Broker) -> int:
    seconds, micros = await broker.control.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def arrived(broker: Broker, n: int, levels: tuple[int, ...] = LEVELS):
    async def there() -> bool:
        keys = broker.keys("s")
        return (
            sum(
                await broker.control.batch(
                    [("XLEN", keys.level(level)) for level in levels]
                )
            )
            == n
        )

    return there


@contextlib.asynccontextmanager
async def scheduling(*schedulers: Scheduler):
    tasks = [asyncio.create_task(scheduler.run()) for scheduler in schedulers]
    try:
        yield
    finally:
        for scheduler in schedulers:
            scheduler.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def leftovers(broker: Broker) -> int:
    return await broker.control.call(
        "EXISTS", broker.keys("s").scheduled(), broker.keys("s").scheduled_fields()
    )


async def test_events_arrive_in_the_order_of_their_due_times_and_never_early(broker):
    producer = Producer(broker, "s")
    delays = [0.25, 0.05, 0.15, 0.1, 0.2]
    published = await server_ms(broker)
    # In one call, so that their due times are as far from each other as their delays are.
    receipts = await producer.publish_many(
        Event("t", n, delay=delay) for n, delay in enumerate(delays)
    )
    receipts.append(await producer.publish(5, type="t", delay=0.05))
    assert {receipt.entry_id for receipt in receipts} == {""}
    async with scheduling(Scheduler(broker, "s")):
        await eventually(arrived(broker, 6), what="all events")
    found = {n: at for at, n, _ in await stored(broker)}
    assert [n for n in found if n < 5] == sorted(range(5), key=lambda n: delays[n])
    for at, delay in ((found[n], delay) for n, delay in enumerate([*delays, 0.05])):
        assert at >= published + delay * 1000
    assert await leftovers(broker) == 0


async def test_equal_delays_keep_the_order_of_publishing(broker):
    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, delay=0.1) for n in range(600))
    for n in range(600, 650):
        await producer.publish(
            n, type="t", delay=0.1, **({"dedup_id": f"d{n}"} if n % 2 else {})
        )
    async with scheduling(Scheduler(broker, "s")):
        await eventually(arrived(broker, 650), what="all events")
    assert [n for _, n, _ in await stored(broker)] == list(range(650))


async def test_each_event_is_moved_once_whoever_comes_first(server, broker, namespace):
    rng = random.Random(5)
    async with (
        Broker(server.url, namespace=namespace) as second,
        Broker(server.url, namespace=namespace) as third,
    ):
        schedulers = [Scheduler(b, "s") for b in (broker, second, third)]
        receipts = await Producer(broker, "s").publish_many(
            Event("t", n, delay=rng.uniform(0.001, 0.3), priority=LEVELS[n % 4])
            for n in range(800)
        )
        async with scheduling(*schedulers):
            await eventually(
                lambda: sum(s.promoted for s in schedulers) >= 800, what="all events"
            )
            assert await leftovers(broker) == 0
    assert sum(scheduler.promoted for scheduler in schedulers) == 800
    for at, level in enumerate(LEVELS):
        found = await stored(broker, level)
        assert sorted(n for _, n, _ in found) == list(range(at, 800, 4))
        assert {event_id for _, _, event_id in found} == {
            receipt.event_id for receipt in receipts[at::4]
        }


async def test_fields_arrive_as_they_were_published(broker):
    await Producer(broker, "s").publish(
        b"\x00\xff", type="t", delay=0.01, id="ä", key="k", priority=5
    )
    async with scheduling(Scheduler(broker, "s")):
        await eventually(arrived(broker, 1, (5,)), what="the event")
    ((_, fields),) = await broker.control.call(
        "XRANGE", broker.keys("s").level(5), "-", "+"
    )
    assert fields[:7] == [
        b"type",
        b"t",
        b"id",
        "ä".encode(),
        b"data",
        b"\x00\xff",
        b"meta",
    ]
    assert b'"key":"k"' in fields[7]


async def test_it_survives_a_script_flush(broker):
    scheduler = Scheduler(broker, "s")
    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, delay=0.02 * n + 0.01) for n in range(8))
    async with scheduling(scheduler):
        for n in range(8):
            await broker.control.call("SCRIPT", "FLUSH")
            await eventually(lambda: scheduler.promoted > n, what="the event")  # noqa: B023
    assert [n for _, n, _ in await stored(broker)] == list(range(8))


async def test_an_event_of_a_level_that_is_gone_is_served_on_the_highest(broker):
    levels = ProducerOptions(levels=Levels((0, 7)))
    await Producer(broker, "s", levels).publish(1, type="t", priority=7, delay=0.01)
    async with scheduling(Scheduler(broker, "s", Levels((0, 3)))):
        await eventually(arrived(broker, 1, (3,)), what="the event")
    assert await leftovers(broker) == 0


async def test_streams_do_not_mix(broker):
    await Producer(broker, "s").publish(1, type="t", delay=0.01)
    await Producer(broker, "other").publish(2, type="t", delay=0.01)
    async with scheduling(Scheduler(broker, "s")):
        await eventually(arrived(broker, 1), what="the event")
    assert await broker.control.call("ZCARD", broker.keys("other").scheduled()) == 1
    assert [n for _, n, _ in await stored(broker)] == [1]


async def test_stop_does_not_wait_for_the_next_look(broker):
    scheduler = Scheduler(broker, "s")
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0.05)
    scheduler.stop()
    await asyncio.wait_for(running, 0.5)
