"""Limits: rates that hold exactly on every server, whoever asks, and what waits for them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import Broker, Event, Limit, Producer, Reject, Snooze
from streams.admin.limits import Limits
from streams.broker.entries.admit import Ask
from streams.events.codec import decode
from streams.events.names import member
from streams.policy.admission import Admission, Kind
from streams.policy.limit import Rate
from tests.conftest import eventually
from tests.server.asking import Hands, held
from tests.server.limiting import (
    SLACK,
    consuming,
    most_at_once,
    parked,
    parked_at_least,
    server_now,
    states,
)


async def test_who_has_to_wait_keeps_no_slot(broker):
    """One that was handed over, and is over its rate when it wants to start."""
    limit = Limit("tenant", rate="1/h", burst=1, concurrency=2)
    hands = Hands(broker)
    one, other = await hands.take_plain(2)
    (first,) = await hands.ask([one], (limit, "a"))
    await broker.control.call(
        "ZADD", broker.keys("s").busy_prefix("g") + "tenant=a", 1, f"0|{other.entry_id}"
    )
    (second,) = await hands.ask([other], (limit, "a"))
    assert (first.kind, second.kind, second.by) == (Kind.START, Kind.RATE, "tenant=a")
    assert (await held(broker))["busy:tenant=a"] == [f"0|{one.entry_id}"]


# --- the script against a model


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    interval=st.sampled_from([0.004, 0.01, 0.03]),
    burst=st.integers(1, 5),
    keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=25),
)
async def test_starts_conform_whatever_comes(server, interval, burst, keys):
    """Asked by hand, in batches, with each coming back at its time: exact by the server's clock."""
    rate = Rate(interval, burst)
    limit = Limit("tenant", rate="1/s")
    object.__setattr__(limit, "parsed", rate)
    async with Broker(server.url, namespace=f"n{time.monotonic_ns()}") as broker:
        hands = Hands(broker)
        started: defaultdict[str, list[float]] = defaultdict(list)
        batch = await hands.take(*(Event("t", None, tenant=key) for key in keys))
        visits = left = len(keys)
        while left:
            asks = [
                Ask(delivery, [(limit, decode(delivery.fields).tenant)])
                for delivery in batch
            ]
            before = await server_now(broker)
            answers = await hands.admitting.admit(asks)
            after = await server_now(broker)
            for ask, answer in zip(asks, answers, strict=True):
                if answer.kind is Kind.START:
                    # It started between the two readings. Those before it no earlier, this one no later: what is over
                    # the rate then is over it, however long a round trip took.
                    ((_, key),) = ask.limits
                    assert most_at_once([*started[key], after], rate) <= 0.01
                    started[key].append(before)
            left -= sum(answer.kind is Kind.START for answer in answers)
            batch = []
            while left and not batch:
                reply = await hands.fetching.take_due(1000, 0)
                batch = reply.deliveries
                if not batch and reply.next_due is not None:
                    await asyncio.sleep(max(0.0, reply.next_due - broker.clock.now()))
            visits += len(batch)
        assert Counter(keys) == Counter(
            {key: len(rows) for key, rows in started.items()}
        )
        assert visits <= 4 * len(keys), (
            "who waits comes back at its time, not again and again"
        )
        await eventually(lambda: no_states(broker), what="the idle keys to be gone")


async def test_each_gets_a_time_of_its_own_and_who_comes_later_a_later_one(broker):
    hands, slow = Hands(broker), (Limit("tenant", rate="1/10s", burst=3), "a")
    eight = await hands.take_plain(8)
    first = await hands.ask(eight, slow)
    assert [answer.kind for answer in first] == [Kind.START] * 3 + [Kind.RATE] * 5
    assert [round(answer.wait) for answer in first[3:]] == [10, 20, 30, 40, 50]
    (later,) = await hands.ask(await hands.take_plain(1), slow)
    assert round(later.wait) == 60
    (early,) = await hands.ask(await hands.hasten(eight[3]), slow)
    assert early.kind is Kind.RATE, (
        "back before its time, as after a change of the limit: behind those who came late"
    )
    place = member(0, eight[3].entry_id)
    assert Admission.stored(
        await broker.control.call("HGET", broker.keys("s").admissions("g"), place)
    ) == Admission(Kind.RATE, "tenant=a", places={"tenant=a": 2})
    (other,) = await hands.ask(await hands.take_plain(1), (slow[0], "b"))
    assert other.kind is Kind.START


async def test_all_limits_or_none(broker):
    """What one limit refuses takes nothing from the other; it is reserved where it waits longest."""
    hands = Hands(broker)
    wide, narrow = (
        Limit("instance", rate="1/10s", burst=2),
        Limit("subject", rate="1/40s"),
    )
    first, second, third = await hands.ask(
        await hands.take_plain(3), (wide, "i"), (narrow, "r1")
    )
    assert first.kind is Kind.START
    assert (second.by, round(second.wait)) == ("subject=r1", 40)
    assert (third.by, round(third.wait)) == ("subject=r1", 80)
    (other,) = await hands.ask(await hands.take_plain(1), (wide, "i"), (narrow, "r2"))
    assert other.kind is Kind.START, (
        "the two that wait for a recipient took nothing from the instance"
    )
    (late,) = await hands.ask(await hands.take_plain(1), (wide, "i"), (narrow, "r3"))
    assert (late.by, round(late.wait)) == ("instance=i", 10)


async def no_states(broker: Broker) -> bool:
    return not await states(broker)


# --- consumers


@pytest.mark.parametrize(
    ("rate", "burst", "count"), [("50/s", 5, 60), ("20/s", 1, 15), ("200/s", None, 150)]
)
async def test_a_rate_holds_over_several_consumers(broker, machine, rate, burst, count):
    starts: defaultdict[str, list[float]] = defaultdict(list)

    async def handler(event: Event) -> None:
        starts[event.tenant].append(time.monotonic())

    events = [Event("t", n, tenant=f"t{n % 2}") for n in range(2 * count)]
    await Producer(broker, "s").publish_many(events)
    began = time.monotonic()
    async with consuming(
        broker, handler, Limit("tenant", rate=rate, burst=burst), count=3
    ) as consumers:
        await eventually(
            lambda: sum(map(len, starts.values())) == 2 * count, what="all", seconds=20
        )
        took = time.monotonic() - began
        assert (
            sum(consumer.stats.retried + consumer.stats.dead for consumer in consumers)
            == 0
        )
    parsed = Rate.parse(rate, burst)
    for rows in starts.values():
        assert len(rows) == count
        assert most_at_once(rows, parsed) <= 1 + (0.02 + machine()) / parsed.interval
    assert took >= (count - parsed.burst) * parsed.interval - 0.01


async def test_what_waits_for_one_limit_holds_up_no_other(broker):
    """A recipient with a long queue does not use up the rate of its instance."""
    seen: list[tuple[str, float]] = []

    async def handler(event: Event) -> None:
        seen.append((event.subject, time.monotonic()))

    producer = Producer(broker, "s")
    limits = (
        Limit("instance", rate="200/s", burst=20),
        Limit(("instance", "subject"), rate="1/5s"),
    )
    await producer.publish_many(
        Event("t", n, instance="i", subject="slow") for n in range(200)
    )
    async with consuming(broker, handler, *limits):
        await eventually(lambda: len(seen) == 1, what="the first of the slow ones")
        await eventually(lambda: parked(broker, 199), what="the others to wait")
        began = time.monotonic()
        await producer.publish_many(
            Event("t", n, instance="i", subject=f"r{n}") for n in range(20)
        )
        await eventually(lambda: len(seen) >= 21, what="the others")
    assert max(at for who, at in seen if who != "slow") - began < 1.0


async def test_an_event_that_waits_holds_no_slot_and_burns_no_attempt(broker):
    attempts: list[int] = []

    async def handler(event: Event) -> None:
        attempts.append(event.attempt)

    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a") for n in range(10)
    )
    async with consuming(
        broker, handler, Limit("tenant", rate="1/h"), concurrency=1
    ) as consumers:
        await eventually(lambda: parked(broker, 9), what="nine to wait")
        await Producer(broker, "s").publish(0, type="t", tenant="b")
        await eventually(lambda: len(attempts) == 2, what="the other tenant's")
        await eventually(lambda: consumers[0].busy == 0, what="no slot to be held")
        await Limits(broker, "s", "g").set("tenant", "500/s")
        await eventually(lambda: len(attempts) == 11, what="all")
        await eventually(lambda: consumers[0].held == 0, what="the acknowledgements")
        assert consumers[0].stats.limited >= 9
        assert await broker.control.call("EXISTS", broker.keys("s").attempts("g")) == 0
    assert attempts == [1] * 11


async def test_a_worker_that_comes_late_sends_no_clump(broker):
    """Reserved times that passed while nobody was there are not all used at once."""
    starts: list[float] = []

    async def handler(event: Event) -> None:
        starts.append(time.monotonic())

    limit = Limit("tenant", rate="40/s", burst=2)
    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a") for n in range(60)
    )
    async with consuming(broker, handler, limit):
        await eventually(lambda: parked_at_least(broker, 50), what="most to wait")
    first = len(starts)
    await asyncio.sleep(0.8)  # Their times pass.
    async with consuming(broker, handler, limit, count=2):
        await eventually(lambda: len(starts) == 60, what="all", seconds=15)
    rate = Rate.parse("40/s", 2)
    assert first < 60
    assert most_at_once(starts, rate) <= 1 + 0.02 / rate.interval


async def test_events_without_a_key_are_not_limited_and_a_failing_key_is_refused(
    broker,
):
    done: list[int] = []

    async def handler(event: Event) -> None:
        done.append(event.data["n"])

    def by(event: Event) -> str:
        return event.data["who"]

    await Producer(broker, "s").publish_many(
        [{"n": 1, "who": None}, {"n": 2}, {"n": 3, "who": ""}], type="t"
    )
    async with consuming(
        broker, handler, Limit(by, rate="1/h", name="who")
    ) as consumers:
        await eventually(
            lambda: consumers[0].stats.done == 2 and consumers[0].stats.dead == 1,
            what="all",
        )
    assert sorted(done) == [1, 3]
    rows = await broker.control.call("XRANGE", broker.keys("s").dead("g"), "-", "+")
    assert b"invalid" in rows[0][1]


async def test_a_failure_takes_its_part_of_the_limit_again(broker):
    starts: list[float] = []

    async def handler(event: Event) -> None:
        starts.append(time.monotonic())
        raise Reject if len(starts) == 3 else Snooze(0.0)

    await Producer(broker, "s").publish(1, type="t", tenant="a")
    async with consuming(
        broker, handler, Limit("tenant", rate="5/s", burst=1)
    ) as consumers:
        await eventually(lambda: consumers[0].stats.dead == 1, what="three attempts")
    assert min(b - a for a, b in pairwise(starts)) >= 0.2 - SLACK
