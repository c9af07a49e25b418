"""Order by key, on every server: one event of a key after the other, and keys that are held."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from itertools import pairwise

import pytest

from streams import (
    Broker,
    DeadLetters,
    Event,
    Lanes,
    Limit,
    NotFound,
    OrderedKeys,
    Producer,
    Reject,
    Retry,
    Snooze,
    Status,
)
from tests.conftest import eventually
from tests.server.lanes import BY_SUBJECT, History, consuming, fetching, left

# --- order


async def test_events_of_a_key_run_one_after_the_other_in_the_order_of_their_publishing(
    broker,
):
    history, wanted = History(), 400

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await asyncio.sleep(random.random() * 0.003)

    await Producer(broker, "s").publish_many(
        Event("t", n, subject=f"k{n % 7}") for n in range(wanted)
    )
    async with consuming(broker, handle, BY_SUBJECT, count=3, concurrency=10):
        await eventually(lambda: len(history.done) == wanted)
    assert not history.clashes
    assert all(found == sorted(found) for found in history.by_key().values())
    # Nothing is kept of keys that are quiet.
    assert await left(broker) == {"rules"}


async def test_a_retry_holds_back_its_own_key_only(broker):
    history = History()
    failures = Counter[object]()

    async def handle(event: Event) -> None:
        failures[event.data] += 1
        if event.data == "a0" and failures["a0"] <= 2:
            raise RuntimeError("not yet")
        async with history.attempt(event):
            pass

    names = [f"{key}{n}" for n in range(3) for key in "ab"]
    await Producer(broker, "s").publish_many(
        Event("t", name, subject=name[0]) for name in names
    )
    async with consuming(
        broker, handle, BY_SUBJECT, retry=Retry(delay=0.3, backoff="fixed", jitter=0.0)
    ):
        await eventually(lambda: len(history.done) == 6)
    done = [event.data for event in history.done]
    assert done[:3] == ["b0", "b1", "b2"]
    assert done[3:] == ["a0", "a1", "a2"]


async def test_a_snoozed_or_limited_event_keeps_its_place(broker):
    history = History()
    snoozed: set[object] = set()

    async def handle(event: Event) -> None:
        if event.data == 0 and not snoozed:
            snoozed.add(0)
            raise Snooze(0.2)
        async with history.attempt(event):
            pass

    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(6)
    )
    async with consuming(
        broker, handle, BY_SUBJECT, limits=[Limit("subject", rate="20/s", burst=1)]
    ):
        await eventually(lambda: len(history.done) == 6)
    assert [event.data for event in history.done] == list(range(6))


async def test_within_a_key_the_higher_level_goes_first_and_never_beside(broker):
    history, gate = History(), asyncio.Event()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await gate.wait()

    producer = Producer(broker, "s")
    await producer.publish(Event("t", "first", subject="k"))
    async with consuming(broker, handle, BY_SUBJECT):
        await eventually(lambda: len(history.started) == 1)
        for priority, name in (
            (0, "low"),
            (10, "high"),
            (5, "middle"),
            (10, "high too"),
        ):
            await producer.publish(Event("t", name, subject="k", priority=priority))
        await producer.publish(Event("t", "other", subject="o"))
        await eventually(lambda: len(history.started) == 2)
        gate.set()
        await eventually(lambda: len(history.done) == 6)
    assert [e.data for e in history.done if e.subject == "k"] == [
        "first",
        "high",
        "high too",
        "middle",
        "low",
    ]
    assert not history.clashes


async def test_events_without_the_key_are_not_ordered(broker):
    at_once, most = 0, 0

    async def handle(event: Event) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await eventually(lambda: most >= 4)
        at_once -= 1

    await Producer(broker, "s").publish_many(Event("t", n) for n in range(4))
    async with consuming(broker, handle, BY_SUBJECT) as (consumer,):
        await eventually(lambda: consumer.stats.done == 4)


async def test_the_next_of_a_key_starts_at_once_though_another_worker_has_nothing_to_do(
    broker,
):
    """Not with the next poll: a settled head and the start of the next are one thing."""
    starts: list[float] = []

    async def handle(event: Event) -> None:
        starts.append(asyncio.get_running_loop().time())

    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(40)
    )
    async with consuming(broker, handle, BY_SUBJECT, count=2):
        await eventually(lambda: len(starts) == 40)
    gaps = sorted(later - earlier for earlier, later in pairwise(starts))
    assert gaps[len(gaps) // 2] < 0.1


@pytest.mark.parametrize("end", ["reject", "expire", "undecodable"])
async def test_a_dead_head_lets_its_key_go_on(broker, end):
    history = History()

    async def handle(event: Event) -> None:
        if event.data == "bad":
            raise Reject("bad")
        async with history.attempt(event):
            pass

    producer = Producer(broker, "s")
    if end == "reject":
        await producer.publish(Event("t", "bad", subject="k"))
    else:
        meta = json.dumps(
            {"subject": "k"} | ({"expires": 1} if end == "expire" else {})
        )
        body = "{" if end == "undecodable" else "0"
        await broker.control.call(
            "XADD",
            broker.keys("s").level(0),
            "*",
            "type",
            "t",
            "data",
            body,
            "meta",
            meta,
        )
    await producer.publish_many(Event("t", n, subject="k") for n in range(3))
    async with consuming(broker, handle, BY_SUBJECT) as (consumer,):
        await eventually(lambda: len(history.done) == 3)
        await eventually(lambda: consumer.stats.dead == 1)
    assert [event.data for event in history.done] == [0, 1, 2]
    assert await left(broker) == {"rules", "dead"}


@pytest.mark.parametrize("order_by", [("subject",), ("type", "subject")])
@pytest.mark.parametrize(
    "meta",
    [
        b'{"subject":"k","share":NaN}',
        b'{"subject":"k","tenant":"caf\xe9"}',
        b'{"subject":"k","tenant":"\\udc00"}',
    ],
    ids=["nan", "latin-1", "surrogate"],
)
async def test_a_head_whose_meta_only_the_server_can_read_lets_its_key_go_on(
    broker, meta, order_by
):
    """It is malformed for us, and lined up all the same: the key went on with the next sweep, one such event each."""
    history = History()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            pass

    for _ in range(3):
        await broker.control.call(
            "XADD",
            broker.keys("s").level(0),
            "*",
            "type",
            "t",
            "data",
            "0",
            "meta",
            meta,
        )
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(3)
    )
    async with consuming(broker, handle, Lanes(order_by=order_by)) as (consumer,):
        await eventually(lambda: len(history.done) == 3)
        await eventually(lambda: consumer.stats.dead == 3)
    assert [event.data for event in history.done] == [0, 1, 2]
    assert await left(broker) == {"rules", "dead"}


@pytest.mark.parametrize("gone", ["XDEL", "XACK"])
async def test_what_is_gone_from_behind_a_head_is_walked_over(broker, gone):
    """Deleted, or acknowledged, by hand: each of them held its key up until the next sweep."""
    history, gate = History(), asyncio.Event()
    stream = broker.keys("s").level(0)

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await gate.wait()

    receipts = await Producer(broker, "s").publish_many(
        Event("t", n, subject="k") for n in range(52)
    )
    async with consuming(broker, handle, BY_SUBJECT):
        await eventually(lambda: history.running, what="the head to run")
        ids = [receipt.entry_id for receipt in receipts[1:-1]]
        assert (
            await broker.control.call(
                gone, stream, *(["g"] if gone == "XACK" else []), *ids
            )
            == 50
        )
        gate.set()
        await eventually(lambda: len(history.done) == 2, what="the last of the key")
    assert [event.data for event in history.done] == [0, 51]
    assert await left(broker) == {"rules"}


async def test_a_key_that_is_no_text_can_be_seen_and_goes_on(broker):
    history, gate = History(), asyncio.Event()

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            await gate.wait()

    row = ("type", "t", "data", "0", "meta", b'{"subject":"caf\xe9"}')
    await Producer(broker, "s").publish(Event("t", 0, subject="k"))
    made = await fetching(broker, BY_SUBJECT)
    for _ in range(3):
        await broker.control.call("XADD", broker.keys("s").level(0), "*", *row)
    await made.take(0)
    (key,) = [
        key
        for key in await OrderedKeys(broker, "s", "g").list(state=None)
        if key.key != "k"
    ]
    assert (key.key, key.behind) == ("caf\ufffd", 2)
    gate.set()
    async with consuming(broker, handle, BY_SUBJECT) as (consumer,):
        await eventually(lambda: consumer.stats.dead == 3)
    assert await left(broker) == {"rules", "dead"}


# --- a key that is held


async def held(broker: Broker, history: History) -> OrderedKeys:
    """A key whose first event has died, with two behind it."""

    async def handle(event: Event) -> None:
        if event.data == "bad" and not event.replays:
            raise Reject("bad")
        async with history.attempt(event):
            pass

    await Producer(broker, "s").publish_many(
        Event("t", data, subject="k") for data in ("bad", 1, 2)
    )
    await Producer(broker, "s").publish(Event("t", "free", subject="o"))
    async with consuming(
        broker, handle, Lanes(order_by=("subject",), on_dead="hold")
    ) as (consumer,):
        await eventually(lambda: consumer.stats.dead == 1 and len(history.done) == 1)
    return OrderedKeys(broker, "s", "g", by="ada")


async def test_a_held_key_waits_for_an_operator(broker):
    history = History()
    keys = await held(broker, history)
    assert [event.data for event in history.done] == ["free"]
    (key,) = await keys.list()
    assert (key.key, key.state, key.behind) == ("k", "held", 2)
    assert key.event_id == (await DeadLetters(broker, "s", "g").page())[0].event_id
    (row,) = await Status(broker).overview()
    assert sum(level.waiting for level in row.groups[0].levels) == 2
    with pytest.raises(NotFound, match="not held"):
        await keys.skip("o")
    with pytest.raises(NotFound, match="not held"):
        await keys.release("o")


@pytest.mark.parametrize(
    ("act", "wanted"),
    [("skip", [1, 2]), ("release", ["bad", 1, 2]), ("replay", ["bad", 1, 2])],
)
async def test_a_held_key_goes_on(broker, act, wanted):
    history = History()
    keys = await held(broker, history)
    if act == "replay":
        await DeadLetters(broker, "s", "g").replay(
            [(await DeadLetters(broker, "s", "g").page())[0].id]
        )
    else:
        await getattr(keys, act)("k")

    async def handle(event: Event) -> None:
        async with history.attempt(event):
            pass

    async with consuming(broker, handle, Lanes(order_by=("subject",), on_dead="hold")):
        await eventually(lambda: len(history.done) == 1 + len(wanted))
    assert [event.data for event in history.done[1:]] == wanted
    assert await keys.list(state=None) == []
    assert await DeadLetters(broker, "s", "g").count() == (1 if act == "skip" else 0)


async def test_a_held_key_whose_letter_was_discarded_can_be_skipped(broker):
    history = History()
    keys = await held(broker, history)
    letters = DeadLetters(broker, "s", "g")
    await letters.discard([(await letters.page())[0].id])
    with pytest.raises(NotFound, match="skip it"):
        await keys.release("k")
    await keys.skip("k")
    assert [key.state for key in await keys.list(state=None)] == ["working"]


async def test_keys_of_a_group_without_order_are_not_to_be_listed(broker):
    with pytest.raises(NotFound, match="no stream"):
        await OrderedKeys(broker, "s", "g").list()
    await Producer(broker, "s").publish(Event("t", 1))
    with pytest.raises(NotFound, match="keeps no order"):
        await OrderedKeys(broker, "s", "g").list()
