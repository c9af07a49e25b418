"""What is declared otherwise from one deployment to the next, one worker after the other.

Nothing is lost, nothing stands still, and no worker waits for a sweep to go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Levels,
    Limit,
    Pauses,
    Producer,
    ProducerOptions,
    Reject,
    Retry,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import FetchingByKey, LaneRepair, Ways
from streams.broker.entries.settle import Settling
from streams.broker.keys import PARKED
from streams.handlers.routes import Route
from streams.policy.declaration import AS_IT_IS
from tests.conftest import eventually

BY_KEY, BY_SUBJECT = Lanes(order_by=("key",)), Lanes(order_by=("subject",))
FAIR, FAIR_BY_KEY = Lanes(fair_by=("tenant",)), Lanes(fair_by=("key",))
NARROW, WIDE = Levels((0, 1)), Levels((0, 1, 5))


class Books:
    """Who started and who ended, and two of a key that ran at once."""

    def __init__(self) -> None:
        self.started: list[Event] = []
        self.done: list[Event] = []
        self.running: Counter[str] = Counter()
        self.clashes: list[str] = []

    async def handle(self, event: Event) -> None:
        key = event.key or ""
        self.started.append(event)
        self.running[key] += 1
        if self.running[key] > 1:
            self.clashes.append(key)
        try:
            await asyncio.sleep(0.001)
            if event.data == "bad":
                raise Reject("bad")
        finally:
            self.running[key] -= 1
        self.done.append(event)

    def in_order(self) -> bool:
        """Of each key and level, in the order of publishing."""
        found: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        for event in self.done:
            found[event.key, event.priority].append(event.data)
        return all(numbers == sorted(numbers) for numbers in found.values())


@asynccontextmanager
async def consuming(
    broker: Broker, books: Books, lanes: Lanes, levels: Levels = NARROW, **options
):
    """A worker without a reclaimer: whatever goes on, goes on by itself."""
    route = Route(books.handle, retry=Retry(delay=0.01, jitter=0.0))
    consumer = Consumer(
        broker, "s", "g", route, ConsumerOptions(lanes=lanes, levels=levels, **options)
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await running


@asynccontextmanager
async def reading(
    broker: Broker, ways: Ways, levels: Levels = NARROW
) -> AsyncIterator[FetchingByKey]:
    declaring = Declaring(broker.keys("s"), levels, "g", AS_IT_IS)
    made = FetchingByKey(
        GroupConsumer(broker, broker.keys("s"), levels, "g", "before"), declaring, ways
    )
    await made.ensure_group()
    await made.declare()
    try:
        yield made
    finally:
        await made.close()


async def line_up(broker: Broker, lanes: Lanes, levels: Levels = NARROW) -> None:
    """What a worker that is declared like that read and had no slot for, before it stopped."""
    async with reading(broker, Ways(lanes), levels) as made:
        await made.take(0)


def events(count: int, **more) -> list[Event]:
    return [
        Event(
            "t",
            n,
            **(
                {"key": f"k{n % 3}", "subject": f"s{n % 5}", "tenant": f"t{n % 4}"}
                | more
            ),
        )
        for n in range(count)
    ]


async def left(broker: Broker) -> set[str]:
    prefix = f"{broker.namespace}:{{s}}:g:"
    found = await broker.control.call("KEYS", prefix + "*")
    return {name.decode().removeprefix(prefix) for name in found} - {"rules", "dead"}


async def rules(broker: Broker) -> dict[str, str]:
    reply = await broker.control.call("HGETALL", broker.keys("s").rules("g"))
    return {
        name.decode(): value.decode()
        for name, value in zip(reply[::2], reply[1::2], strict=True)
    }


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


# --- levels


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
