"""What an earlier version put aside, lined up or ended, in the hands of this one."""

from __future__ import annotations

from typing import Any

import orjson

from streams import Broker, Event, Limit, Pauses
from streams.admin.why import Wanted, Why
from streams.broker.entries.admit import Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.holding import held_by_scope
from streams.broker.entries.settle import Buried, Postponed
from streams.events.names import member
from streams.policy.admission import Admission
from streams.policy.retry import AttemptRecord
from tests.server.admitting import LATER, ONE, Story
from tests.server.asking import Hands, held


async def old_record(broker: Broker, delivery: Delivery, **said: Any) -> None:
    """An entry is put aside as an older version does it: what it waits for stands in its attempt record."""
    record = orjson.loads(AttemptRecord(failures=1).to_json()) | said
    await Hands(broker).settling.settle(
        (), [Postponed(delivery, LATER, orjson.dumps(record))]
    )


async def test_what_an_older_version_put_aside_for_a_pause_is_counted_and_comes_back(
    broker,
):
    hands = Hands(broker)
    (delivery,) = await hands.take(Event("t", 1, tenant="a"))
    await Pauses(broker, "s").pause(tenant="a")
    await old_record(broker, delivery, held="tenant=a")
    assert await held_by_scope(broker.control, broker.keys("s"), "g") == {"tenant=a": 1}
    (reason,) = (
        await Why(broker, "s").ask(Wanted(event=f"0|{delivery.entry_id}"))
    ).reasons
    assert (reason.state, reason.facts["scope"]) == ("paused", "tenant=a")
    await Pauses(broker, "s").resume(tenant="a")
    (back,) = await hands.take_due()
    assert back.place == delivery.place


async def test_what_an_older_version_put_aside_for_a_rate_keeps_its_place(broker):
    hands, slow = Hands(broker), (Limit("tenant", rate="1/10s", burst=1), "a")
    first, second, third = await hands.take_plain(3)
    await hands.ask([first], slow)
    await old_record(broker, second, reserved={"tenant": 1})
    (reason,) = (
        await Why(broker, "s").ask(Wanted(event=f"0|{second.entry_id}"))
    ).reasons
    assert (reason.state, reason.facts["limit"]) == ("rate", "tenant")
    assert [round(answer.wait) for answer in await hands.ask([third], slow)] == [10]
    (back,) = await hands.hasten(second)
    assert [round(answer.wait) for answer in await hands.ask([back], slow)] == [10], (
        "and not behind the third"
    )


async def test_a_record_says_no_more_what_its_entry_waits_for(broker):
    """It is read from an older version, and written without that."""
    record = AttemptRecord.from_json(orjson.dumps({
        "failures": 2, "stalls": 0, "first": 1.0, "last": 2.0, "errors": [], "held": "tenant=a", "reserved": {"x": 1},
    }))  # fmt: skip
    assert Admission.stored(None, record.to_json()) is None
    assert (record.failures, record.held, record.reserved) == (2, "tenant=a", {"x": 1})


async def test_what_an_older_version_lined_up_gives_back_the_slot_that_it_is_handed(
    broker,
):
    story = await Story(broker).begin()
    await broker.control.call("DEL", story.keys.admissions("g"))
    await story.hands.admitting.hand_over([ONE], 0)
    await broker.control.call(
        "ZREM", story.keys.busy_prefix("g") + "tenant=a", story.name(story.first)
    )
    await story.hands.admitting.hand_over([ONE], 0)
    assert await held(broker) == {
        "busy:tenant=a": [story.name(story.second)],
        "admissions": [story.name(story.second)],
    }
    (taken,) = await story.others.take_due()
    await story.others.settling.settle((), (), [Buried(taken, "expired", b"")])
    assert await held(broker) == {}


async def test_what_an_older_version_ended_leaves_no_row(broker):
    """It takes back the slot itself, and does not know of the row."""
    story = await Story(broker).begin()
    await broker.control.call("XACK", story.keys.level(0), "g", story.first.entry_id)
    await broker.control.call(
        "ZREM", story.keys.busy_prefix("g") + "tenant=a", story.name(story.first)
    )
    await story.hands.admitting.look_after_queues()
    assert story.name(story.first) not in (await held(broker))["admissions"]


async def test_a_pause_that_an_older_version_ended_is_told_by_the_sweep(broker):
    hands = Hands(broker)
    (delivery,) = await hands.take(Event("t", 1, tenant="a"))
    await Pauses(broker, "s").pause(tenant="a")
    await hands.admitting.admit([Ask(delivery, (), ["tenant=a"])])
    await hands.admitting.look_after_queues()
    assert await hands.take_due() == [], "it goes on"
    await broker.control.call("DEL", broker.keys("s").paused())
    await hands.admitting.look_after_queues()
    assert [back.place for back in await hands.take_due()] == [delivery.place]


async def test_a_row_of_another_delivery_is_no_reason(broker):
    """An older version was given the entry since, and it failed there."""
    hands, slow = Hands(broker), (Limit("tenant", rate="1/10s", burst=1), "a")
    first, second = await hands.take_plain(2)
    await hands.ask([first, second], slow)
    row = await broker.control.call(
        "HGET", broker.keys("s").admissions("g"), member(*second.place)
    )
    (taken,) = await hands.hasten(second)
    await hands.settling.settle(
        (), [Postponed(taken, LATER, AttemptRecord(failures=1).to_json())]
    )
    await broker.control.call(
        "HSET", broker.keys("s").admissions("g"), member(*second.place), row
    )
    (reason,) = (
        await Why(broker, "s").ask(Wanted(event=f"0|{second.entry_id}"))
    ).reasons
    assert reason.state == "retry"
