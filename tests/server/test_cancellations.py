"""Cancel on a real server: what is taken out, what is refused and why, and who wins a race."""

from __future__ import annotations

import asyncio

import pytest

from streams import Broker, Cancellations, Event, NotFound, Producer
from streams.broker.admin.cancel import CancelStore
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.publish import Scheduling
from streams.broker.entries.settle import Buried, Postponed, Settling
from streams.errors import NotCancelled, WrongKeyType
from streams.policy.declaration import Declaration
from streams.policy.levels import Levels
from streams.policy.retry import AttemptRecord

LEVELS = Levels()


async def fetching_of(broker: Broker, group: str = "g") -> Fetching:
    declaring = Declaring(broker.keys("s"), LEVELS, group, Declaration("fanout"))
    fetching = Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, group, "c"), declaring
    )
    await fetching.ensure_group()
    return fetching


def settling(broker: Broker, group: str = "g") -> Settling:
    return Settling(GroupConsumer(broker, broker.keys("s"), LEVELS, group, "c"))


async def retrying(
    broker: Broker, count: int = 1, group: str = "g", level: int = 5
) -> list[Delivery]:
    """Entries with ids e0, e1 ... that wait for a retry, with attempt records."""
    fetching = await fetching_of(broker, group)
    await Producer(broker, "s").publish_many(
        Event("t", n, id=f"e{n}", priority=level) for n in range(count)
    )
    taken = await fetching.take(count)
    record = AttemptRecord()
    record.add("failure", {"type": "ValueError"}, at=1.0)
    await settling(broker, group).settle(
        (), [Postponed(d, 60_000, record.to_json()) for d in taken]
    )
    return taken


async def left(broker: Broker, group: str = "g") -> tuple[int, int, int]:
    """Stored entries of level 5, retry rows, attempt records."""
    keys = broker.keys("s")
    commands = [
        ("XLEN", keys.level(5)),
        ("ZCARD", keys.retry(group)),
        ("HLEN", keys.attempts(group)),
    ]
    return tuple(await broker.control.batch(commands))


async def audit(broker: Broker) -> list[dict[bytes, bytes]]:
    rows = await broker.control.call("XRANGE", broker.keys("s").audit(), "-", "+")
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in rows]


@pytest.mark.parametrize("name", ["d1", "5|d1"])
async def test_a_scheduled_event_is_gone(broker, name):
    await Producer(broker, "s").publish(1, type="t", id="d1", priority=5, delay=0.05)
    state = await Cancellations(broker, "s", by="ada").cancel(name)
    assert (state.state, state.level, state.event_id, state.type, state.group) == (
        "scheduled",
        5,
        "d1",
        "t",
        "",
    )
    await asyncio.sleep(0.06)
    assert (await Scheduling(broker, broker.keys("s"), LEVELS).promote(10)).moved == 0
    assert await broker.control.call("EXISTS", broker.keys("s").scheduled_fields()) == 0
    assert [(r[b"action"], r[b"by"], r[b"events"]) for r in await audit(broker)] == [
        (b"cancel", b"ada", b"5|d1")
    ]
    with pytest.raises(NotFound, match="no more: it was cancelled by ada at 2"):
        await Cancellations(broker, "s").cancel("d1")


@pytest.mark.parametrize("form", ["e0", "{id}", "5|{id}"])
async def test_a_retrying_event_is_gone(broker, form):
    first, _ = await retrying(broker, 2)
    state = await Cancellations(broker, "s", by="ada").cancel(
        form.format(id=first.entry_id)
    )
    assert (state.state, state.group, state.level, state.entry_id) == (
        "retrying",
        "g",
        5,
        first.entry_id,
    )
    assert (state.event_id, state.failures) == ("e0", 1)
    assert await left(broker) == (1, 1, 1)
    (row,) = await audit(broker)
    assert (row[b"group"], row[b"entries"], row[b"count"]) == (
        b"g",
        f"5|{first.entry_id}".encode(),
        b"1",
    )


async def test_every_other_state_is_refused_with_what_to_do(broker):
    fetching = await fetching_of(broker)
    await Producer(broker, "s").publish_many(
        Event("t", n, id=f"e{n}") for n in range(4)
    )
    dead, done, processing = await fetching.take(3)
    await settling(broker).settle([done], (), [Buried(dead, "rejected", b"{}")])
    cancellations = Cancellations(broker, "s")
    for ident, state, hint in (
        ("e0", "dead", "dead discard"),
        (f"0|{done.entry_id}", "done", "handled already"),
        # With its level: alone, its id may be that of the dead letter, if that was written in the same millisecond.
        (f"0|{processing.entry_id}", "processing", "with c: its handler runs"),
        ("e3", "pending", "streams pause"),
    ):
        with pytest.raises(NotCancelled, match=hint) as refused:
            await cancellations.cancel(ident)
        assert (refused.value.state, refused.value.id) == (state, ident)
    with pytest.raises(NotFound, match="no trace of 'e9'"):
        await cancellations.cancel("e9")
    with pytest.raises(NotFound, match="no group 'h'; it has: g"):
        await cancellations.cancel("e3", "h")
    with pytest.raises(NotFound, match="no stream 't'"):
        await Cancellations(broker, "t").cancel("e3")
    assert await audit(broker) == []


async def test_another_group_keeps_its_event(broker):
    other = await fetching_of(broker, "h")
    (entry,) = await retrying(broker)
    (held,) = await other.take(1)
    await Cancellations(broker, "s").cancel("e0")
    assert (await left(broker))[:2] == (1, 0)
    await settling(broker, "h").settle([held])
    assert (await left(broker))[0] == 0
    assert entry.entry_id == held.entry_id


async def test_the_group_is_asked_for_where_several_have_it(broker):
    other = await fetching_of(broker, "h")
    await retrying(broker)
    await settling(broker, "h").settle(
        (), [Postponed(d, 60_000) for d in await other.take(1)]
    )
    cancellations = Cancellations(broker, "s")
    with pytest.raises(NotCancelled, match=r"several groups \(g, h\).*--group"):
        await cancellations.cancel("e0")
    assert (await cancellations.cancel("e0", "h")).group == "h"
    assert await left(broker) == (1, 1, 1)
    assert (await cancellations.cancel("e0")).group == "g"
    assert await left(broker) == (0, 0, 0)


async def test_an_id_of_several_events_is_refused_with_their_places(broker):
    (first,) = await retrying(broker)
    (second,) = await retrying(broker)
    await Producer(broker, "s").publish(1, type="t", id="e0", delay=60)
    with pytest.raises(NotCancelled, match="several events") as refused:
        await Cancellations(broker, "s").cancel("e0")
    assert f"5|{first.entry_id}" in str(refused.value)
    assert f"5|{second.entry_id}" in str(refused.value)
    assert (await Cancellations(broker, "s").cancel("0|e0")).state == "scheduled"
    await Producer(broker, "s").publish(1, type="t", id="later", delay=60)
    with pytest.raises(NotCancelled, match="without naming a group"):
        await Cancellations(broker, "s").cancel("later", "g")


async def test_many_at_once(broker):
    await retrying(broker, 1500)
    await Producer(broker, "s").publish_many(
        [Event("t", n, id=f"d{n}", delay=60) for n in range(600)]
    )
    ids = [f"e{n}" for n in range(1400)] + [f"d{n}" for n in range(600)] + ["nobody"]
    outcome = await Cancellations(broker, "s").cancel_many(ids)
    assert set(outcome.cancelled) == set(ids) - {"nobody"}
    assert isinstance(outcome.refused["nobody"], NotFound)
    assert await left(broker) == (100, 100, 100)
    assert await broker.control.call("ZCARD", broker.keys("s").scheduled()) == 0


async def test_who_starts_first_wins(broker):
    """Fetch and cancel at the same moment, many times: each event is either started or cancelled."""
    fetching = await fetching_of(broker)
    await Producer(broker, "s").publish_many(
        Event("t", n, id=f"e{n}", priority=5) for n in range(200)
    )
    taken = await fetching.take(200)
    await settling(broker).settle((), [Postponed(delivery, 0) for delivery in taken])
    async with Broker(broker.url, namespace=broker.namespace) as second:
        cancellations = Cancellations(second, "s")

        async def fetch() -> set[str]:
            got: set[str] = set()
            for _ in range(40):
                got |= {
                    delivery.entry_id
                    for delivery in (await fetching.take_due(5, 1)).deliveries
                }
            return got

        started, outcome = await asyncio.gather(
            fetch(),
            cancellations.cancel_many(
                delivery.entry_id for delivery in reversed(taken)
            ),
        )
    assert started | set(outcome.cancelled) == {delivery.entry_id for delivery in taken}
    assert not started & set(outcome.cancelled)
    assert {error.state for error in outcome.refused.values()} <= {"processing"}


async def test_the_server_decides(broker):
    """What was fetched, or promoted, since it was looked at stays as it is."""
    (entry,) = await retrying(broker)
    cancelling = CancelStore(broker, broker.keys("s"), LEVELS.ascending)
    await broker.control.call(
        "ZADD", broker.keys("s").retry("g"), 1, f"5|{entry.entry_id}"
    )
    fetching = await fetching_of(broker)
    assert len((await fetching.take_due(1, 1)).deliveries) == 1
    assert await cancelling.retrying("g", 5, [entry.entry_id], "ada") == [False]
    assert await cancelling.scheduled(["5|e0"], "ada") == [False]
    assert await audit(broker) == []


async def test_nothing_is_cancelled_without_its_audit_record(broker):
    await retrying(broker)
    await Producer(broker, "s").publish(1, type="t", id="d", delay=60)
    await broker.control.call("SET", broker.keys("s").audit(), "x")
    for ident in ("e0", "d"):
        with pytest.raises(WrongKeyType, match="audit"):
            await Cancellations(broker, "s").cancel(ident)
    assert await left(broker) == (1, 1, 1)


@pytest.mark.one_server
async def test_a_server_without_memory_still_cancels_and_so_gets_some_back(
    server, make_server
):
    full = make_server(server.binary)
    async with Broker(full.url) as broker:
        await retrying(broker)
        await Producer(broker, "s").publish(
            1, type="t", id="later", priority=5, delay=60.0
        )
        with full.client() as client:
            client.config_set("maxmemory", 1)
        cancellations = Cancellations(broker, "s", by="ada")
        assert (await cancellations.cancel("later")).state == "scheduled"
        assert (await cancellations.cancel("e0")).state == "retrying"
        assert await left(broker) == (0, 0, 0)
        assert await broker.control.call("ZCARD", broker.keys("s").scheduled()) == 0
        assert len(await audit(broker)) == 2
