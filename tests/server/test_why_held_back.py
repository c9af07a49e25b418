"""Reasons that hold an event back: its time, a pause, a limit, the order by key. One case for each."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Limit,
    Limits,
    Pauses,
    Reject,
    Retry,
    Snooze,
)
from streams.admin.why import Wanted, Why
from streams.broker.entries.settle import Postponed
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.waiting import LEVELS, ask, publish, settling, speak, take


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
