"""Order and fairness by key, on every server: who starts when, whatever happens to workers and rows."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import (
    Broker,
    Cancellations,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Groups,
    Lanes,
    Levels,
    Limit,
    NotFound,
    OrderedKeys,
    Pauses,
    Pipeline,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
    Snooze,
    Status,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import (
    FetchingByKey,
    LaneKeys,
    LaneRepair,
    Ways,
    follow,
)
from streams.broker.keys import WAITING
from streams.handlers.routes import Route, Router
from streams.policy.declaration import AS_IT_IS
from tests.conftest import eventually

BY_SUBJECT = Lanes(order_by=("subject",))
BY_TENANT = Lanes(fair_by=("tenant",))
BOTH = Lanes(order_by=("subject",), fair_by=("tenant",))


class History:
    """What ran, and whether two of a key ever ran at once."""

    def __init__(self) -> None:
        self.started: list[Event] = []
        self.done: list[Event] = []
        self.running: Counter[str] = Counter()
        self.clashes: list[str] = []

    @asynccontextmanager
    async def attempt(self, event: Event) -> AsyncIterator[None]:
        key = event.subject or ""
        self.started.append(event)
        self.running[key] += 1
        if key and self.running[key] > 1:
            self.clashes.append(key)
        try:
            yield
        finally:
            self.running[key] -= 1
        self.done.append(event)

    def by_key(self) -> dict[str, list[object]]:
        found: dict[str, list[object]] = defaultdict(list)
        for event in self.done:
            if event.subject:
                found[event.subject].append(event.data)
        return found


@asynccontextmanager
async def consuming(
    broker: Broker,
    handler,
    lanes: Lanes,
    *,
    count: int = 1,
    retry: Retry | None = None,
    limits=(),
    **options,
) -> AsyncIterator[list[Consumer]]:
    route = Route(handler, retry=retry or Retry(delay=0.01, jitter=0.0), limits=limits)
    consumers = [
        Consumer(
            broker,
            "s",
            "g",
            Router([route]),
            ConsumerOptions(name=f"c{n}", lanes=lanes, **options),
        )
        for n in range(count)
    ]
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield consumers
    finally:
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*running)


async def left(broker: Broker) -> set[str]:
    """Keys of the group that hold something."""
    prefix = f"{broker.namespace}:{{s}}:g:"
    found = await broker.control.call("KEYS", prefix + "*")
    return {name.decode().removeprefix(prefix) for name in found}


async def fetching(
    broker: Broker, lanes: Lanes, consumer: str = "c", lease: float = 0.0
) -> FetchingByKey:
    levels = Levels()
    declaring = Declaring(broker.keys("s"), levels, "g", AS_IT_IS)
    made = FetchingByKey(
        GroupConsumer(broker, broker.keys("s"), levels, "g", consumer, lease=lease),
        declaring,
        Ways(lanes),
    )
    await made.ensure_group()
    await made.declare()
    return made


# --- order


async def test_events_of_a_key_run_one_after_the_other_in_the_order_of_their_publishing(
    broker,
):
    history, wanted = History(), 400

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await asyncio.sleep(random.random() * 0.003)

    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"k{n % 7}") for n in range(wanted)
    )
    async with consuming(broker, handle, BY_SUBJECT, count=3, concurrency=10):
        await eventually(lambda: len(history.done) == wanted)
    assert not history.clashes
    assert all(found == sorted(found) for found in history.by_key().values())
    # Nothing is kept of keys that are quiet.
    assert await left(broker) == {"rules"}


async def test_a_retry_holds_back_its_own_key_only(broker):
    history = History()
    failures = Counter[object]()

    async def handle(event: Event) -> None:
        failures[event.data] += 1
        if event.data == "a0" and failures["a0"] <= 2:
            raise RuntimeError("not yet")
        async with history.attempt(event):
            pass

    names = [f"{key}{n}" for n in range(3) for key in "ab"]
    await Producer(broker, "s").publish_many(
        Event("t", name, subject=name[0]) for name in names
    )
    async with consuming(
        broker, handle, BY_SUBJECT, retry=Retry(delay=0.3, backoff="fixed", jitter=0.0)
    ):
        await eventually(lambda: len(history.done) == 6)
    done = [event.data for event in history.done]
    assert done[:3] == ["b0", "b1", "b2"]
    assert done[3:] == ["a0", "a1", "a2"]


async def test_a_snoozed_or_limited_event_keeps_its_place(broker):
    history = History()
    snoozed: set[object] = set()

    async def handle(event: Event) -> None:
        if event.data == 0 and not snoozed:
            snoozed.add(0)
            raise Snooze(0.2)
        async with history.attempt(event):
            pass

    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(6)
    )
    async with consuming(
        broker, handle, BY_SUBJECT, limits=[Limit("subject", rate="20/s", burst=1)]
    ):
        await eventually(lambda: len(history.done) == 6)
    assert [event.data for event in history.done] == list(range(6))


async def test_within_a_key_the_higher_level_goes_first_and_never_beside(broker):
    history, gate = History(), asyncio.Event()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await gate.wait()

    producer = Producer(broker, "s")
    await producer.publish(Event("t", "first", subject="k"))
    async with consuming(broker, handle, BY_SUBJECT):
        await eventually(lambda: len(history.started) == 1)
        for priority, name in (
            (0, "low"),
            (10, "high"),
            (5, "middle"),
            (10, "high too"),
        ):
            await producer.publish(Event("t", name, subject="k", priority=priority))
        await producer.publish(Event("t", "other", subject="o"))
        await eventually(lambda: len(history.started) == 2)
        gate.set()
        await eventually(lambda: len(history.done) == 6)
    assert [e.data for e in history.done if e.subject == "k"] == [
        "first",
        "high",
        "high too",
        "middle",
        "low",
    ]
    assert not history.clashes


async def test_events_without_the_key_are_not_ordered(broker):
    at_once, most = 0, 0

    async def handle(event: Event) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await eventually(lambda: most >= 4)
        at_once -= 1

    await Producer(broker, "s").publish_many(Event("t", n) for n in range(4))
    async with consuming(broker, handle, BY_SUBJECT) as (consumer,):
        await eventually(lambda: consumer.stats.done == 4)


async def test_the_next_of_a_key_starts_at_once_though_another_worker_has_nothing_to_do(
    broker,
):
    """Not with the next poll: a settled head and the start of the next are one thing."""
    starts: list[float] = []

    async def handle(event: Event) -> None:
        starts.append(asyncio.get_running_loop().time())

    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(40)
    )
    async with consuming(broker, handle, BY_SUBJECT, count=2):
        await eventually(lambda: len(starts) == 40)
    gaps = sorted(later - earlier for earlier, later in pairwise(starts))
    assert gaps[len(gaps) // 2] < 0.1


@pytest.mark.parametrize("end", ["reject", "expire", "undecodable"])
async def test_a_dead_head_lets_its_key_go_on(broker, end):
    history = History()

    async def handle(event: Event) -> None:
        if event.data == "bad":
            raise Reject("bad")
        async with history.attempt(event):
            pass

    producer = Producer(broker, "s")
    if end == "reject":
        await producer.publish(Event("t", "bad", subject="k"))
    else:
        meta = json.dumps(
            {"subject": "k"} | ({"expires": 1} if end == "expire" else {})
        )
        body = "{" if end == "undecodable" else "0"
        await broker.control.call(
            "XADD",
            broker.keys("s").level(0),
            "*",
            "type",
            "t",
            "data",
            body,
            "meta",
            meta,
        )
    await producer.publish_many(Event("t", n, subject="k") for n in range(3))
    async with consuming(broker, handle, BY_SUBJECT) as (consumer,):
        await eventually(lambda: len(history.done) == 3)
        await eventually(lambda: consumer.stats.dead == 1)
    assert [event.data for event in history.done] == [0, 1, 2]
    assert await left(broker) == {"rules", "dead"}


@pytest.mark.parametrize("order_by", [("subject",), ("type", "subject")])
@pytest.mark.parametrize(
    "meta",
    [
        b'{"subject":"k","share":NaN}',
        b'{"subject":"k","tenant":"caf\xe9"}',
        b'{"subject":"k","tenant":"\\udc00"}',
    ],
    ids=["nan", "latin-1", "surrogate"],
)
async def test_a_head_whose_meta_only_the_server_can_read_lets_its_key_go_on(
    broker, meta, order_by
):
    """It is malformed for us, and lined up all the same: the key went on with the next sweep, one such event each."""
    history = History()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            pass

    for _ in range(3):
        await broker.control.call(
            "XADD",
            broker.keys("s").level(0),
            "*",
            "type",
            "t",
            "data",
            "0",
            "meta",
            meta,
        )
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(3)
    )
    async with consuming(broker, handle, Lanes(order_by=order_by)) as (consumer,):
        await eventually(lambda: len(history.done) == 3)
        await eventually(lambda: consumer.stats.dead == 3)
    assert [event.data for event in history.done] == [0, 1, 2]
    assert await left(broker) == {"rules", "dead"}


@pytest.mark.parametrize("gone", ["XDEL", "XACK"])
async def test_what_is_gone_from_behind_a_head_is_walked_over(broker, gone):
    """Deleted, or acknowledged, by hand: each of them held its key up until the next sweep."""
    history, gate = History(), asyncio.Event()
    stream = broker.keys("s").level(0)

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await gate.wait()

    receipts = await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(52)
    )
    async with consuming(broker, handle, BY_SUBJECT):
        await eventually(lambda: history.running, what="the head to run")
        ids = [receipt.entry_id for receipt in receipts[1:-1]]
        assert (
            await broker.control.call(
                gone, stream, *(["g"] if gone == "XACK" else []), *ids
            )
            == 50
        )
        gate.set()
        await eventually(lambda: len(history.done) == 2, what="the last of the key")
    assert [event.data for event in history.done] == [0, 51]
    assert await left(broker) == {"rules"}


async def test_a_key_that_is_no_text_can_be_seen_and_goes_on(broker):
    history, gate = History(), asyncio.Event()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await gate.wait()

    row = ("type", "t", "data", "0", "meta", b'{"subject":"caf\xe9"}')
    await Producer(broker, "s").publish(Event("t", 0, subject="k"))
    made = await fetching(broker, BY_SUBJECT)
    for _ in range(3):
        await broker.control.call("XADD", broker.keys("s").level(0), "*", *row)
    await made.take(0)
    (key,) = [
        key
        for key in await OrderedKeys(broker, "s", "g").list(state=None)
        if key.key != "k"
    ]
    assert (key.key, key.behind) == ("caf\ufffd", 2)
    gate.set()
    async with consuming(broker, handle, BY_SUBJECT) as (consumer,):
        await eventually(lambda: consumer.stats.dead == 3)
    assert await left(broker) == {"rules", "dead"}


# --- a key that is held


async def held(broker: Broker, history: History) -> OrderedKeys:
    """A key whose first event has died, with two behind it."""

    async def handle(event: Event) -> None:
        if event.data == "bad" and not event.replays:
            raise Reject("bad")
        async with history.attempt(event):
            pass

    await Producer(broker, "s").publish_many(
        Event("t", data, subject="k") for data in ("bad", 1, 2)
    )
    await Producer(broker, "s").publish(Event("t", "free", subject="o"))
    async with consuming(
        broker, handle, Lanes(order_by=("subject",), on_dead="hold")
    ) as (consumer,):
        await eventually(lambda: consumer.stats.dead == 1 and len(history.done) == 1)
    return OrderedKeys(broker, "s", "g", by="ada")


async def test_a_held_key_waits_for_an_operator(broker):
    history = History()
    keys = await held(broker, history)
    assert [event.data for event in history.done] == ["free"]
    (key,) = await keys.list()
    assert (key.key, key.state, key.behind) == ("k", "held", 2)
    assert key.event_id == (await DeadLetters(broker, "s", "g").page())[0].event_id
    (row,) = await Status(broker).overview()
    assert sum(level.waiting for level in row.groups[0].levels) == 2
    with pytest.raises(NotFound, match="not held"):
        await keys.skip("o")
    with pytest.raises(NotFound, match="not held"):
        await keys.release("o")


@pytest.mark.parametrize(
    ("act", "wanted"),
    [("skip", [1, 2]), ("release", ["bad", 1, 2]), ("replay", ["bad", 1, 2])],
)
async def test_a_held_key_goes_on(broker, act, wanted):
    history = History()
    keys = await held(broker, history)
    if act == "replay":
        await DeadLetters(broker, "s", "g").replay(
            [(await DeadLetters(broker, "s", "g").page())[0].id]
        )
    else:
        await getattr(keys, act)("k")

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            pass

    async with consuming(broker, handle, Lanes(order_by=("subject",), on_dead="hold")):
        await eventually(lambda: len(history.done) == 1 + len(wanted))
    assert [event.data for event in history.done[1:]] == wanted
    assert await keys.list(state=None) == []
    assert await DeadLetters(broker, "s", "g").count() == (1 if act == "skip" else 0)


async def test_a_held_key_whose_letter_was_discarded_can_be_skipped(broker):
    history = History()
    keys = await held(broker, history)
    letters = DeadLetters(broker, "s", "g")
    await letters.discard([(await letters.page())[0].id])
    with pytest.raises(NotFound, match="skip it"):
        await keys.release("k")
    await keys.skip("k")
    assert [key.state for key in await keys.list(state=None)] == ["working"]


async def test_keys_of_a_group_without_order_are_not_to_be_listed(broker):
    with pytest.raises(NotFound, match="no stream"):
        await OrderedKeys(broker, "s", "g").list()
    await Producer(broker, "s").publish(Event("t", 1))
    with pytest.raises(NotFound, match="keeps no order"):
        await OrderedKeys(broker, "s", "g").list()


# --- fairness


async def test_tenants_take_turns_whatever_their_backlogs(broker):
    order: list[str] = []

    async def handle(event: Event) -> None:
        order.append(event.tenant)

    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, tenant="big") for n in range(3000))
    await producer.publish_many(Event("t", n, tenant="small") for n in range(50))
    await producer.publish_many(Event("t", n) for n in range(50))
    async with consuming(broker, handle, BY_TENANT, concurrency=1):
        await eventually(lambda: len(order) == 3100)
    # Once all is lined up, each of the three has every third start.
    from_there = order[order.index("small") :][:120]
    assert Counter(from_there)["big"] <= 45
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
