"""Every event that waits has a reason that is named: one case for each."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from streams import (
    Broker,
    Cancellations,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Levels,
    Limit,
    Limits,
    NotFound,
    Pauses,
    Pipeline,
    Producer,
    Reason,
    Reject,
    Retry,
    Settings,
    Snooze,
    Status,
    sync,
)
from streams.admin.reason import STATES
from streams.admin.why import Wanted, Why
from streams.broker.admin.figures import FigureStore
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Buried, Postponed, Settling
from streams.doctor import Doctor
from streams.doctor.repair import Repair
from streams.handlers.routes import Route
from streams.policy.declaration import Declaration, Retention
from streams.policy.partitions import partition_name
from streams.policy.retry import AttemptRecord
from streams.producer import ProducerOptions
from tests.conftest import eventually

LEVELS = Levels((0, 5))
SPEAKING = {
    "levels": [0, 5],
    "lease": 30.0,
    "concurrency": 2,
    "busy": 0,
    "free": 2,
    "runs": {},
}


def fetching(
    broker: Broker, consumer: str = "w", retention: Retention | None = None
) -> Fetching:
    declaring = Declaring(broker.keys("s"), LEVELS, "g", Declaration(retention))
    return Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, "g", consumer), declaring
    )


async def take(broker: Broker, most: int, consumer: str = "w") -> list[Delivery]:
    reading = fetching(broker, consumer)
    await reading.ensure_group()
    return await reading.take(most) if most else []


async def speak(broker: Broker, worker: str = "w", **said: Any) -> None:
    """A worker says that it is there."""
    await FigureStore(broker, broker.keys("s"), "g").count({}, worker, SPEAKING | said)


def settling(broker: Broker) -> Settling:
    return Settling(GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "w"))


async def publish(broker: Broker, *events: Event) -> list[str]:
    """Publish, and return the ids of the events."""
    receipts = await Producer(broker, "s", ProducerOptions(levels=LEVELS)).publish_many(
        events or [Event("t", 1, tenant="acme", key="k")]
    )
    return [receipt.event_id for receipt in receipts]


async def ask(
    broker: Broker, event: str, *, patience: float = 5.0, **which: Any
) -> Reason:
    """The one reason of an event."""
    found = await Why(broker, "s", patience=patience).ask(Wanted(event), **which)
    (reason,) = found.reasons
    assert reason.state in STATES
    assert reason.sentence
    return reason


async def old(broker: Broker, level: int = 0, **fields: Any) -> str:
    """An event that was published a minute ago."""
    seconds, _ = await broker.control.call("TIME")
    # The stream and its levels are known.
    await publish(broker, Event("t", 0, delay=3600))
    entry_id = f"{(int(seconds) - 60) * 1000}-0"
    stored = {"type": "t", "data": "1", "meta": "{}"} | fields
    pairs = [part for pair in stored.items() for part in pair]
    await broker.control.call("XADD", broker.keys("s").level(level), entry_id, *pairs)
    return entry_id


@asynccontextmanager
async def consuming(
    broker: Broker, handler, *limits: Limit, **options
) -> AsyncIterator[Consumer]:
    retry = options.pop("retry", None) or Retry(delay=600.0, jitter=0.0)
    route = Route(handler, limits=limits, retry=retry)
    consumer = Consumer(
        broker, "s", "g", route, ConsumerOptions(name="w", levels=LEVELS, **options)
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop(0.0)
        await running


class Waiting:
    """A handler that runs until it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.started: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.started.append(event.id)
        await self.go_on.wait()


# --- its time


async def test_scheduled(broker):
    (event,) = await publish(broker, Event("t", 1, delay=3600))
    reason = await ask(broker, event)
    assert (reason.state, reason.group, reason.event_id) == ("scheduled", "", event)
    assert reason.facts["until"] > broker.clock.now() + 3000


async def test_a_retry_has_its_last_error_masked(broker):
    (event,) = await publish(broker)

    async def fail(_: Event) -> None:
        raise ValueError("no credit for 5511999998888")

    async with consuming(broker, fail) as consumer:
        await eventually(lambda: consumer.stats.retried, what="the failure")
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["attempts"]) == ("retry", 1)
    assert "ValueError: no credit for ******88" in reason.sentence
    assert "5511999998888" not in str(dataclasses.asdict(reason))


async def test_snoozed(broker):
    (event,) = await publish(broker)

    async def put_off(_: Event) -> None:
        raise Snooze(600)

    async with consuming(broker, put_off) as consumer:
        await eventually(lambda: consumer.stats.snoozed, what="the snooze")
    assert (await ask(broker, event)).state == "snoozed"


# --- pauses


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ({}, "stream"),
        ({"group": "g"}, "group"),
        ({"level": 0}, "level"),
        ({"group": "g", "level": 0}, "level"),
        ({"tenant": "acme"}, "attribute"),
        ({"group": "g", "tenant": "acme"}, "attribute"),
    ],
    ids=str,
)
async def test_paused_by_every_scope(broker, where, kind):
    await take(broker, 0)
    await speak(broker)
    (event,) = await publish(broker)
    await Pauses(broker, "s", by="ana").pause(reason="call 5511999998888", **where)
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["kind"], reason.facts["by"]) == (
        "paused",
        kind,
        "ana",
    )
    assert reason.facts["reason"] == "call ******88"
    assert reason.facts["since"] > 0


@pytest.mark.parametrize(
    "where", ["level=5", "tenant=other", "group=h", "group=h,tenant=acme"]
)
async def test_a_pause_of_others_is_no_reason(broker, where):
    await take(broker, 0)
    await speak(broker)
    (event,) = await publish(broker)
    await broker.control.call(
        "HSET",
        broker.keys("s").paused(),
        where,
        b'{"by":"ana","at":1000.0,"reason":""}',
    )
    assert (await ask(broker, event, group="g")).state == "starting"


async def test_put_aside_for_a_pause_by_attribute(broker):
    (event,) = await publish(broker)
    await take(broker, 0)
    await Pauses(broker, "s").pause(tenant="acme")
    async with consuming(broker, Waiting()) as consumer:
        await eventually(lambda: consumer.stats.held, what="it to be put aside")
    assert (await ask(broker, event)).facts["scope"] == "tenant=acme"


async def test_paused_by_a_circuit_breaker_until_its_probe(broker):
    (event,) = await publish(broker)
    await take(broker, 0)
    paused = b'{"by":"mail","at":1000.0,"reason":"unavailable","probe":4102444800000,"every":1000}'
    await broker.control.call(
        "HSET", broker.keys("s").paused(), "group=g,tenant=acme", paused
    )
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["kind"], reason.facts["until"]) == (
        "paused",
        "breaker",
        4102444800.0,
    )
    assert "circuit breaker mail" in reason.sentence


# --- limits


async def test_a_limit_is_full_and_says_who_has_the_slots(broker):
    handler = Waiting()
    first, second, third = await publish(
        broker, *(Event("t", n, tenant="acme") for n in range(3))
    )
    async with consuming(
        broker, handler, Limit("tenant", name="one", concurrency=1)
    ) as consumer:
        await eventually(
            lambda: handler.started and consumer.stats.limited == 2,
            what="the others to wait",
        )
        reasons = [await ask(broker, name) for name in (second, third)]
        assert [reason.state for reason in reasons] == ["limit", "limit"]
        assert sorted(reason.facts["behind"] for reason in reasons) == [0, 1]
        (holder,) = reasons[0].facts["holders"]
        running = await ask(broker, first)
        assert (holder["entry"], holder["worker"]) == (
            f"{running.level}|{running.entry_id}",
            "w",
        )
        assert running.state == "running"
        handler.go_on.set()


async def test_a_rate_lets_it_start_at_a_time(broker):
    handler = Waiting()
    handler.go_on.set()
    _, second = await publish(broker, *(Event("t", n, tenant="acme") for n in range(2)))
    async with consuming(
        broker, handler, Limit("tenant", name="slow", rate="1/h")
    ) as consumer:
        await eventually(lambda: consumer.stats.limited, what="the second to wait")
    reason = await ask(broker, second)
    assert (reason.state, reason.facts["limit"]) == ("rate", "slow")
    assert reason.facts["until"] > broker.clock.now() + 3000


async def test_throttled(broker):
    (event,) = await publish(broker)
    await Limits(broker, "s", "g").throttle("slow", "acme", 3600)
    async with consuming(
        broker, Waiting(), Limit("tenant", name="slow", rate="1/s")
    ) as consumer:
        await eventually(lambda: consumer.stats.limited, what="it to wait")
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["limit"], reason.facts["key"]) == (
        "throttled",
        "slow",
        "acme",
    )
    assert reason.facts["until"] > broker.clock.now() + 3000


async def test_a_slot_that_was_handed_over(broker):
    """Its slot is there, and no worker has looked yet."""
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    await settling(broker).settle([], [Postponed(delivery, 0)])
    keys, place = broker.keys("s"), f"{delivery.level}|{delivery.entry_id}"
    await broker.control.call("HSET", keys.limits("g"), "one:declared", "concurrency 1")
    await broker.control.call("ZADD", keys.busy_prefix("g") + "one=acme", 1, place)
    await broker.connect()  # Reads the server's clock.
    assert (await ask(broker, event)).state == "reserved"


# --- keys


@asynccontextmanager
async def by_key(broker: Broker, handler, **options) -> AsyncIterator[Consumer]:
    lanes = Lanes(order_by=("key",), on_dead=options.pop("on_dead", "continue"))
    async with consuming(broker, handler, lanes=lanes, **options) as consumer:
        yield consumer


async def test_behind_a_running_head_of_its_key(broker):
    handler = Waiting()
    head, second, third = await publish(
        broker, *(Event("t", n, key="5511999998888") for n in range(3))
    )
    async with by_key(broker, handler):
        await eventually(lambda: handler.started == [head], what="the head to run")
        reasons = [await ask(broker, name) for name in (second, third)]
        assert [(r.state, r.facts["behind"]) for r in reasons] == [
            ("key-busy", 1),
            ("key-busy", 2),
        ]
        assert reasons[1].facts["key"] == "******88"
        because = reasons[1].because
        assert because is not None
        assert (because.state, because.event_id, because.because) == (
            "running",
            head,
            None,
        )
        handler.go_on.set()


async def test_behind_a_head_that_waits_for_its_retry(broker):
    head, second = await publish(broker, *(Event("t", n, key="k") for n in range(2)))

    async def fail(_: Event) -> None:
        raise ValueError

    async with by_key(broker, fail) as consumer:
        await eventually(lambda: consumer.stats.retried, what="the failure")
    reason = await ask(broker, second)
    assert (reason.state, reason.because.state, reason.because.event_id) == (
        "key-busy",
        "retry",
        head,
    )


async def test_held_behind_a_dead_head(broker):
    head, second = await publish(broker, *(Event("t", n, key="k") for n in range(2)))

    async def die(_: Event) -> None:
        raise Reject("no")

    async with by_key(broker, die, on_dead="hold") as consumer:
        await eventually(lambda: consumer.stats.dead, what="the death")
    reason = await ask(broker, second)
    assert (reason.state, reason.facts["by"], reason.facts["behind"]) == (
        "key-held",
        head,
        0,
    )
    dead = await ask(broker, head)
    assert (dead.state, dead.facts["error"]) == ("dead", "rejected")
    assert f"streams dead show s g {dead.facts['letter']}" in dead.sentence
    of_key = (await Why(broker, "s").ask(Wanted(key="k"))).reasons
    assert [(reason.state, reason.event_id) for reason in of_key] == [
        ("key-held", second),
        ("dead", head),
    ]
    assert (await Why(broker, "s").ask(Wanted(key="another"))).reasons == ()


async def test_taking_turns_with_other_keys(broker):
    handler = Waiting()
    names = await publish(
        broker, *(Event("t", n, tenant="ab"[n % 2]) for n in range(6))
    )
    async with consuming(
        broker, handler, lanes=Lanes(fair_by=("tenant",)), concurrency=1
    ):
        await eventually(lambda: handler.started, what="the first to run")
        reason = await ask(broker, names[-1])
        assert (reason.state, reason.facts["level"], reason.facts["keys"]) == (
            "turn",
            2,
            1,
        )
        handler.go_on.set()


# --- workers


async def test_no_worker_at_all(broker):
    (event,) = await publish(broker)
    assert (await ask(broker, event)).state == "no-worker"  # No group either.
    await take(broker, 0)
    assert (await ask(broker, event)).state == "no-worker"


async def test_a_worker_that_was_heard_of_last_is_named(broker):
    (event,) = await publish(broker)
    await take(broker, 0)
    gone = b'{"at":1000.0,"levels":[0]}'
    await broker.control.call("HSET", broker.keys("s").workers("g"), "lost", gone)
    reason = await ask(broker, event)
    assert (reason.state, reason.facts) == (
        "no-worker",
        {"worker": "lost", "since": 1000.0},
    )


async def test_a_worker_that_may_have_been_killed_is_no_defect(broker):
    """It was heard of, and then the event was published: whether it still lives says nothing of the pipeline."""
    await take(broker, 0)
    for level in LEVELS.descending:
        await broker.control.call(
            "XGROUP", "DELCONSUMER", broker.keys("s").level(level), "g", "w"
        )
    seconds, _ = await broker.control.call("TIME")
    row = orjson.dumps(SPEAKING | {"at": int(seconds) - 20})
    await broker.control.call("HSET", broker.keys("s").workers("g"), "w", row)
    (event,) = await publish(broker)
    reason = await ask(broker, event, patience=0.0)
    assert (reason.state, reason.facts.get("worker")) == ("no-worker", "w")
    assert "it may have ended" in reason.sentence
    row = orjson.dumps(SPEAKING | {"at": int(seconds) + 20})
    await broker.control.call("HSET", broker.keys("s").workers("g"), "w", row)
    assert (await ask(broker, event, patience=0.0)).state == "none"


async def test_no_worker_reads_its_level(broker):
    await take(broker, 0)
    await speak(broker, levels=[5])
    (event,) = await publish(broker)
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["levels"]) == ("level-unserved", [5])


async def test_a_suspect_waits_until_nothing_else_runs(broker):
    entry_id = await old(broker)
    (delivery,) = await take(broker, 1)
    record = AttemptRecord(stalls=2, suspect=True).to_json()
    await settling(broker).settle((), [Postponed(delivery, 0, record)])
    await speak(broker)
    reason = await ask(broker, entry_id, patience=0.0)
    assert (reason.state, reason.facts["stalls"], reason.facts["workers"]) == (
        "suspect",
        2,
        ["w"],
    )


async def test_behind_others_of_its_level_and_of_higher_ones(broker):
    await take(broker, 0)
    await speak(broker)
    names = await publish(
        broker,
        *(Event("t", n) for n in range(3)),
        *(Event("t", n, priority=5) for n in range(2)),
    )
    reason = await ask(broker, names[2])
    assert (reason.state, reason.facts["level"], reason.facts["above"]) == (
        "turn",
        2,
        2,
    )
    await Pauses(broker, "s").pause(level=5)
    assert (await ask(broker, names[2])).facts["behind"] == 2
    assert (await ask(broker, names[0])).state == "starting"


async def test_every_handler_is_busy(broker):
    await take(broker, 0)
    await speak(broker, free=0, busy=2, runs={"0|1-1": 1000.0, "0|2-1": 2000.0})
    (event,) = await publish(broker)
    reason = await ask(broker, event)
    assert (reason.state, reason.facts) == ("busy", {"workers": ["w"], "since": 1000.0})
    await speak(broker, "other")
    assert (await ask(broker, event)).state == "starting"


async def test_a_worker_that_is_kept_free_for_a_suspect(broker):
    await take(broker, 0)
    await speak(broker, free=0, kept_for="other/g 0|1-1")
    (event,) = await publish(broker)
    reason = await ask(broker, event)
    assert (reason.state, reason.facts) == (
        "isolated",
        {"by": "other/g 0|1-1", "workers": ["w"]},
    )
    assert (
        "while other/g 0|1-1, which was with a worker when that died, runs alone in w"
        in reason.sentence
    )
    assert "busy" not in reason.sentence
    (behind,) = await publish(broker)
    reason = await ask(broker, behind)
    assert (reason.state, "other/g 0|1-1" in reason.sentence) == ("turn", True)
    await speak(broker, "full", free=0, busy=2)
    assert "every handler of 1 worker is busy" in (await ask(broker, event)).sentence
    await speak(broker, "free")
    assert (await ask(broker, event)).state == "starting"


async def test_running_since(broker):
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    await speak(
        broker, busy=1, free=1, runs={f"{delivery.level}|{delivery.entry_id}": 1000.0}
    )
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["worker"], reason.facts["since"]) == (
        "running",
        "w",
        1000.0,
    )


async def test_with_a_worker_and_about_to_start(broker):
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    key = broker.keys("s").level(delivery.level)
    # It has had it for two seconds, and said meanwhile that no handler runs.
    await broker.control.call(
        "XCLAIM", key, "g", "w", 0, delivery.entry_id, "IDLE", 2000, "JUSTID"
    )
    await speak(broker)
    assert (await ask(broker, event)).state == "reserved"


async def test_a_lost_lease(broker):
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    key = broker.keys("s").level(delivery.level)
    await broker.control.call(
        "XCLAIM", key, "g", "w", 0, delivery.entry_id, "IDLE", 25_000, "JUSTID"
    )
    assert (await ask(broker, event)).state == "no-worker"  # Who would take it over?
    await speak(broker, "other")
    reason = await ask(broker, event)
    assert (reason.state, reason.facts["worker"]) == ("lost-lease", "w")
    assert 0 <= reason.facts["until"] - broker.clock.now() <= 5.1


async def test_about_to_be_taken_and_then_a_defect(broker):
    await take(broker, 0)
    await speak(broker)
    (event,) = await publish(broker)
    assert (await ask(broker, event)).state == "starting"
    reason = await ask(broker, await old(broker, 5))
    assert (reason.state, reason.facts["workers"]) == ("none", ["w"])
    assert "defect" in reason.sentence


async def test_a_due_retry_that_no_free_worker_takes_is_a_defect(broker):
    await old(broker)
    (delivery,) = await take(broker, 1)
    await settling(broker).settle([], [Postponed(delivery, 0)])
    place = f"{delivery.level}|{delivery.entry_id}"
    await broker.control.call("ZADD", broker.keys("s").retry("g"), 1000, place)
    await speak(broker)
    assert (await ask(broker, place)).state == "none"


# --- what cannot go on, and what is over


async def test_unreadable(broker):
    await take(broker, 0)
    await speak(broker)
    reason = await ask(broker, await old(broker, meta="{"))
    assert (reason.state, reason.facts["error"]) == ("unreadable", "bad-json")


async def test_a_payload_that_is_gone(broker):
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    del event
    await broker.control.call(
        "XDEL", broker.keys("s").level(delivery.level), delivery.entry_id
    )
    reason = await ask(broker, f"{delivery.level}|{delivery.entry_id}")
    assert (reason.state, reason.facts["error"]) == ("unreadable", "payload-gone")


async def test_orphaned_with_the_command_that_repairs_it(broker):
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    await broker.control.call(
        "XGROUP", "DELCONSUMER", broker.keys("s").level(delivery.level), "g", "w"
    )
    reason = await ask(broker, event)
    assert reason.state == "orphaned"
    assert reason.facts["repair"] == "streams doctor --repair --stream s"
    await Repair(broker, "me", silence=0.0).mend("s")
    assert (await ask(broker, event)).state != "orphaned"
    assert (
        await broker.control.call(
            "XPENDING", broker.keys("s").level(delivery.level), "g"
        )
    )[0] == 1


async def test_what_another_group_still_needs_is_no_orphan(broker):
    for group in "gh":
        declaring = Declaring(broker.keys("s"), LEVELS, group, Declaration("fanout"))
        reading = Fetching(
            GroupConsumer(broker, broker.keys("s"), LEVELS, group, "w"), declaring
        )
        await reading.ensure_group()
    (event,) = await publish(broker)
    (delivery,) = await take(broker, 1)
    await settling(broker).settle([delivery])
    found = await Why(broker, "s").ask(Wanted(event))
    assert {reason.group: reason.state for reason in found.reasons} == {
        "g": "done",
        "h": "no-worker",
    }


async def test_dead_done_and_unknown(broker):
    dead, done = await publish(broker, Event("t", 1), Event("t", 2))
    first, second = await take(broker, 2)
    await settling(broker).settle(
        [second], [], [Buried(first, "rejected", AttemptRecord().to_json())]
    )
    assert (await ask(broker, dead)).state == "dead"
    assert (await ask(broker, f"0|{second.entry_id}")).state == "done"
    assert (await ask(broker, done)).state == "unknown"  # Of its id nothing is kept.
    assert (await ask(broker, "never")).state == "unknown"


async def test_what_was_cancelled_is_told_with_who_did_it(broker):
    (scheduled,) = await publish(broker, Event("t", 1, delay=600))
    cancelling, status = Cancellations(broker, "s", by="ana"), Status(broker)
    await cancelling.cancel(scheduled)
    reason = await ask(broker, scheduled)
    assert (reason.state, reason.facts["by"]) == ("unknown", "ana")
    assert "it was cancelled by ana at 2" in reason.sentence
    with pytest.raises(
        NotFound, match=f"'s' has '{scheduled}' no more: it was cancelled by ana at 2"
    ):
        await status.find("s", scheduled)
    await publish(broker)
    (taken,) = await take(broker, 1)
    await settling(broker).settle([], [Postponed(taken, 600_000)], [])
    place = f"0|{taken.entry_id}"
    await cancelling.cancel(place)
    reason = await ask(broker, place)
    assert (reason.state, reason.facts["by"]) == ("done", "ana")
    assert "it was cancelled by ana at 2" in reason.sentence
    with pytest.raises(NotFound, match="no trace of 'another'"):
        await status.find("s", "another")


async def test_what_nobody_serves_is_there(broker):
    await publish(broker, Event("t", 1, id="ungrouped"))
    status = Status(broker)
    assert [
        (row.state, row.group, row.level) for row in await status.find("s", "ungrouped")
    ] == [("pending", "", 0)]
    await take(broker, 0)
    await broker.control.call(
        "XADD", broker.keys("s").level(3), "*", "type", "t", "id", "odd", "data", "1"
    )
    (found,) = await status.find("s", "odd")
    assert (found.state, found.group, found.level, found.type) == (
        "pending",
        "",
        3,
        "t",
    )
    reason = await ask(broker, "odd")
    assert (reason.state, reason.level) == ("level-unserved", 3)


# --- several at once


async def test_by_tenant_key_and_level(broker):
    await take(broker, 0)
    await publish(
        broker,
        *(
            Event("t", n, tenant="acme", key="k", priority=5 * (n % 2))
            for n in range(4)
        ),
        Event("t", 9, tenant="other"),
        Event("t", 9, tenant="acme", delay=600),
    )

    async def states(**which: Any) -> list[str]:
        return [
            reason.state
            for reason in (await Why(broker, "s").ask(Wanted(**which))).reasons
        ]

    assert await states(tenant="acme") == ["no-worker"] * 4 + ["scheduled"]
    assert await states(key="k") == ["no-worker"] * 4
    assert await states(level=5) == ["no-worker"] * 2
    assert await states(tenant="nobody") == []


async def test_no_more_than_a_hundred_are_judged(broker):
    await take(broker, 0)
    await publish(broker, *(Event("t", n, tenant="acme") for n in range(103)))
    found = await Why(broker, "s").ask(Wanted(tenant="acme"))
    assert (len(found.reasons), found.more, found.is_complete) == (100, 3, True)


async def test_bad_questions(broker):
    with pytest.raises(ConfigurationError, match="only one"):
        Wanted("e", key="k")
    with pytest.raises(ConfigurationError, match="give one"):
        Wanted()
    with pytest.raises(NotFound, match="no stream"):
        await Why(broker, "missing").ask(Wanted("e"))
    await publish(broker)
    with pytest.raises(NotFound, match="no group 'x'"):
        await Why(broker, "s").ask(Wanted("e"), "x")


# --- the doctor


async def findings(broker: Broker) -> list[str]:
    found = await Doctor(broker, role="operator").examine("s")
    return [
        finding.where for finding in found if finding.code == "runnable-but-waiting"
    ]


async def test_the_doctor_finds_what_waits_for_nothing(broker):
    await take(broker, 0)
    await old(broker)
    assert await findings(broker) == []  # No worker: that has a finding of its own.
    await speak(broker)
    assert await findings(broker) == ["s/g"]
    await Pauses(broker, "s").pause(level=0)
    assert await findings(broker) == []


async def test_the_doctor_finds_nothing_of_what_came_just_now(broker):
    await take(broker, 0)
    await speak(broker)
    await publish(broker)
    assert await findings(broker) == []


# --- several partitions


async def test_of_a_stream_with_partitions(server, namespace):
    async with Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        pipeline.stream("p", partitions=3)
        await pipeline.broker.control.call(
            "SET", pipeline.broker.keys("p").partitions(), "3 key"
        )
        # As a worker declares them.
        for name in map(partition_name, ["p"] * 3, range(3)):
            await pipeline.broker.control.call(
                "SADD", pipeline.broker.keys(name).levels(), 0, 1, 5, 10
            )
        receipts = [
            await pipeline.publish("p", n, type="t", key=f"k{n}", tenant="acme")
            for n in range(9)
        ]
        (reason,) = (await pipeline.why("p", receipts[4].event_id)).reasons
        assert (reason.state, reason.event_id) == ("no-worker", receipts[4].event_id)
        found = await pipeline.why("p", tenant="acme")
        assert {reason.event_id for reason in found.reasons} == {
            receipt.event_id for receipt in receipts
        }
        parts = [await pipeline.why("p", tenant="acme", partition=n) for n in range(3)]
        assert sum(len(part.reasons) for part in parts) == 9
        (unknown,) = (await pipeline.why("p", "never")).reasons
        assert unknown.state == "unknown"


def test_the_blocking_form(server, namespace):
    with sync.Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        receipt = pipeline.publish("s", 1, type="t", delay=600)
        (reason,) = pipeline.why("s", receipt.event_id).reasons
        assert reason.state == "scheduled"
