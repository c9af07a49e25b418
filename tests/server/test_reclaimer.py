"""The reclaimer on a real server: what it takes over, and what a stall costs an event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from streams import Broker, Consumer, DeadLetters, Levels, Producer, Retry
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Postponed, Settling
from streams.broker.keys import PARKED
from streams.handlers.routes import Route, Router
from streams.policy.retry import AttemptRecord, Bury, Decision, RetryIn
from tests.conftest import eventually
from tests.server.stalling import age, fetch, owners, reclaimer, stall


async def record(broker: Broker, delivery: Delivery) -> AttemptRecord:
    member = f"{delivery.level}|{delivery.entry_id}"
    return AttemptRecord.from_json(
        await broker.control.call("HGET", broker.keys("s").attempts("g"), member)
    )


async def test_only_the_silent_are_taken_over(broker):
    producer = Producer(broker, "s")
    await producer.publish_many([1, 2, 3], type="t")
    silent = await stall(broker)
    await producer.publish_many([4, 5], type="t", priority=10)
    live = await fetch(broker, "alive")
    sweeper = reclaimer(broker)
    assert await sweeper.sweep() is False
    found = await owners(broker)
    assert {found[delivery.place] for delivery in silent} == {(PARKED, 1)}
    assert {found[delivery.place] for delivery in live} == {("alive", 1)}
    assert sweeper.stalled == 3
    rows = await broker.control.call("ZRANGE", broker.keys("s").retry("g"), 0, -1)
    assert {row.decode() for row in rows} == {
        f"0|{delivery.entry_id}" for delivery in silent
    }
    await sweeper.sweep()
    assert sweeper.stalled == 3


async def test_a_stall_is_a_burnt_attempt_and_named_as_such(broker, caplog):
    await Producer(broker, "s").publish(1, type="t")
    (delivery,) = await stall(broker, "worker-7")
    with caplog.at_level(logging.WARNING, "streams.reclaimer"):
        await reclaimer(broker).sweep()
    found = await record(broker, delivery)
    assert (found.failures, found.stalls, found.suspect) == (0, 1, False)
    (error,) = found.errors
    assert (error["kind"], error["attempt"], error["consumer"]) == (
        "stall",
        1,
        "worker-7",
    )
    (line,) = caplog.records
    assert (line.streams_message, line.entry, line.consumer, line.outcome) == (
        "stalled entry reclaimed",
        delivery.entry_id,
        "worker-7",
        "retry",
    )
    seen = []

    async def handler(event) -> None:
        seen.append(event.attempt)

    consumer = Consumer(broker, "s", "g", handler)
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.stats.done, what="the retry")
    running.cancel()
    await asyncio.wait([running])
    assert seen == [2]
    assert await owners(broker) == {}


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_dead_after_its_retries(broker, max_retries):
    await Producer(broker, "s").publish({"n": 1}, type="t")
    sweeper = reclaimer(broker, Retry(max_retries=max_retries))
    letters = DeadLetters(broker, "s", "g")
    last = max(1, max_retries) + 1  # Once alone, if there are no retries.
    for stalls in range(1, last + 1):
        assert await letters.count() == 0
        (delivery,) = await stall(broker)
        assert delivery.count == stalls
        await sweeper.sweep()
        if stalls < last:
            found = await record(broker, delivery)
            assert found.stalls == stalls
            assert found.suspect == (stalls == last - 1)
    (letter,) = await letters.page()
    assert (letter.reason, letter.failures, letter.stalls) == ("stalled", 0, last)
    assert letter.fields[2] == (b"data", b'{"n":1}')
    assert await owners(broker) == {}
    assert (
        await broker.control.call(
            "EXISTS", *(broker.keys("s").retry("g"), broker.keys("s").attempts("g"))
        )
        == 0
    )


async def test_stalls_and_failures_add_up(broker):
    await Producer(broker, "s").publish(1, type="t")
    (delivery,) = await fetch(broker, "alive")
    known = AttemptRecord()
    known.add("failure", {"type": "ValueError"}, at=1.0)
    settling = Settling(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "alive"))
    await settling.settle((), [Postponed(delivery, 0, known.to_json())])
    for _ in range(2):  # The first time it was not alone.
        assert await DeadLetters(broker, "s", "g").count() == 0
        await stall(broker)
        await reclaimer(broker, Retry(max_retries=1)).sweep()
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert (letter.reason, letter.failures, letter.stalls) == ("stalled", 1, 2)
    assert [error["kind"] for error in letter.errors] == ["failure", "stall", "stall"]


@pytest.mark.parametrize(
    ("own", "policy", "dies"),
    [(0, 5, True), (1, 0, True), (2, 0, False), (3, 0, False)],
)
async def test_the_events_own_limit_wins(broker, own, policy, dies):
    await Producer(broker, "s").publish(1, type="t", max_retries=own)
    for _ in range(2):
        (delivery,) = await stall(broker)
        await reclaimer(broker, Retry(max_retries=policy)).sweep()
    assert await DeadLetters(broker, "s", "g").count() == dies
    assert (await owners(broker)).get(delivery.place) == (None if dies else (PARKED, 2))


@pytest.mark.parametrize(
    "meta",
    ["[]", "{", '{"max_retries":"x"}', '{"max_retries":-1}', '{"max_retries":true}'],
)
async def test_a_limit_that_cannot_be_read_does_not_stop_the_sweep(broker, meta):
    key = broker.keys("s").level(0)
    await broker.control.call("XADD", key, "*", "type", "t", "data", "1", "meta", meta)
    (delivery,) = await stall(broker)
    await reclaimer(broker, Retry(max_retries=1)).sweep()
    assert await owners(broker) == {delivery.place: (PARKED, 1)}


async def test_the_policy_is_that_of_the_events_handler(broker):
    async def handler(event) -> None: ...

    router = Router(
        [
            Route(handler, types=["fragile"], retry=Retry(max_retries=0)),
            Route(handler, retry=Retry(max_retries=5)),
        ]
    )
    producer = Producer(broker, "s")
    await producer.publish(1, type="fragile")
    await producer.publish(2, type="sturdy")
    for _ in range(2):
        sturdy = (await stall(broker))[-1]
        await reclaimer(broker, router).sweep()
    assert [letter.type for letter in await DeadLetters(broker, "s", "g").page()] == [
        "fragile"
    ]
    assert await owners(broker) == {sturdy.place: (PARKED, 2)}


class Odd(Retry):
    """A policy of the user's, with a defect."""

    __slots__ = ("_decides",)

    def __init__(self, decides: Callable[[AttemptRecord], Any]) -> None:
        super().__init__(max_retries=1)
        object.__setattr__(self, "_decides", decides)

    def after_stall(self, record: AttemptRecord, **options: Any) -> Decision:
        return self._decides(record)


def _raise(error: BaseException) -> Any:
    raise error


def _spoil(record: AttemptRecord) -> Decision:
    record.errors.append({"what": object()})
    return RetryIn(0.0)


@pytest.mark.parametrize(
    "decides",
    [
        lambda _: _raise(KeyError("no such tier")),
        lambda _: _raise(SystemExit(3)),
        lambda _: _raise(asyncio.CancelledError()),
        lambda _: None,
        lambda _: RetryIn(float("nan")),
        lambda _: RetryIn("soon"),
        lambda _: Bury(None),
        _spoil,
    ],
    ids=["raises", "exits", "cancels", "nothing", "nan", "text", "no-reason", "spoils"],
)
async def test_a_policy_that_fails_ends_no_sweep(broker, caplog, decides):
    """Its entry is retried by the default policy, its neighbours by their own."""

    async def handler(event) -> None: ...

    router = Router(
        [
            Route(handler, types=["odd"], retry=Odd(decides)),
            Route(handler, retry=Retry(max_retries=0)),
        ]
    )
    producer = Producer(broker, "s")
    await producer.publish(1, type="odd")
    await producer.publish(2, type="plain")
    odd, plain = await stall(broker)
    await reclaimer(broker, router).sweep()
    assert await owners(broker) == {odd.place: (PARKED, 1), plain.place: (PARKED, 1)}
    assert [
        (found.stalls, found.suspect)
        for found in (await record(broker, odd), await record(broker, plain))
    ] == [
        (1, False),
        (1, True),
    ]
    (line,) = [
        line for line in caplog.records if "the retry policy failed" in line.message
    ]
    assert line.exc_info is not None, "where it failed is in the log"


async def test_an_entry_deleted_meanwhile_is_let_go(broker):
    await Producer(broker, "s").publish_many([1, 2], type="t")
    first, second = await stall(broker)
    await broker.control.call("XDEL", broker.keys("s").level(0), first.entry_id)
    sweeper = reclaimer(broker)
    await sweeper.sweep()
    assert await owners(broker) == {second.place: (PARKED, 1)}
    assert sweeper.stalled == 1


async def test_five_hundred_at_once(broker):
    await Producer(broker, "s").publish_many(range(500), type="t")
    deliveries = await stall(broker)
    sweeper = reclaimer(broker)
    slices = 1
    while await sweeper.sweep():
        slices += 1
        assert sweeper.stalled <= slices * 100
    assert slices >= 5
    assert sweeper.stalled == 500
    assert set((await owners(broker)).values()) == {(PARKED, 1)}
    again = await fetch(broker, "alive")
    assert {d.place for d in again} == {d.place for d in deliveries}
    assert {AttemptRecord.from_json(d.record).stalls for d in again} == {1}


async def test_five_hundred_dead_at_once(broker):
    await Producer(broker, "s").publish_many(range(500), type="t")
    await stall(broker)
    while await reclaimer(broker, Retry(max_retries=0)).sweep():
        pass
    await stall(broker)
    sweeper = reclaimer(broker, Retry(max_retries=0), interval=0.05)
    running = asyncio.create_task(sweeper.run())
    letters = DeadLetters(broker, "s", "g")

    async def all_dead() -> bool:
        return await letters.count() == 500

    await eventually(all_dead, what="500 dead letters")
    sweeper.stop()
    await asyncio.wait_for(running, 5)
    assert await owners(broker) == {}


async def test_entries_that_wait_for_a_retry_are_left_alone(broker):
    """However long ago their last attempt was."""
    await Producer(broker, "s").publish_many(range(20), type="t")
    deliveries = await fetch(broker, "alive")
    known = AttemptRecord()
    known.add("failure", {"type": "ValueError"}, at=1.0)
    settling = Settling(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "alive"))
    await settling.settle(
        (), [Postponed(d, 3_600_000, known.to_json()) for d in deliveries]
    )
    await age(broker, PARKED, deliveries)
    rows = await broker.control.call(
        "ZRANGE", broker.keys("s").retry("g"), 0, -1, "WITHSCORES"
    )
    sweeper = reclaimer(broker)
    for _ in range(3):
        assert await sweeper.sweep() is False
    assert sweeper.stalled == 0
    assert set((await owners(broker)).values()) == {(PARKED, 1)}
    assert (await record(broker, deliveries[0])).attempts == 1
    assert (
        await broker.control.call(
            "ZRANGE", broker.keys("s").retry("g"), 0, -1, "WITHSCORES"
        )
        == rows
    )


async def test_lost_retry_rows_are_restored(broker, caplog):
    await Producer(broker, "s").publish_many(range(5), type="t")
    deliveries = await fetch(broker, "alive")
    settling = Settling(GroupConsumer(broker, broker.keys("s"), Levels(), "g", "alive"))
    await settling.settle(
        (), [Postponed(delivery, 3_600_000) for delivery in deliveries]
    )
    lost = deliveries[1:4]
    retry = broker.keys("s").retry("g")
    await broker.control.call(
        "ZREM", retry, *(f"0|{delivery.entry_id}" for delivery in lost)
    )
    await age(broker, PARKED, deliveries)
    sweeper = reclaimer(broker)
    with caplog.at_level(logging.WARNING, "streams.reclaimer"):
        while await sweeper.sweep():
            pass
    assert [(line.streams_message, line.count) for line in caplog.records] == [
        ("retry rows were missing and are restored", 3)
    ]
    assert await broker.control.call("ZCARD", retry) == 5
    again = await fetch(broker, "alive")
    assert {d.place for d in again} == {d.place for d in lost}
    assert [d.record for d in again] == [b""] * 3
    assert sweeper.stalled == 0
