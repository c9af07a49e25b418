"""Sweepers, one at a time, and consumers that nobody has any more."""

from __future__ import annotations

import asyncio

from streams import Broker, Consumer, ConsumerOptions, Levels, Producer, Retry
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.reclaim import Reclaiming
from streams.broker.entries.settle import Settling
from streams.broker.keys import PARKED
from streams.errors import GroupMissing
from tests.conftest import eventually
from tests.server.stalling import LEVELS, fetch, owners, reclaimer, stall


async def consumers(broker: Broker, level: int = 0) -> set[str]:
    rows = await broker.control.call(
        "XINFO", "CONSUMERS", broker.keys("s").level(level), "g"
    )
    return {
        dict(zip(row[::2], row[1::2], strict=True))[b"name"].decode() for row in rows
    }


async def test_one_sweeper_at_a_time(broker):
    producer = Producer(broker, "s")
    one, two = (
        reclaimer(broker, name="one", interval=10),
        reclaimer(broker, name="two", interval=10),
    )
    await producer.publish(1, type="t")
    await stall(broker)
    await one.sweep()
    await producer.publish(2, type="t")
    await stall(broker, "crashed too")
    await two.sweep()
    assert (one.stalled, two.stalled) == (1, 0)
    await one.sweep()
    assert (one.stalled, two.stalled) == (3, 0)


async def test_one_sweeps_for_as_long_as_it_is_heard_of(broker):
    first, second = (
        reclaimer(broker, Retry(max_retries=9), name=name, interval=20.0)
        for name in ("one", "two")
    )
    await fetch(broker, "alive")
    for n in range(3):
        await Producer(broker, "s").publish(n, type="t")
        await stall(broker)
        if n:
            await second.sweep()
        await first.sweep()
        assert first.stalled > n
    assert second.stalled == 0
    before = first.stalled
    await Producer(broker, "s").publish(3, type="t")
    await stall(broker)
    # As if its time had passed.
    await broker.control.call("HSET", broker.keys("s").sweep("g"), "until", 1)
    await second.sweep()
    assert first.stalled == before
    assert second.stalled > 0


async def test_another_sweeper_takes_over_when_the_first_stops(broker):
    producer = Producer(broker, "s")
    await fetch(broker, "alive")
    sweepers = {
        name: reclaimer(broker, Retry(max_retries=9), name=name, interval=0.3)
        for name in ("one", "two")
    }
    tasks = {
        name: asyncio.create_task(sweeper.run()) for name, sweeper in sweepers.items()
    }

    async def sweeper() -> str:
        return (
            (await broker.control.call("HGET", broker.keys("s").sweep("g"), "owner"))
            or b""
        ).decode()

    await eventually(sweeper, what="the first sweep")
    owner = await sweeper()
    first = next(name for name in sweepers if owner.startswith(name))
    (second,) = set(sweepers) - {first}
    for n in range(5):
        await producer.publish(n, type="t")
        await stall(broker)
        await eventually(
            lambda n=n: sum(each.stalled for each in sweepers.values()) > n,
            what="a sweep",
        )
    sweepers[first].stop()
    await asyncio.wait_for(tasks[first], 5)
    before = sweepers[second].stalled
    await producer.publish(5, type="t")
    await stall(broker)
    await eventually(
        lambda: sweepers[second].stalled > before, what="the second one's sweep"
    )
    sweepers[second].stop()
    await asyncio.wait_for(tasks[second], 5)


async def test_silent_consumers_are_removed_unless_something_is_pending(broker):
    await Producer(broker, "s").publish_many([1, 2], type="t")
    await fetch(broker, "holds-one", 1)
    await acknowledge(broker, "empty", await fetch(broker, "empty"))
    assert await consumers(broker) == {"holds-one", "empty"}
    sweeping = Reclaiming(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "r"))

    count = 0

    async def removed() -> bool:
        # On a busy machine the sweeper itself may be silent for so long, and be removed first.
        nonlocal count
        count += (
            await sweeping.sweep(lease=3600, lock=30, silence=0.05, most=100)
        ).consumers_removed
        return "empty" not in await consumers(broker)

    await eventually(removed, what="the removal")
    assert count >= 1
    assert await consumers(broker) - {"r"} == {"holds-one"}
    assert {owner for owner, _ in (await owners(broker)).values()} == {"holds-one"}


async def acknowledge(
    broker: Broker, consumer: str, deliveries: list[Delivery]
) -> None:
    await Settling(
        GroupConsumer(broker, broker.keys("s"), Levels(), "g", consumer)
    ).settle(deliveries)


async def test_consumers_that_get_something_are_kept(broker):
    producer = Producer(broker, "s")
    await producer.publish(0, type="t")
    await acknowledge(broker, "silent", await fetch(broker, "silent"))
    sweeping = Reclaiming(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "r"))
    done = 0

    async def only_the_live_one() -> bool:
        nonlocal done
        done += 1
        await producer.publish(done, type="t")
        await acknowledge(broker, "live", await fetch(broker, "live"))
        await sweeping.sweep(lease=3600, lock=30, silence=2.0, most=100)
        found = await consumers(broker)
        assert "live" in found
        return done > 1 and found == {"live"}

    await eventually(only_the_live_one, what="the removal of the silent one")


async def test_a_consumer_that_is_removed_while_it_waits_loses_nothing(broker):
    """Its name is nothing but a name: the next read brings it back."""
    seen = []

    async def handler(event) -> None:
        seen.append((event.data, event.attempt))
        await asyncio.sleep(0)

    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(name="live"))
    running = asyncio.create_task(consumer.run())
    sweeping = Reclaiming(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "r"))
    producer = Producer(broker, "s")
    removed = 0
    for n in range(60):
        await producer.publish(n, type="t")
        if n % 3 == 0:
            await eventually(lambda: len(seen) > n, what="the event")  # noqa: B023
        try:
            removed += (
                await sweeping.sweep(lease=3600, lock=30, silence=0.0, most=100)
            ).consumers_removed
        except GroupMissing:
            continue  # The consumer has not created it yet.
    await eventually(lambda: consumer.stats.done == 60, what="all events")
    running.cancel()
    await asyncio.wait([running])
    assert removed > 5
    # One that cannot start at once is given back, and comes later.
    assert sorted(seen) == [(n, 1) for n in range(60)]
    assert consumer.stats.lost == 0


async def test_fifty_restarts_in_order_leave_no_consumer(broker):
    done = 0

    async def handler(event) -> None:
        nonlocal done
        del event
        done += 1

    producer = Producer(broker, "s")
    for batch in range(2):
        made = [
            Consumer(broker, "s", "g", handler, ConsumerOptions(name=f"c{batch}-{n}"))
            for n in range(25)
        ]
        running = [asyncio.create_task(consumer.run()) for consumer in made]
        await producer.publish_many(range(100), type="t")
        for level in LEVELS:
            await producer.publish(level, type="t", priority=level)
        await eventually(lambda: done == 104 * (batch + 1), what="all events")  # noqa: B023
        for consumer in made:
            consumer.stop()
        await asyncio.gather(*running)
    # What was read by many at once may have been put back; who owns that is no worker.
    left = [await consumers(broker, level) - {PARKED} for level in LEVELS]
    assert left == [set()] * len(LEVELS)


async def test_a_consumer_that_leaves_something_behind_keeps_its_name(broker):
    await Producer(broker, "s").publish(1, type="t")
    fetching = Fetching(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "left"))
    await fetching.ensure_group()
    held = await fetching.take(1)
    await fetching.leave()
    assert await consumers(broker) == {"left"}
    await acknowledge(broker, "left", held)
    await fetching.leave()
    assert await consumers(broker) == set()
    await broker.control.call("XGROUP", "DESTROY", broker.keys("s").level(0), "g")
    await fetching.leave()  # Nothing to leave: it is no error.


async def test_a_reclaimer_that_stops_leaves_no_consumer(broker):
    await Producer(broker, "s").publish(1, type="t")
    (lost,) = await stall(broker)
    sweeper = reclaimer(broker, interval=0.05)
    running = asyncio.create_task(sweeper.run())
    await eventually(lambda: sweeper.stalled == 1, what="the entry to be taken over")

    async def parked() -> bool:
        return (await owners(broker))[lost.place][0] == PARKED

    await eventually(parked, what="the entry to wait for its retry")
    assert any(name.startswith("r") for name in await consumers(broker))
    sweeper.stop()
    await running
    assert await consumers(broker) == {"crashed", PARKED}


async def test_without_a_group_it_waits(broker):
    sweeper = reclaimer(broker, interval=0.02)
    running = asyncio.create_task(sweeper.run())
    await Producer(broker, "s").publish(1, type="t")
    await stall(broker)
    await eventually(lambda: sweeper.stalled, what="the sweep")
    sweeper.stop()
    await asyncio.wait_for(running, 5)
