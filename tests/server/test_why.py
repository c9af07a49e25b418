"""Reasons of an event that waits for a worker, runs, or is gone: one case for each."""

from __future__ import annotations

import orjson

from streams import Event, Pauses
from streams.admin.why import Wanted, Why
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Buried, Postponed
from streams.doctor.repair import Repair
from streams.policy.declaration import Declaration
from streams.policy.retry import AttemptRecord
from tests.server.waiting import (
    LEVELS,
    SPEAKING,
    ask,
    old,
    publish,
    settling,
    speak,
    take,
)

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
    event = await old(broker, ago=10)
    seconds, _ = await broker.control.call("TIME")
    row = orjson.dumps(SPEAKING | {"at": int(seconds) - 20})
    await broker.control.call("HSET", broker.keys("s").workers("g"), "w", row)
    reason = await ask(broker, event)
    assert (reason.state, reason.facts.get("worker")) == ("no-worker", "w")
    assert "it may have ended" in reason.sentence
    row = orjson.dumps(SPEAKING | {"at": int(seconds)})
    await broker.control.call("HSET", broker.keys("s").workers("g"), "w", row)
    assert (await ask(broker, event)).state == "none"


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
