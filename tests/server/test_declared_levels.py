"""Levels that are declared anew while events are lined up, and workers with other levels side by side."""

from __future__ import annotations

import asyncio

import pytest

from streams import Event, Lanes, Levels, Pauses, Producer, ProducerOptions
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import LaneRepair, Ways
from streams.policy.declaration import AS_IT_IS
from tests.conftest import eventually
from tests.server.declaring import (
    BY_KEY,
    FAIR,
    NARROW,
    WIDE,
    Books,
    consuming,
    events,
    left,
    line_up,
    reading,
    rules,
)


async def test_workers_with_other_weights_of_levels_share_the_work(broker):
    """Each divides its own slots."""
    books, producer = Books(), Producer(broker, "s")
    for level in (1, 0):
        await producer.publish_many(Event("t", n, priority=level) for n in range(100))
    async with (
        consuming(
            broker, books, Lanes(), name="old", weights={1: 1, 0: 9}, concurrency=2
        ),
        consuming(
            broker, books, Lanes(), name="new", weights={1: 9, 0: 1}, concurrency=2
        ),
    ):
        await eventually(lambda: len(books.done) == 200, what="all of it")
    assert len({(event.priority, event.entry_id) for event in books.done}) == 200


def on_levels(levels: Levels, count: int) -> list[Event]:
    return [
        Event(
            "t",
            n,
            key=f"k{n % 3}",
            priority=levels.ascending[n % len(levels.ascending)],
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(NARROW, WIDE, id="a level above"),
        pytest.param(NARROW, Levels((-3, 0, 1)), id="a level below"),
        pytest.param(Levels((0, 5)), Levels((0, 1, 5, 10)), id="two between"),
        pytest.param(WIDE, Levels((0, 5)), id="one less"),
    ],
)
async def test_what_is_lined_up_goes_on_after_levels_are_changed(broker, before, after):
    books, producer = Books(), Producer(broker, "s", ProducerOptions(levels=before))
    kept = Levels(set(before.ascending) & set(after.ascending))
    await producer.publish_many(on_levels(kept, 60))
    await line_up(broker, BY_KEY, before)
    async with consuming(broker, books, BY_KEY, after) as consumer:
        await Producer(broker, "s", ProducerOptions(levels=after)).publish_many(
            on_levels(after, 60)
        )
        await eventually(
            lambda: len(books.done) == 120, seconds=10, what="all of it, and no sweep"
        )
        assert consumer.stats.vanished == 0
    assert not books.clashes
    assert len({(event.priority, event.entry_id) for event in books.done}) == 120
    assert await left(broker) == set()


async def test_order_is_kept_when_a_level_is_added(broker):
    books, producer = Books(), Producer(broker, "s", ProducerOptions(levels=NARROW))
    await producer.publish_many(
        Event("t", n, key=f"k{n % 3}", priority=n % 2) for n in range(30)
    )
    await line_up(broker, BY_KEY)
    async with consuming(broker, books, BY_KEY, WIDE):
        await Producer(broker, "s", ProducerOptions(levels=WIDE)).publish_many(
            Event("t", n, key=f"k{n % 3}", priority=(0, 1, 5)[n % 3])
            for n in range(30, 60)
        )
        await eventually(lambda: len(books.done) == 60, seconds=10)
    assert books.in_order()
    assert not books.clashes


async def test_a_new_level_goes_first_within_a_key_too(broker):
    """A row whose level is spelled out sorts behind those that have a rank, and is found before them."""
    books, gate = Books(), asyncio.Event()
    order: list[int] = []

    async def handle(event: Event) -> None:
        order.append(event.priority)
        await gate.wait()

    books.handle = handle
    producer = Producer(broker, "s", ProducerOptions(levels=WIDE))
    await producer.publish_many([Event("t", n, key="k") for n in range(2)])
    await line_up(broker, BY_KEY, NARROW)
    async with consuming(broker, books, BY_KEY, WIDE):
        await eventually(lambda: order == [0])
        await producer.publish_many(
            Event("t", n, key="k", priority=n) for n in (1, 5, 1, 5)
        )
        behind = broker.keys("s").behind("g")

        async def lined_up() -> bool:
            return await broker.control.call("ZCARD", behind) == 5

        await eventually(lined_up)
        gate.set()
        await eventually(lambda: len(order) == 6)
    assert order == [0, 5, 5, 1, 1, 0]


async def test_workers_with_other_levels_side_by_side_keep_order_and_lose_nothing(
    broker,
):
    books, producer = Books(), Producer(broker, "s", ProducerOptions(levels=WIDE))
    await Producer(broker, "s", ProducerOptions(levels=NARROW)).publish_many(
        on_levels(NARROW, 40)
    )
    async with consuming(
        broker, books, BY_KEY, NARROW, concurrency=4, name="old"
    ) as old:
        await eventually(lambda: len(books.done) > 5)
        async with consuming(
            broker, books, BY_KEY, WIDE, concurrency=4, name="new"
        ) as new:
            mending = LaneRepair(broker, broker.keys("s"), WIDE, "g", Ways(BY_KEY))
            for _ in range(5):
                await producer.publish_many(on_levels(WIDE, 40))
                await mending.mend()
            old.stop()

            async def all_done() -> bool:
                await mending.mend()
                return len(books.done) == 240

            await eventually(all_done, seconds=15, what="all of it")
            assert old.stats.vanished + new.stats.vanished == 0
    assert len({(event.priority, event.entry_id) for event in books.done}) == 240
    assert not books.clashes
    assert await left(broker) == set()


async def test_what_waits_on_a_level_that_a_worker_does_not_know_stays_for_one_that_does(
    broker,
):
    books, producer = Books(), Producer(broker, "s", ProducerOptions(levels=WIDE))
    await producer.publish_many(Event("t", n, key="k", priority=0) for n in range(4))
    await line_up(broker, BY_KEY, WIDE)
    await producer.publish_many(Event("t", n, key="k", priority=5) for n in range(4))
    await line_up(broker, BY_KEY, WIDE)
    async with consuming(broker, books, BY_KEY, NARROW) as narrow:
        await eventually(lambda: len(books.done) == 4, what="what it knows")
        await producer.publish(Event("t", 4, key="k"))
        await eventually(lambda: len(books.done) == 5, what="the key to go on for it")
        await LaneRepair(broker, broker.keys("s"), NARROW, "g", Ways(BY_KEY)).mend()
        assert narrow.stats.vanished == 0
    assert await broker.control.call("ZCARD", broker.keys("s").behind("g")) == 4
    await producer.publish(Event("t", 0, key="busy"))
    await line_up(broker, BY_KEY, WIDE)
    assert await LaneRepair(
        broker, broker.keys("s"), WIDE, "g", Ways(BY_KEY)
    ).mend() == (
        1,
        0,
    )
    async with consuming(broker, books, BY_KEY, WIDE):
        await eventually(lambda: len(books.done) == 10, what="the rest of it")
    assert books.in_order()
    assert await left(broker) == set()


@pytest.mark.parametrize(
    ("before", "after", "listed"),
    [
        (NARROW, NARROW, "1,0"),
        (NARROW, WIDE, "1,0"),
        (WIDE, NARROW, None),
        (WIDE, Levels((0, 5)), None),
    ],
)
async def test_ranks_of_a_version_that_wrote_no_list_are_understood(
    broker, before, after, listed
):
    """The list is made from what rows turn out to mean; where that is not enough, each rank is looked up."""
    kept = Levels(set(before.ascending) & set(after.ascending))
    await Producer(broker, "s", ProducerOptions(levels=before)).publish_many(
        on_levels(kept, 60)
    )
    await line_up(broker, BY_KEY, before)
    await broker.control.call("HDEL", broker.keys("s").rules("g"), "levels", "ways")
    books = Books()
    async with consuming(broker, books, BY_KEY, after) as consumer:
        await eventually(lambda: len(books.done) > 3)
        assert (await rules(broker)).get("levels") == listed
        await Producer(broker, "s", ProducerOptions(levels=after)).publish_many(
            on_levels(after, 30)
        )
        await eventually(
            lambda: len(books.done) == 90, seconds=10, what="all of it, and no sweep"
        )
        assert consumer.stats.vanished == 0
    assert not books.clashes
    await line_up(broker, BY_KEY, after)
    assert (await rules(broker))["levels"] == (
        listed or ",".join(map(str, after.descending))
    )


async def test_what_a_worker_of_before_lines_up_while_all_of_it_is_given_back_is_nobodys_twice(
    broker,
):
    """Every row is of an entry that waits in line: from another's hands, a worker would take it a second time."""
    keys, levels = broker.keys("s"), NARROW
    publish = Producer(broker, "s", ProducerOptions(levels=levels)).publish_many
    after = Fetching(
        GroupConsumer(broker, keys, levels, "g", "after"),
        Declaring(keys, levels, "g", AS_IT_IS),
    )
    async with reading(broker, Ways(FAIR)) as before:
        await publish(events(9))
        await before.take(0)
        call, calls = after._link.call, []

        async def beside(*command, **more):
            reply = await call(*command, **more)
            calls.append(reply)
            if len(calls) < 5:
                await publish(events(3))
                await before.take(0)
            return reply

        async def nothing():
            return 0

        after._link.call = beside
        await after.hand_back_unknown([])
        after._link.call = call
        # Else its look gives back what was lined up last, too.
        after._dissolve = nothing
        mine = (await after.take_due(99, 0)).deliveries
        theirs = await before.take(99)
        assert mine
        assert theirs
        assert not {one.entry_id for one in mine} & {one.entry_id for one in theirs}
    await after.close()


async def test_what_a_worker_of_before_lines_up_at_last_starts_at_once(broker):
    """It is killed then, and the worker that does not line up has looked for such rows when it began."""
    books, pauses = Books(), Pauses(broker, "s")
    async with consuming(broker, books, Lanes(), lease=600.0) as consumer:
        await eventually(lambda: consumer._fetcher.read_at, what="its first look")
        await pauses.pause()  # Else it reads what is to be lined up.
        await eventually(lambda: consumer.paused, what="the pause to be seen")
        async with reading(broker, Ways(FAIR)) as before:
            await Producer(broker, "s", ProducerOptions(levels=NARROW)).publish_many(
                events(9)
            )
            await before.take(0)
        await pauses.resume()
        await eventually(lambda: len(books.done) == 9, what="all of them")
