"""Rows that say nothing, in each key of a group: they stop themselves only. The doctor names them, and drops them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Levels,
    Limit,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
    Scheduler,
    Status,
    Unavailable,
)
from streams.admin.records import Records
from streams.admin.why import Wanted, Why
from streams.broker.admin.listing import Listing
from streams.broker.admin.strays import StrayStore
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.keys import PARKED, Keys
from streams.doctor import Doctor, Finding
from streams.doctor.repair import Repair
from streams.handlers.routes import Route
from streams.policy.declaration import Declaration
from streams.policy.ordering import NO_LANES
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually
from tests.server.asking import Hands
from tests.server.garbage import GARBAGE

pytestmark = pytest.mark.in_turn

LEVELS = Levels((0, 5))

LANES = Lanes(order_by=("subject",), fair_by=("tenant",))

NAMES = ["hold", "k1 second", "k1 third", "k2", "fails once", "later"]


class Handler:
    """Keeps its only runner busy until it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.started: list[str] = []
        self.done: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.started.append(event.data)
        if event.data == "hold":
            await self.go_on.wait()
        if self.started.count(event.data) == 1 and event.data == "fails once":
            raise ValueError(event.data)
        self.done.append(event.data)


def events() -> list[Event]:
    return [
        Event("t", "hold", subject="k1", tenant="t"),
        Event("t", "k1 second", subject="k1", tenant="t"),
        Event("t", "k1 third", subject="k1", tenant="t", priority=5),
        Event("t", "k2", subject="k2", tenant="t"),
        Event("t", "fails once", subject="k3", tenant="u"),
        Event("t", "later", subject="k4", tenant="u", delay=0.05),
    ]


async def findings(broker: Broker) -> dict[str, Finding]:
    return {
        found.code: found
        for found in await Doctor(broker).examine("s")
        if found.where != "server"
    }


@pytest.mark.parametrize("what", GARBAGE)
async def test_rows_that_say_nothing_stop_themselves_only(broker, caplog, what):
    keys, handler = broker.keys("s"), Handler()
    route = Route(
        handler,
        limits=[Limit("tenant", concurrency=1)],
        retry=Retry(delay=0.01, jitter=0.0),
    )
    # Of slots somebody has to wait for one.
    options = ConsumerOptions(
        levels=LEVELS, lanes=LANES, concurrency=2 if "busy" in what else 1
    )
    consumer = Consumer(broker, "s", "g", route, options)
    reclaimer = Reclaimer(
        broker,
        "s",
        "g",
        options=ReclaimerOptions(levels=LEVELS, lanes=LANES, interval=0.05),
    )
    scheduler = Scheduler(broker, "s", LEVELS)
    running = [asyncio.create_task(consumer.run())]
    try:
        producer = Producer(broker, "s")
        first, *others = events()
        await producer.publish_many([first])
        await eventually(lambda: handler.started == ["hold"])
        await producer.publish_many(others)
        await eventually(
            lambda: broker.control.call("ZCARD", keys.behind("g")),
            what="the rows behind the head",
        )
        if options.concurrency == 2:
            await eventually(
                lambda: broker.control.call(
                    "ZCARD", keys.queue_prefix("g") + "tenant=t"
                )
            )
        for command in GARBAGE[what](keys):
            await broker.control.call(*command)

        found = (await findings(broker))["unreadable-rows"]
        assert (found.severity, "--repair" in found.todo) == ("warning", True)
        assert all(f" in {name} (" in found.what for name in what.split())

        running += [
            asyncio.create_task(reclaimer.run()),
            asyncio.create_task(scheduler.run()),
        ]
        handler.go_on.set()
        await eventually(
            lambda: sorted(handler.done) == sorted(NAMES),
            what=f"all of them, not {handler.done}",
        )
        order = [
            name for name in handler.done if name in ("hold", "k1 second", "k1 third")
        ]
        assert order[0] == "hold"

        await Repair(broker, "me").mend("s")
        assert "unreadable-rows" not in await findings(broker)
        assert [
            record.message
            for record in caplog.records
            if record.levelno >= logging.ERROR
        ] == []
        await eventually(lambda: is_idle(broker, keys), what="an end without rows")
    finally:
        handler.go_on.set()
        for role in (consumer, reclaimer, scheduler):
            role.stop()
        await asyncio.gather(*running)


async def is_idle(broker: Broker, keys: Keys) -> bool:
    names = (
        keys.retry("g"),
        keys.behind("g"),
        keys.lane("g", 0),
        keys.scheduled(),
        keys.attempts("g"),
    )
    heads = await broker.control.call("HLEN", keys.heads("g"))
    return heads == 0 and await broker.control.call("EXISTS", *names) == 0


# --- entries that nobody has


async def orphans(broker: Broker) -> int:
    found = (await findings(broker)).get("orphaned")
    return int(found.what.split()[0]) if found else 0


@pytest.fixture
def aged(monkeypatch) -> None:
    """What is young is looked at, too."""
    monkeypatch.setattr("streams.broker.admin.strays.SILENCE", 0.0)
    for each in (StrayStore, Repair):
        defaults = [
            0.0 if default == 90.0 else default
            for default in each.__init__.__defaults__
        ]
        monkeypatch.setattr(each.__init__, "__defaults__", tuple(defaults))


async def declared(
    broker: Broker, declaration: Declaration, group: str = "g"
) -> Fetching:
    keys = broker.keys("s")
    fetching = Fetching(
        GroupConsumer(broker, keys, LEVELS, group, "w"),
        Declaring(keys, LEVELS, group, declaration),
    )
    await fetching.ensure_group()
    return fetching


@pytest.mark.parametrize("lanes", [NO_LANES, LANES], ids=["plain", "lined up"])
@pytest.mark.usefixtures("aged")
async def test_entries_that_nobody_has_any_more_run_after_a_repair(broker, lanes):
    """250 of them, more than a slice: consumers of ours were deleted by hand, and one was acknowledged."""
    keys, done = broker.keys("s"), []

    async def handle(event: Event) -> None:
        done.append(event.data)

    await declared(broker, Declaration("work"))
    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"k{n % 9}", tenant="t") for n in range(250)
    )
    (((_, rows),)) = await broker.control.call(
        "XREADGROUP", "GROUP", "g", PARKED, "STREAMS", keys.level(0), ">"
    )
    await broker.control.call("XACK", keys.level(0), "g", rows[0][0])
    assert await orphans(broker) == 1
    await broker.control.call("XGROUP", "DELCONSUMER", keys.level(0), "g", PARKED)
    assert await orphans(broker) == 200, "a slice"
    (state,) = await Status(broker).find("s", f"0|{rows[7][0].decode()}")
    assert state.state == "orphaned"

    assert (await Repair(broker, "me").look("s"))["s"].orphaned == 250
    assert (await Repair(broker, "me").mend("s"))["s"].orphaned == 250
    assert await orphans(broker) == 0
    consumer = Consumer(
        broker, "s", "g", Route(handle), ConsumerOptions(levels=LEVELS, lanes=lanes)
    )
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: len(done) == 250)
    consumer.stop()
    await running
    assert sorted(done) == list(range(250))
    assert (await Repair(broker, "me").mend("s"))["s"].orphaned == 0


@pytest.mark.usefixtures("aged")
async def test_what_may_be_done_is_no_orphan(broker):
    """What another group needs, what was there before a group that begins with what is new, and what is in hand."""
    await Producer(broker, "s").publish({}, type="before")
    await broker.control.call("SADD", broker.keys("s").index(), "s|0")
    fetching = await declared(broker, Declaration("work", start="new"))
    await Producer(broker, "s").publish({}, type="in hand")
    assert len(await fetching.take(10)) == 1
    assert await orphans(broker) == 0
    await declared(broker, Declaration("fanout"), "h")
    await broker.control.call(
        "XGROUP", "DELCONSUMER", broker.keys("s").level(0), "g", "w"
    )
    assert await orphans(broker) == 0
    assert (await Repair(broker, "me").mend("s"))["s"].orphaned == 0


# --- the clock, and records


async def test_a_throttle_moves_with_a_clock_that_is_set_back(broker):
    keys = broker.keys("s")
    admitting = Admitting(GroupConsumer(broker, keys, LEVELS, "g", "w", lease=30.0))
    limit = Limit("tenant", "100/s")
    await admitting.throttle("tenant", "t", 6.0)
    name = keys.limit_prefix("g") + "tenant=t"
    times = [int(part) for part in (await broker.control.call("GET", name)).split()]
    # The same as a clock that is an hour behind from now on.
    await broker.control.call(
        "SET", name, " ".join(str(at + 3_600_000_000) for at in times[:4]) + " 0"
    )
    hands = Hands(broker, "w", LEVELS)
    (delivery,) = await hands.take(Event("t", 1))
    (answer,) = await admitting.admit([Ask(delivery, [(limit, "t")])])
    assert 0 < answer.wait < 13
    await admitting.close()


async def test_records_that_cannot_be_read_hide_no_others(broker):
    keys = broker.keys("s")
    records = Records(broker, "s", "kind")
    await records.change("good", lambda _: {"n": 1})
    await broker.control.call("HSET", keys.records("kind"), "bad", "{", "list", "[1]")
    assert await records.all() == {"good": {"n": 1}}
    assert await records.get("bad") is None
    assert await records.change("bad", lambda before: {"before": before}) == {
        "before": None
    }


async def test_looks_at_streams_survive_what_others_wrote(broker):
    keys = broker.keys("s")
    await declared(broker, Declaration("work"))
    await Producer(broker, "s").publish({}, type="t")
    await broker.control.call(
        "SADD", keys.index(), "s|x", "a b|0", b"\xff|0", "junk", "s|0"
    )
    await broker.control.call("SADD", keys.levels(), "x")
    await broker.control.call(
        "HSET",
        keys.workers("g"),
        "w",
        "{",
        "v",
        "[]",
        "u",
        '{"at":"x","runs":3,"levels":4}',
    )
    await broker.control.call("HSET", keys.queues("g"), "tenant=t", "x")
    await broker.control.call(
        "HSET", keys.watermarks(), "level:0", "x", "junk", "1-1 1", "lost:level:0", "[]"
    )
    await broker.control.call("ZADD", keys.retry("g"), "-inf", "junk", "inf", "0|abc")
    await broker.control.call("ZADD", keys.scheduled(), "-inf", "junk", "inf", b"\xff")
    assert list(await Status(broker).streams()) == ["s"]
    assert "retry-late" not in await findings(broker)
    reasons = await Why(broker, "s").ask(Wanted(level=0))
    assert [reason.state for reason in reasons.reasons] == ["no-worker"]
    assert await Listing(broker, keys).retrying("g", 0, 10) == []
    assert (
        AttemptRecord.from_json(
            b'{"failures":1e999,"stalls":0,"first":0,"last":0,"errors":[]}'
        ).failures
        == 0
    )


async def test_thousands_of_rows_that_say_nothing_hide_no_retry(broker):
    """And an entry whose own row has a time that is none runs after a repair."""
    keys, started = broker.keys("s"), []

    async def handle(event: Event) -> None:
        started.append(event.data)
        if started.count(event.data) == 1:
            raise Unavailable(
                "not yet", retry_after=0.01 if event.data == "soon" else 600.0
            )

    for score, count in (("-inf", 2500), (1, 1500), (2, 1500)):
        rows = [part for n in range(count) for part in (score, f"0|{score}{n}")]
        await broker.control.call("ZADD", keys.retry("g"), *rows)
    consumer = Consumer(broker, "s", "g", Route(handle), ConsumerOptions(levels=LEVELS))
    running = asyncio.create_task(consumer.run())
    (_, late) = await Producer(broker, "s").publish_many(
        [Event("t", "soon"), Event("t", "late")]
    )
    await eventually(lambda: started.count("soon") == 2)

    row = f"0|{late.entry_id}"
    await eventually(lambda: broker.control.call("ZSCORE", keys.retry("g"), row))
    await broker.control.call("ZADD", keys.retry("g"), "-inf", row)
    assert (await Repair(broker, "me").mend("s"))["s"].unreadable == 5501
    await eventually(lambda: started.count("late") == 2)
    consumer.stop()
    await running
    assert await broker.control.call("EXISTS", keys.retry("g")) == 0


async def test_a_mark_of_a_dedup_id_that_says_nothing_keeps_no_event_back(broker):
    keys = broker.keys("s")
    await broker.control.call("SET", keys.dedup("d"), "junk")
    first = await Producer(broker, "s").publish({}, type="t", dedup_id="d")
    again = await Producer(broker, "s").publish({}, type="t", dedup_id="d")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.entry_id == first.entry_id
