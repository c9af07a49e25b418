"""What an entry has at limits is given back by whatever ends it or puts it back, in counts; and what it waits for.

Each story begins alike: one entry has the only slot, and another waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Limit,
    Pauses,
    Reclaimer,
    ReclaimerOptions,
)
from streams.admin.why import Wanted, Why
from streams.broker.admin.cancel import CancelStore
from streams.broker.entries.admit import Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.holding import held_by_scope
from streams.broker.entries.settle import Buried, Postponed
from streams.doctor.repair import Repair
from streams.events.names import member
from streams.policy.admission import Admission, Kind
from streams.policy.retry import AttemptRecord
from tests.server.asking import ZERO, Hands, held

ONE = (Limit("tenant", concurrency=1), "a")
RATE = (Limit("instance", rate="1/h", burst=1), "i")
LATER = 3_600_000


class Story:
    """An entry with a slot, and one that waits for it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.hands, self.others = Hands(broker), Hands(broker, "other")
        self.keys = broker.keys("s")
        self.first: Delivery
        self.second: Delivery

    async def begin(self, *, handed: bool = False) -> Story:
        """``handed``: the first one was handed its slot while it waited, and nobody has come for it yet."""
        self.first, self.second = await self.hands.take_plain(2)
        if handed:
            (before,) = await self.hands.take_plain(1)
            await self.hands.ask([before, self.first, self.second], ONE)
            await self.hands.settling.settle([before])
            await self.hands.admitting.hand_over([ONE], 0)
        else:
            await self.hands.ask([self.first, self.second], ONE)
        assert (await held(self.broker))["busy:tenant=a"] == [self.name(self.first)]
        return self

    @staticmethod
    def name(delivery: Delivery) -> str:
        return member(*delivery.place)

    async def is_over(self) -> None:
        """The slot is nobody's, the other one is told, and has it then."""
        waits = [self.name(self.second)]
        assert await held(self.broker) == {"queue:tenant=a": waits, "admissions": waits}
        (told,) = await self.others.take_due()
        assert told.place == self.second.place, (
            "who waits is told by the script, whoever ran it"
        )
        assert [answer.kind for answer in await self.others.ask([told], ONE)] == [
            Kind.START
        ]
        await self.others.settling.settle([told])
        assert await held(self.broker) == {}

    async def erase(self) -> None:
        await self.broker.control.call("XDEL", self.keys.level(0), self.first.entry_id)

    async def silence(self) -> None:
        """Its consumer was heard of an hour ago."""
        where = (
            self.keys.level(0),
            "g",
            "c",
            0,
            self.first.entry_id,
            "IDLE",
            LATER,
            "JUSTID",
        )
        await self.broker.control.call("XCLAIM", *where)

    async def put_out_of_sight(self) -> None:
        """The first one is due, too: the other one is to be the only one."""
        await self.broker.control.call(
            "ZREM", self.keys.retry("g"), self.name(self.first)
        )

    async def sweep(self) -> None:
        reclaimer = Reclaimer(
            self.broker, "s", "g", options=ReclaimerOptions(levels=ZERO)
        )

        async def nothing(*_: Any, **__: Any) -> None:
            """It would hand the slot on, too."""

        reclaimer._admitting.look_after_queues = nothing
        await reclaimer.sweep()


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


# --- expiry


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


# --- what an older version wrote, or ended


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
