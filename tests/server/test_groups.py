"""Looking at the groups of a stream, and giving one up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Erasure,
    Event,
    Filter,
    GroupDropped,
    GroupInUse,
    Groups,
    NotFound,
    Pauses,
    Producer,
    Reject,
    Retry,
)
from streams.broker.entries.settle import Buried
from streams.errors import GroupMissing
from streams.handlers.routes import Route
from streams.policy.declaration import Declaration
from tests.conftest import eventually
from tests.server.test_fanout import (
    FANOUT,
    LEVELS,
    ack,
    consuming,
    declare,
    publish,
    settling,
    stored,
    take,
)


async def nothing(event: Event) -> None:
    del event


async def test_the_list_says_who_is_declared_there_and_busy(broker):
    await declare(broker, "a", Declaration("fanout", groups=("later",)))
    await declare(broker, "new", Declaration(start="new"))
    await broker.control.call("XGROUP", "DESTROY", broker.keys("s").level(0), "later")
    await broker.control.call("XGROUP", "DESTROY", broker.keys("s").level(5), "later")
    await broker.control.call(
        "XGROUP", "CREATE", broker.keys("s").level(0), "foreign", "$"
    )
    await publish(broker, 1, 2, 3)
    await ack(broker, "a", (await take(broker, "a", 2))[0])
    found = {info.group: info for info in await Groups(broker, "s").list()}
    assert list(found) == ["a", "foreign", "later", "new"]
    assert {info.retention for info in found.values()} == {"fanout"}
    a, foreign, later, new = found.values()
    assert (a.declared, a.present, a.start, a.processing, a.consumers) == (
        True,
        True,
        "oldest",
        1,
        1,
    )
    assert (later.declared, later.present, later.abandoned, later.silent) == (
        True,
        False,
        True,
        None,
    )
    assert (foreign.declared, foreign.present, foreign.start, foreign.since) == (
        False,
        True,
        "",
        None,
    )
    assert (new.start, new.abandoned) == ("new", True)
    assert not a.abandoned
    assert a.since is not None
    assert a.since > 1.7e9
    with pytest.raises(NotFound, match="there are: s"):
        await Groups(broker, "nope").list()


async def test_dropping_deletes_what_only_that_group_needed_and_nothing_else(broker):
    for group in ("a", "b"):
        await declare(broker, group, FANOUT)
    ids = await publish(broker, *range(450))
    for delivery in await take(broker, "a", 300):
        await ack(broker, "a", delivery)
    assert len(await stored(broker)) == 450
    outcome = await Groups(broker, "s", by="tester").drop("b")
    assert (outcome.dropped, outcome.given_up, outcome.trimmed) == (True, 450, 300)
    assert await stored(broker) == ids[300:]
    assert [info.group for info in await Groups(broker, "s").list()] == ["a"]
    assert len(await take(broker, "a", 500)) == 150
    audit = await broker.control.call(
        "XREVRANGE", broker.keys("s").audit(), "+", "-", "COUNT", 1
    )
    assert audit[0][1] == [b"action", b"drop", b"group", b"b", b"by", b"tester"]
    with pytest.raises(NotFound, match="it has: a"):
        await Groups(broker, "s").drop("b")


async def test_what_an_interrupted_drop_left_is_trimmed_by_the_next(broker):
    for group in ("a", "b"):
        await declare(broker, group, FANOUT)
    await publish(broker, 1, 2)
    await ack(broker, "a", *await take(broker, "a"))
    # As if the connection was cut between dropping and trimming.
    await broker.control.call("HDEL", broker.keys("s").config(), "group:b")
    for level in (0, 5):
        await broker.control.call(
            "XGROUP", "DESTROY", broker.keys("s").level(level), "b"
        )
    outcome = await Groups(broker, "s").drop("b")
    assert (outcome.dropped, outcome.trimmed) == (False, 2)
    assert await stored(broker) == []


async def test_the_last_group_leaves_the_events_to_the_next(broker):
    await declare(broker, "old", Declaration("work"))
    await publish(broker, 1, 2, 3)
    await ack(broker, "old", (await take(broker, "old"))[0])
    assert (await Groups(broker, "s").drop("old", force=True)).trimmed == 0
    assert len(await stored(broker)) == 2
    await declare(broker, "new")
    assert len(await take(broker, "new")) == 2


async def test_retries_records_and_pauses_go_and_dead_letters_stay(broker):
    async def handler(event: Event) -> None:
        raise Reject("no") if event.data == "dead" else ValueError

    await declare(broker, "other", FANOUT)
    await Pauses(broker, "s").pause(level=5)
    keys = broker.keys("s")
    await publish(broker, "dead", "retried")
    async with consuming(broker, "a", Route(handler, retry=Retry(delay=600))):
        letters = DeadLetters(broker, "s", "a")
        await eventually(letters.count, what="the dead letter")

        async def waits() -> bool:
            return await broker.control.call("ZCARD", keys.retry("a")) == 1

        await eventually(waits, what="the retry")
        for level in (None, 0):
            await Pauses(broker, "s").pause(group="a", level=level)
        await Pauses(broker, "s").pause(group="other")
    outcome = await Groups(broker, "s").drop("a", force=True)
    assert (outcome.given_up, outcome.dead) == (1, 1)
    assert (
        await broker.control.call(
            "EXISTS", keys.retry("a"), keys.attempts("a"), keys.sweep("a")
        )
        == 0
    )
    assert [pause.scope for pause in await Pauses(broker, "s").list()] == [
        "group=other",
        "level=5",
    ]
    assert await DeadLetters(broker, "s", "a").count() == 1
    assert len(await stored(broker)) == 2


async def test_a_group_in_use_is_kept_and_a_forced_drop_ends_its_worker(broker):
    groups = Groups(broker, "s")
    await declare(broker, "other", FANOUT)
    consumer = Consumer(
        broker, "s", "a", nothing, ConsumerOptions(levels=LEVELS, declaration=FANOUT)
    )
    running = asyncio.create_task(consumer.run())
    await publish(broker, 1)
    await eventually(lambda: consumer.stats.done == 1, what="an event")
    with pytest.raises(GroupInUse, match=f"in use by {consumer.name}"):
        await groups.drop("a")
    assert [info.group for info in await groups.list()] == ["a", "other"]
    await groups.drop("a", force=True)
    with pytest.raises(GroupMissing, match="dropped by an operator"):
        await asyncio.wait_for(running, 10)
    assert [info.group for info in await groups.list()] == ["other"]
    assert len(await stored(broker)) == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["take", "ack", "late"])),
        max_size=12,
    ),
    size=st.integers(1, 7),
)
async def test_trimming_never_takes_unfinished_work(broker, steps, size):
    """Whatever groups did before one is dropped: what the others have not finished is there afterwards."""
    await broker.control.call(
        "DEL",
        *(broker.keys("s").level(level) for level in (0, 5)),
        broker.keys("s").config(),
    )
    for group in ("a", "b", "gone"):
        await declare(broker, group, FANOUT)
    ids = await publish(broker, *range(size))
    unfinished = {"a": set(ids), "b": set(ids)}
    held: dict[str, list] = {"a": [], "b": []}
    for group, step in steps:
        if step == "late":
            await publish(broker, "late")
        elif step == "take":
            held[group] += await take(broker, group, 2)
        elif held[group]:
            delivery = held[group].pop()
            await ack(broker, group, delivery)
            unfinished[group].discard(delivery.entry_id)
    late = set(await stored(broker)) - set(ids)
    done = {d.entry_id for group in "ab" for d in held[group]}
    await Groups(broker, "s").drop("gone", force=True)
    left = set(await stored(broker))
    assert unfinished["a"] | unfinished["b"] | (late & done) <= left
    assert (
        not {entry for entry in ids if entry not in unfinished["a"] | unfinished["b"]}
        & left
    )


@pytest.mark.one_server
async def test_a_server_without_memory_still_drops_a_group_and_trims(
    server, make_server
):
    full = make_server(server.binary)
    async with Broker(full.url) as broker:
        for group in ("a", "b"):
            await declare(broker, group, FANOUT)
        await publish(broker, 1, 2)
        await ack(broker, "a", *await take(broker, "a"))
        with full.client() as client:
            client.config_set("maxmemory", 1)
        outcome = await Groups(broker, "s").drop("b")
        assert (outcome.dropped, outcome.trimmed) == (True, 2)
        assert await broker.control.call("XLEN", broker.keys("s").audit()) == 1


# --- a group that is gone while a worker still has entries of it


@pytest.mark.parametrize(
    "others", [("a",), ("a", "c")], ids=["one is left", "two are left"]
)
async def test_what_is_acknowledged_for_a_dropped_group_stays_for_the_others(
    broker, others
):
    """A worker that was frozen, or whose group was dropped by force, comes to an end with what it has in hand."""
    for group in (*others, "b"):
        await declare(broker, group, FANOUT)
    ids = await publish(broker, *range(5))
    held = await take(broker, "b")
    await Groups(broker, "s").drop("b", force=True)
    assert (await settling(broker, "b").settle(held)).ack_shortfall == 5
    assert await stored(broker) == ids
    for group in others:
        assert [delivery.entry_id for delivery in await take(broker, group)] == ids


async def test_what_another_group_of_the_same_name_has_in_hand_is_kept(broker):
    """Dropped and declared anew while a worker of before was frozen: what that ends is done, the others need it."""
    for group in "ab":
        await declare(broker, group, FANOUT)
    ids = await publish(broker, *range(3))
    held = await take(broker, "b")
    await Groups(broker, "s").drop("b", force=True)
    await declare(broker, "b", FANOUT)
    await settling(broker, "b").settle(held)
    assert await stored(broker) == ids
    await ack(broker, "a", *await take(broker, "a"))
    assert await stored(broker) == ids
    await ack(broker, "b", *await take(broker, "b"))
    assert await stored(broker) == []


async def test_the_next_group_of_a_work_stream_keeps_what_the_dropped_one_acknowledges(
    broker,
):
    await declare(broker, "old", Declaration("work"))
    ids = await publish(broker, 1, 2, 3)
    held = await take(broker, "old")
    await Groups(broker, "s").drop("old", force=True)
    await declare(broker, "new", Declaration("work"))
    first = await take(broker, "new", 1)
    await settling(broker, "old").settle(held)
    assert await stored(broker) == ids
    await ack(broker, "new", *first, *await take(broker, "new"))
    assert await stored(broker) == []


async def test_a_group_that_was_not_declared_deletes_nothing_of_a_declared_one_that_is_missing(
    broker,
):
    """Its own is the only group on the server, and another one is declared: one each, and they are not the same."""
    await declare(broker, "a", Declaration("work"))
    for level in (0, 5):
        await broker.control.call(
            "XGROUP", "DESTROY", broker.keys("s").level(level), "a"
        )
        await broker.control.call(
            "XGROUP", "CREATE", broker.keys("s").level(level), "foreign", "0"
        )
    ids = await publish(broker, 1)
    await ack(broker, "foreign", *await take(broker, "foreign"))
    assert await stored(broker) == ids


async def test_a_declared_group_that_is_missing_deletes_nothing_of_one_that_was_not_declared(
    broker,
):
    """The other way round: its own declaration is the only one, and the group that is there is another's."""
    await declare(broker, "a", Declaration("work"))
    ids = await publish(broker, 1)
    held = await take(broker, "a")
    for level in (0, 5):
        await broker.control.call(
            "XGROUP", "DESTROY", broker.keys("s").level(level), "a"
        )
        await broker.control.call(
            "XGROUP", "CREATE", broker.keys("s").level(level), "foreign", "0"
        )
    await settling(broker, "a").settle(held)
    assert await stored(broker) == ids


async def test_dead_letters_of_a_dropped_group_are_not_put_back_for_nobody(broker):
    """The groups that are left would acknowledge what is not for them, and the event would be gone."""
    for group in "ab":
        await declare(broker, group, FANOUT)
    await publish(broker, 1, 2)
    held = await take(broker, "b")
    await settling(broker, "b").settle(
        (), (), [Buried(delivery, "rejected", b"") for delivery in held]
    )
    await Groups(broker, "s").drop("b", force=True)
    letters = DeadLetters(broker, "s", "b")
    for replay in (
        letters.replay(Filter()),
        letters.replay_edited((await letters.page())[0].id, {}),
    ):
        with pytest.raises(
            GroupDropped,
            match=r"group 'b' of stream 's' was dropped.*nothing was moved",
        ):
            await replay
    assert await letters.count() == 2
    assert len(await stored(broker)) == 2
    await declare(broker, "b", FANOUT)
    assert len((await letters.replay(Filter())).moved) == 2
    assert await letters.count() == 0


async def test_dead_letters_of_a_dropped_group_are_listed_and_erased(broker):
    for group in "ab":
        await declare(broker, group, FANOUT)
    await Producer(broker, "s").publish({}, type="t", subject="a person")
    await settling(broker, "b").settle(
        (), (), [Buried((await take(broker, "b"))[0], "rejected", b"")]
    )
    assert (await Groups(broker, "s").drop("b", force=True)).dead == 1
    (left,) = [info for info in await Groups(broker, "s").list() if info.dropped]
    assert (left.group, left.dead, left.abandoned) == ("b", 1, False)
    erased = await Erasure(broker, "s").erase("subject", "a person")
    assert (erased.stored, erased.dead) == (1, 1)
    assert [info.group for info in await Groups(broker, "s").list()] == ["a"]
