"""Slots of a limited concurrency meet pauses, expiry, levels and deploys: what is free to run does not stand still."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Levels,
    Limit,
    Pauses,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
    Snooze,
)
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Buried, Postponed
from streams.handlers.routes import Route
from streams.policy.admission import Kind
from streams.producer import ProducerOptions
from tests.conftest import eventually
from tests.server.asking import Hands, held
from tests.server.limiting import no_slots, parked

ONE = Limit("tenant", concurrency=1)
LEVELS = Levels((0, 5))


@contextlib.asynccontextmanager
async def working(
    broker: Broker, handler: Callable, **options
) -> AsyncIterator[Consumer]:
    """A consumer of two levels with a limit of one at a time per tenant. Its lease does not help anybody here."""
    consumer = Consumer(
        broker,
        "s",
        "g",
        Route(handler, limits=[ONE]),
        ConsumerOptions(levels=LEVELS, **options),
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await running


class Handler:
    """Holds what is called ``first`` until it is let go; the others are done at once."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.seen: list[str] = []

    async def __call__(self, event: Event) -> None:
        self.seen.append(event.data)
        if event.data == "first":
            await self.go_on.wait()


def event(name: str, **facts) -> Event:
    return Event(facts.pop("type", "t"), name, tenant="acme", **facts)


async def begin(broker: Broker, handler: Handler) -> Producer:
    """One event runs, and has the tenant's slot."""
    producer = Producer(broker, "s", ProducerOptions(levels=LEVELS))
    await producer.publish(event("first"))
    await eventually(lambda: handler.seen == ["first"], what="the first to run")
    return producer


async def test_what_expired_in_the_queue_holds_up_nobody(broker):
    handler = Handler()
    async with working(broker, handler.__call__) as consumer:
        producer = await begin(broker, handler)
        await producer.publish_many(
            [event(f"late {n}", expires=0.001) for n in range(3)]
        )
        await producer.publish_many([event(f"c{n}") for n in range(3)])
        await eventually(
            lambda: consumer.stats.dead + consumer.stats.limited >= 6,
            what="all to wait, or to be refused",
        )
        handler.go_on.set()
        await eventually(
            lambda: handler.seen == ["first", "c0", "c1", "c2"],
            what="those behind them",
        )
        await eventually(lambda: no_slots(broker), what="the slots to be gone")


async def test_what_expires_while_it_waits_holds_up_nobody(broker):
    """It is lined up in good time, and handed the slot when it is too late."""
    handler = Handler()
    async with working(broker, handler.__call__) as consumer:
        producer = await begin(broker, handler)
        await producer.publish_many(
            [event(f"late {n}", expires=3600.0) for n in range(3)]
        )
        await producer.publish_many([event(f"c{n}") for n in range(3)])
        await eventually(lambda: parked(broker, 6), what="all to wait")
        # This worker's view of the time: of what it reads from now on, that has expired.
        broker.clock.ahead = 7200.0
        handler.go_on.set()
        await eventually(
            lambda: handler.seen == ["first", "c0", "c1", "c2"],
            what="those behind them",
        )
        assert consumer.stats.dead == 3
        await eventually(lambda: no_slots(broker), what="the slots to be gone")


@pytest.mark.parametrize(
    "where", [{"level": 5}, {"type": "b"}], ids=["by level", "by attribute"]
)
async def test_a_pause_holds_up_nobody_but_those_that_it_covers(broker, where):
    handler = Handler()
    async with working(broker, handler.__call__) as consumer:
        producer = await begin(broker, handler)
        for n in range(3):
            await producer.publish(event(f"b{n}", type="b", priority=5))
        await eventually(lambda: parked(broker, 3), what="them to wait")
        for n in range(3):
            await producer.publish(event(f"c{n}"))
        await eventually(
            lambda: consumer.stats.limited == 6, what="the others to wait behind them"
        )
        await Pauses(broker, "s").pause(**where)
        await eventually(
            lambda: consumer.paused or consumer._fetcher._gate.scopes,
            what="the pause to be known",
        )
        handler.go_on.set()
        await eventually(
            lambda: handler.seen == ["first", "c0", "c1", "c2"],
            what="those that are not paused",
        )
        await producer.publish(event("new"))
        await eventually(
            lambda: handler.seen[-1] == "new", what="one that is published meanwhile"
        )
        await Pauses(broker, "s").resume_all()
        await eventually(
            lambda: sorted(handler.seen[5:]) == ["b0", "b1", "b2"],
            what="those that were paused",
        )
        await eventually(lambda: no_slots(broker), what="the slots to be gone")


async def test_a_new_event_passes_what_cannot_start(broker):
    """The slot is free, and all that stands in the queue is paused: nobody is there to hand anything on."""
    handler = Handler()
    async with working(broker, handler.__call__):
        producer = await begin(broker, handler)
        await producer.publish(event("b", priority=5))
        await eventually(lambda: parked(broker, 1), what="it to wait")
        keys = broker.keys("s")
        await Pauses(broker, "s").pause(level=5)
        # As if its holder was never there.
        await broker.control.call("DEL", keys.busy_prefix("g") + "tenant=acme")
        await producer.publish(event("new"))
        await eventually(lambda: "new" in handler.seen, what="the new one")
        handler.go_on.set()


async def test_queues_are_looked_after_when_nobody_hands_on(broker):
    """A worker dies, and its slots with it; the first in the queue is cancelled. The sweep tells the next."""
    keys = broker.keys("s")
    await Producer(broker, "s").publish_many([event(str(n)) for n in range(3)])
    level = keys.level(0)
    await broker.control.call("XGROUP", "CREATE", level, "g", "0")
    ((_, rows),) = await broker.control.call(
        "XREADGROUP", "GROUP", "g", "c", "COUNT", 3, "STREAMS", level, ">"
    )
    places = [(0, entry_id.decode()) for entry_id, _ in rows]
    admitting = Admitting(GroupConsumer(broker, keys, Levels(), "g", "c", lease=30.0))
    answers = await admitting.admit(
        [Ask(Delivery(*place, []), [(ONE, "acme")]) for place in places]
    )
    assert [answer.kind for answer in answers] == [Kind.START, Kind.SLOT, Kind.SLOT]
    assert await broker.control.call("HGETALL", keys.queues("g")) == [
        b"tenant=acme",
        b"1",
    ]
    await broker.control.call("ZADD", keys.retry("g"), 9e15, f"0|{places[2][1]}")
    # As if by hand: the first of them is gone, and what the worker had.
    await broker.control.call("XACK", level, "g", places[0][1], places[1][1])
    reclaimer = Reclaimer(
        broker, "s", "g", options=ReclaimerOptions(levels=Levels((0,)), interval=0.01)
    )
    sweeping = asyncio.create_task(reclaimer.run())

    async def is_told() -> bool:
        return (
            float(
                await broker.control.call(
                    "ZSCORE", keys.retry("g"), f"0|{places[2][1]}"
                )
            )
            < 9e15
        )

    await eventually(is_told, what="the last to be told")
    await broker.control.call("XACK", level, "g", places[2][1])

    async def is_gone() -> bool:
        return await broker.control.call("EXISTS", keys.queues("g")) == 0

    await eventually(
        is_gone,
        what="the queue to go, with its slots: they are empty, and not looked after",
    )
    reclaimer.stop()
    await sweeping


async def test_levels_that_a_worker_does_not_know_keep_their_slots(broker):
    """A rolling deploy adds level 5: the old worker must not take the slot of the new one's event for lost."""
    keys = broker.keys("s")
    await Producer(broker, "s", ProducerOptions(levels=LEVELS)).publish_many(
        # The second one of its level, or its entry id might be that of the other level's.
        [
            event("old worker's"),
            event("new worker's", priority=5),
            event("new worker's", priority=5),
        ]
    )
    places: list[tuple[int, str]] = []
    for level in (5, 0):
        key = keys.level(level)
        await broker.control.call("XGROUP", "CREATE", key, "g", "0")
        ((_, rows),) = await broker.control.call(
            "XREADGROUP", "GROUP", "g", f"c{level}", "STREAMS", key, ">"
        )
        places.append((level, rows[-1][0].decode()))
    new = Admitting(GroupConsumer(broker, keys, LEVELS, "g", "c5", lease=30.0))
    old = Admitting(GroupConsumer(broker, keys, Levels((0,)), "g", "c0", lease=30.0))
    (answer,) = await new.admit([Ask(Delivery(*places[0], []), [(ONE, "acme")])])
    assert answer.kind is Kind.START
    (answer,) = await old.admit([Ask(Delivery(*places[1], []), [(ONE, "acme")])])
    assert answer.kind is Kind.SLOT, "two at once"
    await old.hand_over([(ONE, "acme")], 1, looks=True)
    assert (
        await broker.control.call("ZCARD", keys.busy_prefix("g") + "tenant=acme") == 1
    )


async def test_a_worker_is_handed_nothing_of_levels_that_it_does_not_serve(broker):
    handler, other = Handler(), Handler()
    async with working(
        broker, handler.__call__, serve=Levels((5,)), name="high"
    ) as high:
        producer = Producer(broker, "s", ProducerOptions(levels=LEVELS))
        await producer.publish(event("first", priority=5))
        await eventually(lambda: handler.seen == ["first"], what="the first to run")
        async with working(broker, other.__call__, serve=Levels((0,)), name="low"):
            await producer.publish(event("low"))
            await eventually(lambda: parked(broker, 1), what="the low one to wait")
            handler.go_on.set()
            await eventually(
                lambda: other.seen == ["low"], what="the other worker to run it"
            )
        assert handler.seen == ["first"]
        assert high.stats.fetched == 1


async def test_a_slot_is_given_back_before_another_can_have_the_entry(broker):
    """What is put back, due at once, may start elsewhere before anybody hears of it: that has the slot then."""
    hands, other = Hands(broker), Hands(broker, "other")
    (delivery,) = await hands.take(event("x"))
    await hands.ask([delivery], (ONE, "acme"))
    member = f"0|{delivery.entry_id}"
    assert await held(broker) == {"busy:tenant=acme": [member], "admissions": [member]}
    await hands.settling.settle((), [Postponed(delivery, 0)])
    assert await held(broker) == {}, "with the outcome, in one step"
    (again,) = await other.take_due()
    await other.ask([again], (ONE, "acme"))
    late = Delivery(0, delivery.entry_id, [], delivery.count)
    for outcome in (
        {"postponed": [Postponed(late, 0)]},
        {"buried": [Buried(late, "rejected", b"")]},
    ):
        await hands.settling.settle((), **outcome)
        assert (await held(broker))["busy:tenant=acme"] == [member], (
            "a lost lease gives back nothing"
        )
    await hands.settling.settle([late])
    assert (await held(broker))["busy:tenant=acme"] == [member], (
        "it runs there still, whoever acknowledges it"
    )
    await other.settling.settle([again])
    assert await held(broker) == {}


async def test_a_key_that_is_another_one_each_time_leaves_nothing_behind(broker):
    """A function that draws lots: each attempt has a slot and a rate of its own, and gives back what it had."""
    asked = itertools.count()
    tries: list[int] = []

    async def handler(event: Event) -> None:
        tries.append(event.data)
        if tries.count(event.data) == 1:
            raise ValueError("the first time")
        if tries.count(event.data) == 2:
            raise Snooze(0.01)

    odd = Limit(
        lambda event: f"key {next(asked)}", name="odd", concurrency=1, rate="1000/s"
    )
    route = Route(handler, limits=[odd], retry=Retry(delay=0.01, jitter=0.0))
    consumer = Consumer(broker, "s", "g", route)
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "s").publish_many(range(20), type="t")
    await eventually(lambda: consumer.stats.done == 20, what="all")
    consumer.stop()
    await running
    assert next(asked) >= 60
    assert await no_slots(broker)
    left = [
        key.decode()
        for key in await broker.control.call("KEYS", f"{broker.namespace}:*")
    ]
    assert [
        key
        for key in left
        if "key " in key and await broker.control.call("PTTL", key) == -1
    ] == []
    assert [
        key
        for key in left
        if ":busy:" in key or ":queue:" in key or key.endswith(":admissions")
    ] == []


async def test_what_an_older_version_left_in_a_queue_holds_up_nobody(broker):
    """It ended, and stands first in the queue of its limit."""
    done = []

    async def handler(event: Event) -> None:
        done.append(event.data)

    keys = broker.keys("s")
    await broker.control.call(
        "ZADD", keys.queue_prefix("g") + "tenant=acme", 1, "0|1-1"
    )
    await Producer(broker, "s").publish(1, type="t", tenant="acme")
    route = Route(handler, limits=(Limit("tenant", concurrency=1),))
    consumer = Consumer(broker, "s", "g", route, ConsumerOptions(lease=60.0))
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: done == [1], seconds=10, what="the event to start")
    consumer.stop()
    await running
