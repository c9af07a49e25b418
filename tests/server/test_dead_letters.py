"""Dead letters on a real server: found, shown, replayed, discarded, exported."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from streams import (
    Broker,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    DeadLetter,
    DeadLetters,
    Event,
    Filter,
    Levels,
    NotFound,
    Producer,
    Reject,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Buried, Settling
from streams.policy.declaration import Declaration
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually

LEVELS = (0, 1, 5, 10)
NOT_UTF8 = [b"type", b"t\xff", b"data", b"\xfe\x00", b"odd", b""]


async def bury(
    broker: Broker, reason: str = "rejected", error: str = "", group: str = "g"
) -> None:
    """Let a consumer move everything that waits to the dead letters."""
    declaring = Declaring(broker.keys("s"), Levels(), group, Declaration("fanout"))
    fetching = Fetching(
        GroupConsumer(broker, broker.keys("s"), Levels(), group, "c1"), declaring
    )
    await fetching.ensure_group()
    record = AttemptRecord()
    record.add("failure", {"type": error or "ValueError", "message": "no"}, at=1.0)
    taken = await fetching.take(5_000)
    settling = Settling(GroupConsumer(broker, broker.keys("s"), Levels(), group, "c1"))
    await settling.settle(
        (), (), [Buried(delivery, reason, record.to_json()) for delivery in taken]
    )


async def with_letters(broker: Broker, n: int = 3, **attributes) -> DeadLetters:
    await Producer(broker, "s").publish_many(range(n), **{"type": "t", **attributes})
    await bury(broker)
    return DeadLetters(broker, "s", "g", by="ops")


async def stored(broker: Broker, level: int = 0) -> list[tuple[str, dict[str, str]]]:
    rows = await broker.control.call("XRANGE", broker.keys("s").level(level), "-", "+")
    return [
        (i.decode(), dict(zip(*[iter(map(bytes.decode, fields))] * 2, strict=True)))
        for i, fields in rows
    ]


async def audit(broker: Broker) -> list[dict[str, str]]:
    rows = await broker.control.call("XRANGE", broker.keys("s").audit(), "-", "+")
    return [
        dict(zip(*[iter(map(bytes.decode, fields))] * 2, strict=True))
        for _, fields in rows
    ]


def numbers(letters: list[DeadLetter]) -> list[int]:
    return [int(dict(letter.fields)[b"data"]) for letter in letters]


# --- looking


async def test_a_letter_tells_what_happened(broker, server):
    before = time.time()
    receipt = await Producer(broker, "s").publish(
        {"n": 1}, type="order", tenant="acme", priority=5, id="e1"
    )
    await bury(broker, "retries-used-up", "OSError")
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert (letter.reason, letter.level, letter.entry_id) == (
        "retries-used-up",
        5,
        receipt.entry_id,
    )
    assert (letter.event_id, letter.type, letter.meta) == (
        "e1",
        "order",
        {"tenant": "acme"},
    )
    assert (letter.failures, letter.stalls, letter.attempts, letter.replays) == (
        1,
        0,
        1,
        0,
    )
    assert (letter.consumer, letter.size, letter.last_error) == ("c1", 7, "OSError: no")
    assert before - 1 <= letter.died_at <= time.time() + 1
    assert "n" not in letter.as_dict()
    assert "fields" not in letter.as_dict()
    assert "acme" not in repr(letter.fields) or "fields" not in repr(letter)


async def test_pages_follow_each_other(broker):
    letters = await with_letters(broker, 1_203)
    assert await letters.count() == 1_203
    assert numbers([letter async for letter in letters.iterate()]) == list(range(1_203))
    seen, after = [], ""
    while page := await letters.page(after=after, limit=100):
        assert len(page) == 100 or len(seen) == 1_200
        seen += numbers(page)
        after = page[-1].id
    assert seen == list(range(1_203))
    assert await letters.page(limit=0) == []
    assert len(await letters.page()) == 50


async def test_each_field_of_a_filter_narrows(broker):
    producer = Producer(broker, "s")
    made = [
        ({"type": "a", "tenant": "x"}, "rejected", "ValueError"),
        (
            {"type": "b", "tenant": "y", "priority": 10},
            "rejected",
            "builtins.TimeoutError",
        ),
        ({"type": "a", "id": "mine", "priority": 1}, "stalled", "Stalled"),
        ({"type": "c"}, "expired", "x.TimeoutError"),
    ]
    for n, (attributes, reason, error) in enumerate(made):
        await producer.publish(n, **attributes)
        await bury(broker, reason, error)
        await asyncio.sleep(0.002)  # Times of their own.
    letters = DeadLetters(broker, "s", "g")
    times = [letter.died_at for letter in await letters.page()]
    assert times == sorted(set(times))
    expected = [
        (Filter(), [0, 1, 2, 3]),
        (Filter(type="a"), [0, 2]),
        (Filter(reason="rejected"), [0, 1]),
        (Filter(error="timeouterror"), [1, 3]),
        (Filter(error="no"), [0, 1, 2, 3]),
        (Filter(event_id="mine"), [2]),
        (Filter(tenant="y"), [1]),
        (Filter(level=0), [0, 3]),
        (Filter(level=10), [1]),
        (Filter(since=times[2]), [2, 3]),
        (Filter(until=times[1]), [0, 1]),
        (Filter(since=times[1], until=times[2]), [1, 2]),
        (Filter(type="a", tenant="y"), []),
    ]
    for where, found in expected:
        assert numbers(await letters.page(where)) == found, where
        assert (await letters.replay(where, dry_run=True)).matched == len(found), where
    assert not Filter()
    assert all(where for where, _ in expected[1:])


async def test_show_finds_one_and_says_if_there_is_none(broker):
    letters = await with_letters(broker)
    page = await letters.page()
    assert await letters.show(page[1].id) == page[1]
    with pytest.raises(NotFound, match=r"^s/g has no dead letter 1-1$"):
        await letters.show("1-1")
    for wrong in ("nope", "", "-", "+", "1", "1-1-1", "0|1-1", "$"):
        with pytest.raises(NotFound, match="is no id of a dead letter"):
            await letters.show(wrong)
    with pytest.raises(NotFound):
        await letters.page(after="nope")


async def test_of_a_group_that_never_was_there_are_none(broker):
    letters = DeadLetters(broker, "s", "never")
    assert await letters.count() == 0
    assert await letters.page() == []
    assert (await letters.replay(Filter())).matched == 0
    assert await letters.discard(Filter()) == 0


# --- replay


async def test_replay_puts_one_back(broker):
    receipt = await Producer(broker, "s").publish(
        {"n": 1}, type="t", priority=5, key="k"
    )
    await bury(broker)
    letters = DeadLetters(broker, "s", "g", by="ops")
    (letter,) = await letters.page()
    outcome = await letters.replay([letter.id])
    ((entry_id, fields),) = await stored(broker, 5)
    assert (outcome.matched, outcome.moved) == (1, {letter.id: f"5|{entry_id}"})
    assert fields == {
        "type": "t",
        "id": receipt.event_id,
        "data": '{"n":1}',
        "meta": '{"key":"k"}',
        "replays": "1",
        "group": "g",
    }
    assert await letters.count() == 0
    told = {"action": "replay", "group": "g", "by": "ops", "count": "1"}
    assert await audit(broker) == [
        told | {"letters": letter.id, "entries": f"5|{entry_id}"}
    ]


async def test_a_replayed_event_begins_anew_and_counts_its_replays(broker):
    seen = []

    async def handler(event: Event) -> None:
        seen.append((event.id, event.attempt, event.replays))
        if event.replays < 2:
            raise Reject

    receipt = await Producer(broker, "s").publish(1, type="t")
    letters = DeadLetters(broker, "s", "g")
    consumer = Consumer(broker, "s", "g", handler)
    running = asyncio.create_task(consumer.run())
    for replays in range(2):
        await eventually(letters.count, what="the dead letter")
        (letter,) = await letters.page()
        assert (letter.replays, letter.failures, letter.event_id) == (
            replays,
            1,
            receipt.event_id,
        )
        await letters.replay([letter.id])
    await eventually(lambda: consumer.stats.done, what="the success")
    running.cancel()
    await asyncio.wait([running])
    assert seen == [(receipt.event_id, 1, replays) for replays in range(3)]


async def test_an_entry_without_an_id_gets_one_that_stays(broker):
    key = broker.keys("s").level(1)
    entry_id = (
        await broker.control.call("XADD", key, "*", "type", "t", "data", "1")
    ).decode()
    letters = DeadLetters(broker, "s", "g")
    for replays in range(1, 4):
        await bury(broker)
        (letter,) = await letters.page()
        assert letter.event_id == f"1|{entry_id}"
        await letters.replay([letter.id])
        ((_, fields),) = await broker.control.call("XRANGE", key, "-", "+")
        assert fields[:4] == [b"type", b"t", b"data", b"1"]
        assert fields[4:] == [
            b"id",
            f"1|{entry_id}".encode(),
            b"replays",
            b"%d" % replays,
            b"group",
            b"g",
        ]


async def test_replay_many_by_id(broker):
    letters = await with_letters(broker, 5)
    ids = [letter.id for letter in await letters.page()]
    outcome = await letters.replay([ids[3], ids[1], ids[3]])
    assert (outcome.matched, list(outcome.moved)) == (2, [ids[3], ids[1]])
    assert numbers(await letters.page()) == [0, 2, 4]
    assert [fields["data"] for _, fields in await stored(broker)] == ["3", "1"]


async def test_replay_by_filter_keeps_order_and_levels(broker):
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=LEVELS[n % 4]) for n in range(1_000)
    )
    await bury(broker)
    letters = DeadLetters(broker, "s", "g")
    outcome = await letters.replay(Filter(type="t"))
    assert (outcome.matched, len(outcome.moved)) == (1_000, 1_000)
    assert await letters.count() == 0
    for at, level in enumerate(LEVELS):
        assert [
            int(fields["data"]) for _, fields in await stored(broker, level)
        ] == list(range(at, 1_000, 4))
    assert sum(int(entry["count"]) for entry in await audit(broker)) == 1_000


async def test_a_dry_run_moves_nothing(broker):
    letters = await with_letters(broker)
    ids = [letter.id for letter in await letters.page()]
    for which in (Filter(), ids):
        outcome = await letters.replay(which, dry_run=True)
        assert (outcome.matched, outcome.moved) == (3, {})
        assert await letters.discard(which, dry_run=True) == 3
    assert await letters.count() == 3
    assert await stored(broker) == await audit(broker) == []


@pytest.mark.parametrize("limit", [0, 1, 150, 500])
async def test_a_limit_is_kept(broker, limit):
    letters = await with_letters(broker, 250)
    outcome = await letters.replay(Filter(), limit=limit)
    assert (
        outcome.matched
        == len(outcome.moved)
        == len(await stored(broker))
        == min(limit, 250)
    )
    assert numbers(await letters.page(limit=1_000)) == list(range(min(limit, 250), 250))


async def test_a_rate_is_kept(broker):
    letters = await with_letters(broker, 20)
    before = time.monotonic()
    replaying = asyncio.create_task(letters.replay(Filter(), rate=100))
    most = 0.0
    while not replaying.done():
        moved = len(await stored(broker))
        if moved > 10:
            most = max(most, moved / (time.monotonic() - before))
        await asyncio.sleep(0.005)
    assert len((await replaying).moved) == 20
    assert time.monotonic() - before >= 0.15
    assert most <= 210
    for rate in (0, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="rate"):
            await letters.replay(Filter(), rate=rate)


@pytest.mark.parametrize("rate", [None, 100])
async def test_what_dies_again_during_a_replay_is_not_replayed_twice(broker, rate):
    letters = await with_letters(broker, 15 if rate else 250)
    count = await letters.count()

    async def handler(event: Event) -> None:
        raise Reject

    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions())
    running = asyncio.create_task(consumer.run())
    outcome = await letters.replay(Filter(), rate=rate)
    await eventually(lambda: consumer.stats.dead == count, what="every second death")
    running.cancel()
    await asyncio.wait([running])
    assert outcome.matched == count
    assert [letter.replays for letter in await letters.page(limit=1_000)] == [1] * count


async def test_what_two_operators_replay_comes_back_once(server, broker, namespace):
    letters = await with_letters(broker, 300)
    async with Broker(server.url, namespace=namespace) as other:
        outcomes = await asyncio.gather(
            letters.replay(Filter()), DeadLetters(other, "s", "g").replay(Filter())
        )
    moved = [place for outcome in outcomes for place in outcome.moved.values()]
    assert len(moved) == len(set(moved)) == len(await stored(broker)) == 300


async def test_a_missing_id_leaves_everything_as_it_was(broker):
    letters = await with_letters(broker)
    ids = [letter.id for letter in await letters.page()]
    for act in (letters.replay, letters.discard):
        with pytest.raises(
            NotFound, match="has no dead letter 1-1; nothing was changed"
        ):
            await act([ids[0], "1-1", ids[1]])
        with pytest.raises(NotFound, match="is no id"):
            await act([ids[0], "x"])
    assert await letters.count() == 3
    assert await stored(broker) == await audit(broker) == []


# --- discard, export


async def test_discard_deletes_and_says_who(broker):
    letters = await with_letters(broker, 4)
    ids = [letter.id for letter in await letters.page()]
    assert await letters.discard([ids[2], ids[2]]) == 1
    assert numbers(await letters.page()) == [0, 1, 3]
    rest = [letter.id for letter in await letters.page()]
    assert await letters.discard(Filter(type="other")) == 0
    assert await letters.discard(Filter()) == 3
    assert await letters.count() == 0
    assert await stored(broker) == []
    assert await audit(broker) == [
        {
            "action": "discard",
            "group": "g",
            "by": "ops",
            "count": "1",
            "letters": ids[2],
        },
        {
            "action": "discard",
            "group": "g",
            "by": "ops",
            "filter": "all",
            "count": "3",
            "letters": " ".join(rest),
        },
    ]


async def test_groups_keep_letters_of_their_own(broker):
    await with_letters(broker, 2)
    await Producer(broker, "s").publish_many(range(3), type="t")
    await bury(broker, group="h")
    letters = DeadLetters(broker, "s", "h")
    assert await letters.count() == 3
    assert await letters.discard(Filter()) == 3
    assert await DeadLetters(broker, "s", "g").count() == 2


async def test_an_export_is_json_whatever_the_bytes(broker):
    await Producer(broker, "s").publish({"ä": 1}, type="t", priority=1)
    await broker.control.call("XADD", broker.keys("s").level(0), "*", *NOT_UTF8)
    await bury(broker)
    letters = DeadLetters(broker, "s", "g")
    exported = [orjson.loads(orjson.dumps(row)) async for row in letters.export()]
    readable, odd = exported
    assert (readable["type"], readable["level"], readable["reason"]) == (
        "t",
        1,
        "rejected",
    )
    assert readable["fields"][2] == ["data", '{"ä":1}']
    assert odd["fields"] == [
        ["type", {"base64": "dP8="}],
        ["data", {"base64": "/gA="}],
        ["odd", ""],
    ]
    only = [row async for row in letters.export(Filter(level=1))]
    assert [row["id"] for row in only] == [readable["id"]]


async def test_bytes_survive_a_replay(broker):
    key = broker.keys("s").level(0)
    await broker.control.call("XADD", key, "*", *NOT_UTF8)
    await bury(broker)
    await DeadLetters(broker, "s", "g").replay(Filter())
    ((_, fields),) = await broker.control.call("XRANGE", key, "-", "+")
    assert fields[: len(NOT_UTF8)] == NOT_UTF8
