"""Admission: whatever becomes of an entry, what it held at limits is given back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from streams import Consumer, ConsumerOptions, Event, Limit, Pauses
from streams.broker.admin.cancel import CancelStore
from streams.broker.entries.admit import Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.settle import Buried, Postponed
from streams.doctor.repair import Repair
from streams.events.names import member
from streams.policy.admission import Kind
from streams.policy.retry import AttemptRecord
from tests.server.admitting import LATER, ONE, Story
from tests.server.asking import ZERO, Hands, held

RATE = (Limit("instance", rate="1/h", burst=1), "i")


async def acknowledged(story: Story) -> None:
    await story.hands.settling.settle([story.first])


async def retried(story: Story) -> None:
    await story.hands.settling.settle(
        (), [Postponed(story.first, LATER, AttemptRecord(failures=1).to_json())]
    )


async def buried(story: Story) -> None:
    await story.hands.settling.settle(
        (), (), [Buried(story.first, "expired", AttemptRecord().to_json())]
    )


async def erased_while_it_ran(story: Story) -> None:
    await story.erase()
    await story.hands.settling.settle([story.first])


async def erased_and_its_lease_is_renewed(story: Story) -> None:
    await story.erase()
    assert await story.hands.settling.renew([story.first]) == [story.first]


async def erased_and_put_back(story: Story) -> None:
    await story.erase()
    await story.hands.settling.settle((), [Postponed(story.first, LATER)])


async def swept(story: Story) -> None:
    await story.silence()
    await story.sweep()
    await story.put_out_of_sight()


async def erased_and_swept(story: Story) -> None:
    await story.silence()
    await story.erase()
    await story.sweep()


async def not_known_to_its_consumer(story: Story) -> None:
    await story.hands.fetching.hand_back_unknown([story.second.place])
    await story.put_out_of_sight()


async def repaired(story: Story) -> None:
    await story.silence()
    await story.erase()
    assert (await Repair(story.broker, "me").mend("s"))["s"].payloads_gone == 1


RUNNING = (
    acknowledged, retried, buried, erased_while_it_ran, erased_and_its_lease_is_renewed, erased_and_put_back, swept,
    erased_and_swept, not_known_to_its_consumer, repaired,
)  # fmt: skip


@pytest.mark.parametrize("ends", RUNNING, ids=lambda ends: ends.__name__)
async def test_what_runs_gives_back_its_slot(
    broker, ends: Callable[[Story], Awaitable[None]]
):
    story = await Story(broker).begin()
    await ends(story)
    await story.is_over()


async def cancelled(story: Story) -> None:
    cancelling = CancelStore(broker := story.broker, broker.keys("s"), (0,))
    assert await cancelling.retrying("g", 0, [story.first.entry_id], "me") == [True]


async def erased(story: Story) -> None:
    await story.erase()
    assert await story.hands.take_due() == []


async def acknowledged_by_hand(story: Story) -> None:
    await story.broker.control.call(
        "XACK", story.keys.level(0), "g", story.first.entry_id
    )
    assert await story.hands.take_due() == []


async def paused(story: Story) -> None:
    await Pauses(story.broker, "s").pause(type="t")
    (taken,) = await story.hands.take_due()
    (answer,) = await story.hands.admitting.admit([Ask(taken, [ONE], ["type=t"])])
    assert (answer.kind, answer.by) == (Kind.PAUSED, "type=t")
    await leave(story)


async def over_another_limit(story: Story) -> None:
    (taken,) = await story.hands.take_due()
    (used,) = await story.others.take_plain(1)
    assert [answer.kind for answer in await story.others.ask([used], RATE)] == [
        Kind.START
    ]
    (answer,) = await story.hands.ask([taken], ONE, RATE)
    assert (answer.kind, answer.by) == (Kind.RATE, "instance=i")
    await leave(story)


async def declared_without_the_limit(story: Story) -> None:
    (taken,) = await story.hands.take_due()
    other = (Limit("key", concurrency=1), "k")
    assert [answer.kind for answer in await story.hands.ask([taken], other)] == [
        Kind.START
    ]
    assert (await held(story.broker))["busy:key=k"] == [story.name(story.first)]
    await story.hands.settling.settle([taken])


async def released_for_want_of_room(story: Story) -> None:
    (taken,) = await story.hands.take_due()
    await story.hands.settling.settle((), [Postponed(taken, LATER)])
    await leave(story)


async def leave(story: Story) -> None:
    """It waits on: its row says for what, and that is all that it has."""
    rows = (await held(story.broker))["admissions"]
    assert rows == sorted([story.name(story.first), story.name(story.second)])
    cancelling = CancelStore(broker := story.broker, broker.keys("s"), (0,))
    found = await held(story.broker)
    assert "busy:tenant=a" not in found
    assert found["queue:tenant=a"] == [story.name(story.second)]
    assert await cancelling.retrying("g", 0, [story.first.entry_id], "me") == [True]


HANDED = (
    cancelled, erased, acknowledged_by_hand, paused, over_another_limit, declared_without_the_limit,
    released_for_want_of_room,
)  # fmt: skip


@pytest.mark.parametrize("ends", HANDED, ids=lambda ends: ends.__name__)
async def test_what_was_handed_a_slot_gives_it_back(
    broker, ends: Callable[[Story], Awaitable[None]]
):
    story = await Story(broker).begin(handed=True)
    await ends(story)
    await story.is_over()


async def test_who_is_cancelled_in_the_queue_leaves_nothing(broker):
    story = await Story(broker).begin()
    cancelling = CancelStore(broker, broker.keys("s"), (0,))
    assert await cancelling.retrying("g", 0, [story.second.entry_id], "me") == [True]
    assert await held(broker) == {
        "busy:tenant=a": [story.name(story.first)],
        "admissions": [story.name(story.first)],
    }
    await story.hands.settling.settle([story.first])
    assert await held(broker) == {}


async def test_who_waits_for_a_rate_keeps_the_place_when_there_is_no_room(broker):
    hands, slow = Hands(broker), (Limit("tenant", rate="1/10s", burst=1), "a")
    deliveries = await hands.take_plain(3)
    answers = await hands.ask(deliveries, slow)
    assert [(answer.kind, round(answer.wait)) for answer in answers] == [
        (Kind.START, 0), (Kind.RATE, 10), (Kind.RATE, 20),
    ]  # fmt: skip
    (taken,) = await hands.hasten(deliveries[1])
    await hands.settling.settle((), [Postponed(taken, 0)])
    (again,) = await hands.take_due()
    (answer,) = await hands.ask([again], slow)
    assert round(answer.wait) == 10, (
        "behind what has started, and not behind what came after it"
    )


async def test_a_lost_lease_decides_nothing(broker):
    """What is somebody else's by now takes no slot, and is not put aside."""
    hands, other = Hands(broker), Hands(broker, "other")
    (delivery,) = await hands.take_plain(1)
    await broker.control.call(
        "XCLAIM", broker.keys("s").level(0), "g", "other", 0, delivery.entry_id
    )
    await Pauses(broker, "s").pause(type="t")
    assert [answer.kind for answer in await hands.ask([delivery], ONE)] == [Kind.LOST]
    (answer,) = await hands.admitting.admit([Ask(delivery, [ONE], ["type=t"])])
    assert answer.kind is Kind.LOST
    assert await held(broker) == {}
    mine = Delivery(*delivery.place, [], 2)
    assert [answer.kind for answer in await other.ask([mine], ONE)] == [Kind.START]


async def test_what_was_deleted_is_gone_and_has_nothing(broker):
    hands = Hands(broker)
    first, second = await hands.take_plain(2)
    await hands.ask([first], ONE)
    await broker.control.call("XDEL", broker.keys("s").level(0), second.entry_id)
    (answer,) = await hands.ask([second], ONE)
    assert answer.kind is Kind.GONE
    assert await held(broker) == {
        "busy:tenant=a": [member(*first.place)],
        "admissions": [member(*first.place)],
    }


async def test_one_call_for_what_is_paused_and_for_what_is_limited(broker, monkeypatch):
    hands = Hands(broker)
    taken = await hands.take(
        *(Event("t", n, tenant=tenant) for n, tenant in enumerate("abb"))
    )
    await Pauses(broker, "s").pause(tenant="a")
    calls: list[Any] = []
    call = hands.admitting._link.call

    async def counted(*command):
        calls.append(command)
        return await call(*command)

    monkeypatch.setattr(hands.admitting._link, "call", counted)
    asks = [
        Ask(taken[0], [ONE], ["tenant=a"]),
        *(Ask(delivery, [(ONE[0], "b")]) for delivery in taken[1:]),
    ]
    answers = await hands.admitting.admit(asks)
    assert [answer.kind for answer in answers] == [Kind.PAUSED, Kind.START, Kind.SLOT]
    assert len(calls) == 1
    assert await broker.control.call("ZCARD", broker.keys("s").retry("g")) == 2, (
        "they are put aside by the same call"
    )


async def test_a_suspect_starts_alone_or_not_at_all(broker):
    """Where it comes from is not asked: neither a look for retries nor a lane hands one out beside others."""

    async def handler(event: Event) -> None:
        pass

    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(levels=ZERO))
    suspect, plain = await Hands(broker).take_plain(2)
    suspect.record = AttemptRecord(stalls=3, suspect=True).to_json()
    starting, soonest = await consumer._gate.admit([suspect, plain], 2)
    assert (starting, soonest) == ([plain], 0.0)
    assert [row.delivery for row in consumer._settler._given.postponed] == [suspect]
    starting, _ = await consumer._gate.admit([suspect], 1, alone=True)
    assert starting == [suspect]


async def test_one_of_those_that_wait_for_a_breaker_comes_back_to_probe(broker):
    hands, scope = Hands(broker), "tenant=a"
    deliveries = await hands.take_plain(3)
    seconds, _ = await broker.control.call("TIME")
    pause = {
        "by": "b",
        "at": 1.0,
        "reason": "r",
        "probe": (int(seconds) + 60) * 1000,
        "every": 60_000,
    }
    await broker.control.call(
        "HSET", broker.keys("s").paused(), scope, orjson.dumps(pause)
    )
    answers = await hands.admitting.admit(
        [Ask(delivery, (), [scope]) for delivery in deliveries]
    )
    assert {answer.kind for answer in answers} == {Kind.BREAKER}
    assert [round(answer.wait, -2) for answer in answers] == [100, 3600, 3600]
    scout = member(*deliveries[0].place)
    pause |= {"probe": 1, "scout": scout}
    await broker.control.call(
        "HSET", broker.keys("s").paused(), scope, orjson.dumps(pause)
    )
    back = sorted(
        await hands.hasten(*deliveries),
        key=lambda delivery: delivery.place,
        reverse=True,
    )
    answers = await hands.admitting.admit(
        [Ask(delivery, (), [scope]) for delivery in back]
    )
    assert [answer.kind for answer in answers] == [
        Kind.BREAKER,
        Kind.BREAKER,
        Kind.START,
    ]
    assert [answer.probing for answer in answers] == ["", "", scope]


async def test_what_expires_while_it_is_paused_is_told_so_when_that_is_over(broker):
    """Its consumer has not heard that the pause is over, and asks: it may start, and is too late for that."""

    async def handler(event: Event) -> None:
        pass

    hands = Hands(broker)
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(levels=ZERO))
    taken = await hands.take(
        Event("t", "late", tenant="a", expires=3600.0),
        Event("t", "in time", tenant="a"),
    )
    consumer._gate.hold(frozenset({"tenant=a"}))
    broker.clock.ahead = 7200.0
    starting, _ = await consumer._gate.admit(taken, 2)
    assert [delivery.event.data for delivery in starting] == ["in time"]
    assert [letter.reason for letter in consumer._settler._given.buried] == ["expired"]
