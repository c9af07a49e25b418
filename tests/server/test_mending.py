"""What an operator mends with, on a real server: run now, edit and replay, look, search, and what became of it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from typer.testing import CliRunner

from streams import (
    DeadLetters,
    Event,
    EventError,
    Filter,
    NotFound,
    NotWaiting,
    Pipeline,
    Producer,
    Reject,
    Settings,
)
from streams.admin.cancellations import Impatience
from streams.admin.outcomes import Outcomes
from streams.admin.pauses import Pauses
from streams.admin.queries import EntryPage, Queries
from streams.admin.searching import Search
from streams.broker.admin.listing import Listing
from streams.broker.keys import PARKED, WAITING
from streams.cli.app import app
from streams.doctor import Bounds, Doctor, Finding
from tests.conftest import eventually
from tests.server.test_cancellations import left, retrying
from tests.server.test_dead_letters import audit, stored, with_letters


def pipeline_on(server, namespace) -> Pipeline:
    return Pipeline(settings=Settings(url=server.url, namespace=namespace))


async def commands_of(broker, act) -> int:
    """How many commands the server counts while something is done, those of scripts too."""

    async def count() -> int:
        text = (await broker.control.call("INFO", "stats")).decode()
        return int(text.split("total_commands_processed:")[1].split()[0])

    before = await count()
    await act
    return await count() - before - 1


async def test_a_retry_runs_before_its_time(broker):
    (delivery,) = await retrying(broker)
    state = await Impatience(broker, "s", by="ada").run_now("e0")
    assert (state.state, state.entry_id) == ("retrying", delivery.entry_id)
    score = await broker.control.call(
        "ZSCORE", broker.keys("s").retry("g"), f"5|{delivery.entry_id}"
    )
    seconds, micros = await broker.control.call("TIME")
    assert float(score) <= int(seconds) * 1000 + int(micros) / 1000
    # It waits as ever, and its attempts are known.
    assert await left(broker) == (1, 1, 1)
    place = f"5|{delivery.entry_id}"
    assert await audit(broker) == [
        {"action": "run-now", "group": "g", "by": "ada", "event": place}
    ]


async def test_a_scheduled_event_runs_before_its_time(server, namespace):
    pipeline, seen = pipeline_on(server, namespace), []

    @pipeline.handler("s", group="g")
    async def work(event: Event) -> None:
        seen.append(event.data)

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as other:
        await other.publish("s", 1, type="t", id="later", delay=3600.0)
        state = await other.run_now("s", "later", by="ada")
        assert (state.state, state.group) == ("scheduled", "")
        await eventually(lambda: seen == [1], what="the event to run")
    pipeline.stop()
    await running


async def test_what_does_not_wait_is_refused_with_what_to_do(broker):
    await retrying(broker, 2)
    impatience = Impatience(broker, "s")
    await Producer(broker, "s").publish(1, type="t", id="new", priority=5)
    with pytest.raises(
        NotWaiting, match="new is pending in group g: it is due"
    ) as caught:
        await impatience.run_now("new")
    assert (caught.value.id, caught.value.state) == ("new", "pending")
    with pytest.raises(NotFound):
        await impatience.run_now("nothing")
    with pytest.raises(NotFound, match="no group"):
        await impatience.run_now("e0", "nobody")
    await Producer(broker, "s").publish(1, type="t", id="e1", delay=3600.0)
    with pytest.raises(NotWaiting, match="means several events"):
        await impatience.run_now("e1")


async def test_a_letter_is_put_back_with_another_body(broker):
    letters = await with_letters(broker, 2, key="k")
    first, second = await letters.page()
    mending = DeadLetters(broker, "s", "g", by="ada")
    place = await mending.replay_edited(first.id, {"mended": True})
    ((entry_id, fields),) = await stored(broker)
    assert place == f"0|{entry_id}"
    assert orjson.loads(fields["data"]) == {"mended": True}
    assert (fields["id"], fields["meta"], fields["replays"], fields["group"]) == (
        first.event_id, '{"key":"k"}', "1", "g",
    )  # fmt: skip
    assert [letter.id for letter in await letters.page()] == [second.id]
    (row,) = await audit(broker)
    assert (row["action"], row["by"], row["entries"]) == (
        "edit-and-replay",
        "ada",
        place,
    )
    with pytest.raises(NotFound):
        await mending.replay_edited(first.id, {})
    with pytest.raises(EventError):
        await mending.replay_edited(second.id, object())
    assert await letters.count() == 1


async def test_filters_take_text_that_is_shown_and_none_that_is_not(broker):
    await with_letters(broker, 1, subject="order 5511999990000", tenant="acme")
    letters = await with_letters(broker, 1, subject="invoice")
    (found,) = await letters.page(Filter(text="ORDER "))
    assert found.meta["tenant"] == "acme"
    assert len(await letters.page(Filter(text="valueerror"))) == 2
    for hidden in ("5511999990000", "1199999", "\x00"):
        assert await letters.page(Filter(text=hidden)) == []


async def test_a_look_examines_no_more_than_it_says(broker):
    letters = await with_letters(broker, 1200)
    (last,) = [letter async for letter in letters.latest(1)]
    where = Filter(event_id=last.event_id)
    page = await letters.look(where, examine=500)
    assert page.letters == []
    pages = 1
    while page.next and not page.letters:
        page = await letters.look(where, after=page.next, limit=1, examine=500)
        pages += 1
    assert ([letter.id for letter in page.letters], pages) == ([last.id], 3)
    assert await letters.count_matching(where, 500) == (0, True)
    assert await letters.count_matching(where, 5000) == (1, False)
    assert await letters.count_matching(Filter(), 1) == (1200, False)
    newest = [letter.id async for letter in letters.latest(700)]
    assert len(newest) == 700
    assert newest == sorted(
        newest, key=lambda i: tuple(map(int, i.split("-"))), reverse=True
    )


async def test_a_replay_or_discard_is_one_row_of_the_audit_however_many_steps_it_takes(
    broker,
):
    letters = await with_letters(broker, 730)
    pauses = Pauses(broker, "s", by="ana")
    await pauses.pause(reason="legal hold")
    queries = Listing(broker, broker.keys("s"))
    last = ""
    async for _ in letters.replaying(
        Filter(type="t", since=1.0), rate=10_000, limit=620
    ):
        ident, facts = (await queries.audit("", 1))[0]
        assert facts["action"] == "replay"  # While it runs, too.
        assert ident > last
        last = ident
    await letters.discard(Filter())
    discarded, replayed, paused = [facts for _, facts in await queries.audit("", 10)]
    assert (paused["action"], paused["reason"]) == ("pause", "legal hold")
    assert (replayed["count"], replayed["rate"], len(replayed["entries"].split())) == (
        "620",
        "10000",
        500,
    )
    assert replayed["filter"] == "type t, since Thu, 01 Jan 1970 00:00:01 GMT"
    assert (discarded["action"], discarded["count"], discarded["filter"]) == (
        "discard",
        "110",
        "all",
    )


async def test_a_replay_whose_row_was_trimmed_meanwhile_goes_on_with_a_new_one(broker):
    letters = await with_letters(broker, 250)
    async for step in letters.replaying(Filter()):
        if len(step.moved) == 100:
            await broker.control.call("XTRIM", broker.keys("s").audit(), "MAXLEN", 0)
    (row,) = await Listing(broker, broker.keys("s")).audit("", 10)
    assert (row[1]["action"], row[1]["count"]) == ("replay", "50")


async def test_a_replay_tells_of_each_batch_and_can_be_left(broker):
    letters = await with_letters(broker, 250)
    moved = 0
    async for part in letters.replaying(Filter()):
        moved += len(part.moved)
        if moved >= 100:
            break
    assert moved == 100
    assert await letters.count() == 150


async def test_what_became_of_replays(server, namespace):
    pipeline = pipeline_on(server, namespace)

    @pipeline.handler("s", group="g")
    async def work(event: Event) -> None:
        if event.data == "bad" or "again" not in seen:
            raise Reject("no")

    seen: set[str] = set()
    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as other:
        await other.publish_many("s", ["bad", "good", "good"], type="t")
        letters = other.dead_letters("s", "g", by="ada")

        async def dead(count: int) -> bool:
            return await letters.count() == count

        await eventually(lambda: dead(3))
        seen.add("again")
        await letters.replay(Filter())

        async def settled() -> bool:
            (row,) = await Outcomes(other, "s").replays("g")
            return row.now == Counter(ended=2, dead=1)

        await eventually(settled, what="two to end and one to die again")
        pipeline.stop()
        await running
        (bad,) = await letters.page()
        await letters.replay_edited(bad.id, "good")
        edited, row = await Outcomes(other, "s").replays("g")
        assert (edited.edited, edited.count, edited.now) == (
            True,
            1,
            Counter(waiting=1),
        )
        assert (row.edited, row.by, row.count) == (False, "ada", 3)
        assert await Outcomes(other, "s").replays("g", 1) == [edited]


async def test_events_are_found_by_what_they_carry(server, namespace):
    async with pipeline_on(server, namespace) as pipeline:
        await pipeline.publish("a", 1, type="t", id="one", tenant="acme", priority=5)
        await pipeline.publish("b", 1, type="t", id="two", key="acme")
        await with_letters(pipeline.broker, 1, instance="acme")
        found = await Search(pipeline).search("acme")
        assert [(m.stream, m.group, m.by) for m in found.matches] == [
            ("a", "", "tenant"), ("b", "", "key"), ("s", "g", "instance"),
        ]  # fmt: skip
        assert [
            m.stream for m in (await Search(pipeline).search("acme", "b")).matches
        ] == ["b"]
        found = await Search(pipeline).search("one")
        assert (
            [(state.stream, state.state) for state in found.states],
            found.matches,
        ) == ([("a", "pending")], [])
        (letter,) = await pipeline.dead_letters("s", "g").page()
        found = await Search(pipeline).search(letter.event_id)
        assert ([state.state for state in found.states], found.matches) == (
            ["dead"],
            [],
        )
        assert (await Search(pipeline).search("acm")).matches == []
        await pipeline.publish("a", 1, type="t", id="later", key="beta", delay=600)
        (match,) = (await Search(pipeline).search("beta")).matches
        assert (match.stream, match.place, match.event_id, match.by) == (
            "a",
            "0|later",
            "later",
            "key",
        )
        for n in range(25):
            await pipeline.publish(f"more-{n}", 1, type="t")
        assert len((await Search(pipeline).search("acme")).left_out) == 8


@pytest.mark.parametrize("consumers", [2, 40])
async def test_what_waits_before_it_does_not_hide_what_runs(
    server, namespace, consumers
):
    """Retries, and what is lined up behind a key, are pending as well."""
    async with pipeline_on(server, namespace) as pipeline:
        key, call = pipeline.broker.keys("s").level(0), pipeline.broker.control.call
        await call("XGROUP", "CREATE", key, "g", "0", "MKSTREAM")

        async def hold(name: str, ident: str) -> None:
            await call("XADD", key, "*", "type", "t", "id", ident, "data", "1")
            await call("XREADGROUP", "GROUP", "g", name, "STREAMS", key, ">")

        for name in (PARKED, WAITING):
            for n in range(60):
                await hold(name, f"{name}{n}")
        for n in range(consumers):
            await hold(f"w{n}", f"runs-{n}")
        queries = Queries(pipeline)
        page = EntryPage(state="processing", level=0, most=50)
        first = await queries.items("s", "g", page)
        assert {item.event_id for item in first} <= {
            f"runs-{n}" for n in range(consumers)
        }
        assert [item.listed.consumer for item in first[:2]] == ["w0", "w1"]
        after = replace(page, after=first[0].listed.place)
        second = await queries.items("s", "g", after)
        assert second[0].event_id == "runs-1"


async def test_in_hand_says_who_has_what_and_for_how_long(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.worker.heartbeat.EVERY", 0.05)
    pipeline, free = pipeline_on(server, namespace), asyncio.Event()

    @pipeline.handler("s", group="g", concurrency=2)
    async def work(event: Event) -> None:
        await free.wait()

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as other:
        await other.publish("s", 1, type="t", id="held", priority=5)
        queries = Queries(other)

        async def busy() -> bool:
            found = await queries.workers()
            held = await queries.in_hand("s", "g", found[0].name) if found else []
            return bool(held) and held[0].runs is not None

        await eventually(busy, what="a worker that wrote down what it runs")
        (worker,) = await queries.workers()
        (item,) = await queries.in_hand("s", "g", worker.name)
        assert (item.event_id, item.listed.level) == ("held", 5)
        assert 0 <= item.listed.silent < 60
        assert 0 <= item.runs < 60
        page = EntryPage(state="processing", level=5)
        (listed,) = await queries.items("s", "g", page)
        assert 0 <= listed.runs < 60

        async def said() -> list[Finding]:
            found = await Doctor(other.broker, Bounds(running=0.0)).examine("s")
            return [finding for finding in found if finding.code == "long-running"]

        await eventually(said, what="it to run for longer than the two clocks differ")
        (long,) = await said()
        assert (
            f"5|{item.listed.place} runs for 0 min on {worker.name}; 1 of its 2 handlers is free"
            in long.what
        )
        assert "long-running" not in {
            finding.code for finding in await Doctor(other.broker).examine("s")
        }
        assert await queries.in_hand("s", "g", "somebody-else") == []
        free.set()
    pipeline.stop()
    await running


async def test_incoming_is_counted_between_looks(server, namespace, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("streams.admin.overview.time.monotonic", lambda: now[0])
    async with pipeline_on(server, namespace) as pipeline:
        await with_letters(pipeline.broker, 1)
        queries = Queries(pipeline)

        async def incoming() -> float | None:
            (view,) = await queries.overview()
            return view.groups[0].incoming

        assert await incoming() is None
        await Producer(pipeline.broker, "s").publish_many(range(50), type="t")
        now[0] += 10.0
        assert await incoming() == 5.0
        now[0] += 10.0
        assert await incoming() == 2.5


async def test_workers_that_went_without_a_word_are_marked_and_then_left_out(
    server, namespace
):
    async with pipeline_on(server, namespace) as pipeline:
        await pipeline.publish("s", 1, type="t")
        call, keys, now = (
            pipeline.broker.control.call,
            pipeline.broker.keys("s"),
            pipeline.broker.clock.now(),
        )
        await call("XGROUP", "CREATE", keys.level(0), "g", "0")
        for name, silent in (("killed", 64), ("lives", 1), ("forgotten", 3601)):
            await call(
                "HSET",
                keys.workers("g"),
                name,
                orjson.dumps({"at": now - silent, "concurrency": 3}),
            )
        found = await Queries(pipeline).workers()
        assert [(worker.name, worker.state) for worker in found] == [
            ("lives", "alive"),
            ("killed", "silent"),
        ]
    environ = {"STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace}
    told = await asyncio.to_thread(CliRunner().invoke, app, ["workers"], env=environ)
    assert re.search(r"^lives +s/g", told.stdout, re.MULTILINE)
    assert re.search(r"^silent killed +s/g", told.stdout, re.MULTILINE)
    assert "forgotten" not in told.stdout
