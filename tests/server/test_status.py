"""Status on a real server: what was arranged is what it says."""

from __future__ import annotations

import pytest
from rich.console import Console

from streams import (
    Broker,
    DeadLetters,
    Event,
    Filter,
    Levels,
    NotFound,
    Producer,
    Scheduler,
    Status,
)
from streams.admin.status import EntryState
from streams.admin.why import Wanted, Why
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Buried, Postponed, Settling
from streams.cli.ls import overview
from streams.doctor import Doctor
from streams.errors import InvalidName
from streams.policy.declaration import Declaration, Retention
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually

LEVELS = Levels()


async def fetch(
    broker: Broker,
    most: int,
    group: str = "g",
    consumer: str = "c1",
    retention: Retention | None = None,
) -> list[Delivery]:
    declaring = Declaring(broker.keys("s"), LEVELS, group, Declaration(retention))
    fetching = Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, group, consumer), declaring
    )
    await fetching.ensure_group()
    # The server takes COUNT 0 for "all".
    return await fetching.take(most) if most else []


def settling(broker: Broker, group: str = "g", consumer: str = "c1") -> Settling:
    return Settling(GroupConsumer(broker, broker.keys("s"), LEVELS, group, consumer))


def failed() -> bytes:
    record = AttemptRecord()
    record.add("failure", {"type": "ValueError", "message": "no"}, at=1.0)
    return record.to_json()


async def table(broker: Broker, group: str = "g") -> dict[int, tuple[int, int, int]]:
    """Per level: waiting, processing, retrying."""
    row = await Status(broker).stream("s")
    (found,) = [g for g in row.groups if g.group == group]
    return {
        level.level: (level.waiting, level.processing, level.retrying)
        for level in found.levels
    }


async def server_ms(broker: Broker) -> int:
    seconds, micros = await broker.control.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


# --- counts


async def test_every_state_on_every_level(broker):
    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, priority=10) for n in range(9))
    first = await fetch(broker, 9)
    await producer.publish_many(Event("t", n, priority=5) for n in range(4))
    await fetch(broker, 3, consumer="c2")
    await producer.publish_many(Event("t", n, priority=n % 2) for n in range(5))
    await producer.publish_many([Event("t", n, delay=60) for n in range(2)])
    await settling(broker).settle(
        first[:2],
        [
            Postponed(first[2], 60_000, failed()),
            Postponed(first[3], 0, failed()),
            Postponed(first[4], 60_000),
        ],
        [Buried(first[5], "rejected", failed())],
    )
    assert await table(broker) == {
        10: (0, 3, 3),
        5: (1, 3, 0),
        1: (2, 0, 0),
        0: (3, 0, 0),
    }
    (row,) = await Status(broker).overview()
    (group,) = row.groups
    assert (row.stream, row.stored, row.scheduled) == ("s", 15, 2)
    assert (group.group, group.dead, group.consumers) == ("g", 1, 2)
    assert group.held == {"c1": 3, "c2": 3}
    assert [group.total(what) for what in ("waiting", "processing", "retrying")] == [
        6,
        6,
        3,
    ]
    assert [level.level for level in group.levels] == [10, 5, 1, 0]


async def test_each_group_has_counts_of_its_own(broker):
    await fetch(broker, 0, "g")
    await fetch(broker, 0, "h", retention="fanout")
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=5 * (n % 2)) for n in range(10)
    )
    taken = await fetch(broker, 7, "g")
    await settling(broker, "g").settle(
        taken[:2], [Postponed(taken[2], 60_000)], [Buried(taken[3], "x", failed())]
    )
    assert await table(broker, "h") == {
        10: (0, 0, 0),
        5: (5, 0, 0),
        1: (0, 0, 0),
        0: (5, 0, 0),
    }
    row = await Status(broker).stream("s")
    assert row.stored == 10  # h needs them all
    assert {group.group: group.dead for group in row.groups} == {"g": 1, "h": 0}
    found = await table(broker, "g")
    assert {level: counts[1:] for level, counts in found.items()} == {
        10: (0, 0),
        5: (1, 1),
        1: (0, 0),
        0: (2, 0),
    }
    assert found[0][0] == 3


async def test_an_untouched_stream_has_no_group(broker):
    await Producer(broker, "s").publish_many(range(3), type="t")
    await Producer(broker, "later").publish(1, type="t", delay=60)
    rows = {
        row.stream: (row.stored, row.scheduled, row.groups)
        for row in await Status(broker).overview()
    }
    assert rows == {"s": (3, 0, []), "later": (0, 1, [])}
    assert await Status(broker).streams() == {
        "s": [0, 1, 5, 10],
        "later": [0, 1, 5, 10],
    }


async def test_the_oldest_unfinished_entry_has_its_age(broker):
    """Whether it waits, is processed, or waits for a retry; what is done does not count."""
    now = await server_ms(broker)
    for level, seconds in ((10, 50), (10, 40), (5, 30), (1, 20)):
        key = broker.keys("s").level(level)
        await broker.control.call(
            "XADD", key, f"{now - seconds * 1000}-0", "type", "t", "data", "1"
        )
    old, young, processed = await fetch(broker, 3)
    assert (old.level, young.level, processed.level) == (10, 10, 5)
    await settling(broker).settle([old], [Postponed(young, 60_000)])
    await broker.connect()  # Reads the server's clock.
    (group,) = (await Status(broker).stream("s")).groups
    ages = {level.level: level.oldest_age for level in group.levels}
    assert ages.pop(0) is None
    assert ages.keys() == {10, 5, 1}
    for level, seconds in ((10, 40), (5, 30), (1, 20)):
        assert seconds - 0.01 <= ages[level] <= seconds + 5


async def test_levels_that_this_program_does_not_know_are_shown(broker):
    await broker.control.call("SADD", f"{broker.namespace}:index", "s|77")
    await broker.control.call(
        "XADD", broker.keys("s").level(77), "*", "type", "t", "data", "1"
    )
    row = await Status(broker).stream("s")
    assert (row.stored, await Status(broker).streams()) == (1, {"s": [77]})


async def test_an_empty_server(broker):
    assert await Status(broker).overview() == []
    with pytest.raises(NotFound, match=r"no stream 's'"):
        await Status(broker).stream("s")
    with pytest.raises(InvalidName):
        await Status(broker).stream("{s}")


# --- one event


async def find(broker: Broker, ident: str, group: str = "") -> EntryState:
    (state,) = await Status(broker).find("s", ident, group)
    return state


async def test_find_pending(broker):
    await fetch(broker, 0)
    receipt = await Producer(broker, "s").publish(
        {"n": 1}, type="order", id="e1", priority=5, tenant="x"
    )
    for ident in ("e1", receipt.entry_id, f"5|{receipt.entry_id}"):
        state = await find(broker, ident)
        assert (state.state, state.level, state.entry_id, state.event_id) == (
            "pending",
            5,
            receipt.entry_id,
            "e1",
        )
        assert (state.type, state.raw, state.size, state.meta) == (
            "order",
            b'{"n":1}',
            7,
            {"tenant": "x"},
        )
        assert (state.consumer, state.due, state.failures) == ("", None, 0)


async def test_find_processing(broker):
    receipt = await Producer(broker, "s").publish(1, type="t", id="e1")
    (delivery,) = await fetch(broker, 1, consumer="c7")
    key = broker.keys("s").level(0)
    await broker.control.call(
        "XCLAIM", key, "g", "c7", 0, delivery.entry_id, "IDLE", 5_000, "JUSTID"
    )
    for ident in ("e1", receipt.entry_id, f"0|{receipt.entry_id}"):
        state = await find(broker, ident)
        assert (state.state, state.consumer, state.event_id) == (
            "processing",
            "c7",
            "e1",
        )
        assert 5.0 <= state.silent < 10.0


async def test_find_retrying(broker):
    receipt = await Producer(broker, "s").publish(1, type="t", id="e1", priority=10)
    (delivery,) = await fetch(broker, 1)
    before = await server_ms(broker)
    await settling(broker).settle((), [Postponed(delivery, 60_000, failed())])
    after = await server_ms(broker)
    for ident in ("e1", receipt.entry_id, f"10|{receipt.entry_id}"):
        state = await find(broker, ident)
        assert (state.state, state.failures, state.stalls, state.consumer) == (
            "retrying",
            1,
            0,
            "",
        )
        assert before + 60_000 <= state.due * 1000 <= after + 60_000
        assert state.errors[0]["type"] == "ValueError"


async def test_find_dead(broker):
    receipt = await Producer(broker, "s").publish(1, type="t", id="e1")
    (delivery,) = await fetch(broker, 1)
    await settling(broker).settle((), (), [Buried(delivery, "rejected", failed())])
    (letter,) = await DeadLetters(broker, "s", "g").page()
    for ident in ("e1", receipt.entry_id, f"0|{receipt.entry_id}", letter.id):
        state = await find(broker, ident)
        assert (state.state, state.event_id, state.entry_id, state.failures) == (
            "dead",
            "e1",
            receipt.entry_id,
            1,
        )
        assert state.dead_letter == letter
        assert state.raw == b"1"


async def test_find_scheduled(broker):
    await fetch(broker, 0)
    before = await server_ms(broker)
    await Producer(broker, "s").publish(1, type="t", id="e1", priority=5, delay=60)
    after = await server_ms(broker)
    for ident in ("e1", "5|e1"):
        state = await find(broker, ident)
        assert (state.state, state.level, state.event_id, state.entry_id) == (
            "scheduled",
            5,
            "e1",
            "",
        )
        assert before + 60_000 <= state.due * 1000 <= after + 60_001
        assert state.raw == b"1"


async def test_find_done(broker):
    receipt = await Producer(broker, "s").publish(1, type="t", id="e1")
    await settling(broker).settle(await fetch(broker, 1))
    state = await find(broker, f"0|{receipt.entry_id}")
    assert (state.state, state.event_id, state.raw) == ("done", "", b"")
    with pytest.raises(NotFound, match="of that nothing is kept"):
        await find(broker, "e1")


async def test_find_in_each_group(broker):
    receipt = await Producer(broker, "s").publish(1, type="t", id="e1")
    (delivery,) = await fetch(broker, 1, "g")
    await fetch(broker, 0, "h", retention="fanout")
    await settling(broker, "g").settle((), (), [Buried(delivery, "rejected", failed())])
    for ident in ("e1", receipt.entry_id):
        found = sorted(
            (state.group, state.state)
            for state in await Status(broker).find("s", ident)
        )
        assert found == [("g", "dead"), ("h", "pending")]
    assert (await find(broker, "e1", "h")).state == "pending"


async def test_find_a_replayed_event(broker):
    await Producer(broker, "s").publish(1, type="t", id="e1")
    (delivery,) = await fetch(broker, 1)
    await settling(broker).settle((), (), [Buried(delivery, "rejected", failed())])
    outcome = await DeadLetters(broker, "s", "g").replay(Filter())
    state = await find(broker, "e1")
    assert (state.state, f"{state.level}|{state.entry_id}") == (
        "pending",
        *outcome.moved.values(),
    )


@pytest.mark.parametrize("look", ["scheduled", "scan"])
async def test_find_an_event_that_moves_between_the_looks(broker, monkeypatch, look):
    """Whichever look comes first, the event leaves the schedule right after it."""
    await fetch(broker, 0)
    receipt = await Producer(broker, "s").publish(1, type="t", delay=0.01)
    status = Status(broker)
    first = getattr(status._inspecting, look)

    async def and_then(*args):
        found = await first(*args)
        await promoted(broker)
        return found

    monkeypatch.setattr(status._inspecting, look, and_then)
    (state,) = await status.find("s", receipt.event_id)
    assert state.state in ("scheduled", "pending")


async def promoted(broker: Broker) -> None:
    scheduler = Scheduler(broker, "s")

    async def nothing_left() -> bool:
        await scheduler.promote()
        return not await broker.control.call("ZCARD", broker.keys("s").scheduled())

    await eventually(nothing_left)


async def test_find_an_entry_that_cannot_be_read(broker):
    await fetch(broker, 0)
    entry_id = (
        await broker.control.call(
            "XADD", broker.keys("s").level(0), "*", "data", "\x00"
        )
    ).decode()
    state = await find(broker, entry_id)
    assert (state.state, state.type) == ("pending", "")


async def test_find_says_what_is_missing(broker):
    with pytest.raises(NotFound, match=r"no stream 's'"):
        await Status(broker).find("s", "e1")
    await fetch(broker, 0)
    with pytest.raises(NotFound, match=r"has no group 'x'; it has: g"):
        await Status(broker).find("s", "e1", "x")
    for ident in ("e1", "0|e1", "99|1-1", "1-1", "nonsense|1-1", ""):
        with pytest.raises(NotFound, match="has no trace of"):
            await Status(broker).find("s", ident, "g")


async def test_looking_costs_the_same_however_much_is_stored(server, broker):
    await fetch(broker, 0)
    with server.client() as client:

        async def commands() -> dict[str, int]:
            client.config_resetstat()
            await Status(broker).overview()
            found = client.info("commandstats")
            return {
                name: row["calls"]
                for name, row in found.items()
                if "config" not in name and name[8:] != "info"
            }

        # The first look opens its connection, which is a command more for a user with a password.
        await commands()
        few = await commands()
        await Producer(broker, "s").publish_many(range(3_000), type="t")
        await fetch(broker, 2_000)
        assert await commands() == few


async def test_what_another_program_put_on_a_level_of_its_own_is_shown(broker, server):
    await Producer(broker, "s").publish({}, type="t")
    await fetch(broker, 0)
    with server.client() as client:
        entry = client.xadd(
            broker.keys("s").level(3), {"type": "t", "data": "{}", "id": "foreign-1"}
        ).decode()
        client.xadd(broker.keys("s").level(-2), {"type": "t", "data": "{}"}, id="1-1")
        client.set(broker.keys("s").level(4), "no stream")
    row = await Status(broker).stream("s")
    assert row.undeclared == {-2: 1, 3: 1}
    shown = Console(width=200)
    with shown.capture() as captured:
        shown.print(overview([row], 200))
    assert "no worker reads: s, 1 on level -2, 1 on level 3" in captured.get()
    assert "STREAMS_LEVELS=-2,0,1,3,5,10" in captured.get()
    found = [
        finding
        for finding in await Doctor(broker).examine("s")
        if finding.code == "level-undeclared"
    ]
    assert [(finding.severity, finding.what.split(",")[0]) for finding in found] == [
        ("critical", "1 event was put on level 3"),
        ("critical", "1 event was put on level -2"),
    ]
    for wanted in (Wanted(level=3), Wanted(event=entry), Wanted(event="foreign-1")):
        [reason] = (await Why(broker, "s").ask(wanted)).reasons
        assert (reason.state, reason.level, reason.entry_id) == (
            "level-unserved",
            3,
            entry,
        )
        assert "no worker looks at level 3" in reason.sentence
