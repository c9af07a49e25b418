"""What seeds found, each as the shortest story of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from streams import Limit
from streams.admin.erasure import Erasure
from streams.admin.why import Wanted, Why
from tests.composition.declared import STREAM
from tests.composition.run import Run
from tests.composition.staging import SLOTS, Stage, accept, erase, left, ordered
from tests.composition.staging import stage as stage

pytestmark = pytest.mark.one_server


async def test_what_died_with_its_worker_gives_back_its_slot(stage: Stage):
    async with stage(limits=SLOTS, max_retries=0) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        for _ in range(2):
            await run.look()
            assert await left(run, "busy")
            await run.kill_worker()
            await run.pass_time(31)
            await run.add_worker()
        await run.look()
        assert [
            letter.event_id
            async for letter in run.ops.dead_letters(STREAM, "a").iterate()
        ] == ["e1"]
        assert await left(run, "busy") == []


@pytest.mark.parametrize("order_by", [None, "key"])
@pytest.mark.parametrize("before", [(), ("fail",)], ids=["first", "used-up"])
async def test_what_was_beside_a_killer_is_not_buried_before_it_ran_alone(
    stage: Stage, before: Any, order_by: Any
):
    """Without a retry that is left, and with none at all."""
    async with stage(max_retries=len(before), order_by=order_by) as run:
        await run.add_worker()
        await accept(run, "e1", *before, "slow", "ok", key="k1")
        await accept(run, "e2", *before, "slow", "crash", key="k2")
        await run.look()
        await run.pass_time(6)
        await run.look()
        assert len(run.books.running) == 2
        await run.kill_worker()
        await run.pass_time(31)
        await run.add_worker()
        for _ in range(3):
            await run.look()
            if not run.workers:
                await run.pass_time(31)
                await run.add_worker()
        letters = [
            letter async for letter in run.ops.dead_letters(STREAM, "a").iterate()
        ]
        assert [(letter.event_id, letter.reason) for letter in letters] == [
            ("e2", "stalled")
        ]
        assert run.books.done == {("a", "e1")}


@pytest.mark.parametrize("do", ["snooze", "fail"])
async def test_a_server_that_forgot_its_scripts_keeps_no_slot(stage: Stage, do: str):
    """What gives the slot back is loaded and sent again, and comes after what puts its event aside."""
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await run.look()
        await accept(run, "e1", do, "ok")
        await accept(run, "e2", "ok")
        await run.flush()
        await run.look()
        assert ("a", "e2") in run.books.done
        assert await left(run, "busy") == []


async def test_what_was_erased_while_it_ran_gives_back_its_slot(stage: Stage):
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        await run.look()
        await erase(run, "t1")
        await run.pass_time(1)
        await run.look()
        assert await left(run, "busy") == []


async def test_what_was_erased_while_it_ran_leaves_no_record(stage: Stage):
    async with stage() as run:
        await run.add_worker()
        await accept(run, "e1", "fail", "slow")
        await run.look()
        await run.pass_time(6)
        await run.look()
        assert await left(run, "attempts")
        await erase(run, "t1")
        await run.pass_time(1)
        assert await left(run, "attempts") == []


@pytest.mark.parametrize("is_handed_on", [False, True])
async def test_every_slot_expires(stage: Stage, is_handed_on: bool):
    """Of an event that was erased, and of a limit that is gone, nobody knows the key any more."""
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        await accept(run, "e2", "slow")
        await run.look()
        if is_handed_on:
            await run.stop_worker()
        (busy,) = await left(run, "busy")
        assert 0 < await run.ops.broker.control.call("PTTL", busy) <= 30 * 86_400_000


async def test_a_slot_of_what_is_lined_up_since_a_deploy_comes_back(stage: Stage):
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        for name in ("e1", "e2", "e3"):
            await accept(run, name, "slow" if name == "e1" else "ok", "ok", key="k")
        await run.look()
        # The slot is handed to the second, which is not the first of its key.
        await run.stop_worker()
        run.declared = ordered(run, "key")
        await run.add_worker()
        for _ in range(4):
            await run.look()
            await run.pass_time(11)
        assert run.books.done == {("a", "e1"), ("a", "e2"), ("a", "e3")}


async def test_why_names_the_order_by_which_an_event_was_lined_up(stage: Stage):
    async with stage(order_by="subject") as run:
        await run.add_worker()
        await accept(run, "e1", "slow", subject="s", key="k1")
        await accept(run, "e2", "ok", subject="s", key="k2")
        await accept(run, "e3", "ok", subject="s", key="k3")
        await run.look()
        await run.start_worker(ordered(run, "key"))
        await run.look()
        why = Why(run.ops.broker, STREAM)
        for name, behind in (("e2", 1), ("e3", 2)):
            (reason,) = (await why.ask(Wanted(name))).reasons
            assert (reason.state, reason.facts["behind"]) == ("key-busy", behind)
            assert reason.because is not None
            assert reason.because.event_id == "e1"


async def test_two_orders_side_by_side_wait_for_each_other_for_ever_no_more(
    stage: Stage,
):
    """Each is the first of a key by one order, and was put behind the other by the other order."""
    async with stage(order_by="subject") as run:
        by_subject = await run.start_worker(run.declared)
        by_key = await run.start_worker(ordered(run, "key"))
        await by_subject.look()
        await by_key.look()
        await accept(run, "e1", "slow", "ok", subject="s", key="k")
        await by_key.look()  # First of the key.
        await accept(run, "e2", "snooze", "ok", subject="s", key="k")
        await by_subject.look()  # First of the subject.
        run.workers.remove(by_key)
        await by_key.stop()
        # The first of the key waits for the first of the subject.
        await by_subject.look()
        await run.stop_worker()
        run.declared = ordered(run, "key")
        await run.add_worker()
        for _ in range(3):
            await run.pass_time(11)
            await run.look()
        assert run.books.done == {("a", "e1"), ("a", "e2")}


async def test_a_retry_that_was_lined_up_and_erased_leaves_no_record(stage: Stage):
    async with stage() as run:
        await run.add_worker()
        await accept(run, "e1", "fail", key="k", tenant="t2")
        await accept(run, "e2", "slow", "slow", key="k")
        await run.look()
        await run.stop_worker()
        run.declared = ordered(run, "key")
        await run.add_worker()
        await run.look()  # The second is the first of its key now.
        await run.pass_time(6)
        await run.look()  # The retry is lined up behind it.
        assert await left(run, "attempts")
        await erase(run, "t2")
        await run.finish()
        await run.look()
        assert ("a", "e2") in run.books.done
        assert await left(run, "attempts") == []


async def test_a_key_that_was_held_goes_on_though_the_order_was_taken_away(
    stage: Stage,
):
    async with stage(order_by="key", fair_by="tenant", on_dead="hold") as run:
        await run.add_worker()
        await accept(run, "e1", "reject", key="k")
        await accept(run, "e2", "ok", key="k")
        await run.look()
        await run.stop_worker()
        run.declared = ordered(run, None)
        await run.add_worker()
        await run.look()
        keys = run.ops.ordered_keys(STREAM, "a", by="run")
        assert [key.event_id for key in await keys.list()] == ["e1"]
        await keys.skip("k")
        await run.look()
        assert run.books.done == {("a", "e2")}


async def test_an_erased_event_that_waits_for_a_slot_lets_its_key_go_on(stage: Stage):
    """It looks by itself once an hour."""
    async with stage(order_by="key", limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow", key="k1")
        await accept(run, "e2", "ok", key="k2")
        await accept(run, "e3", "ok", key="k2", tenant="t2")
        await run.look()
        await Erasure(run.ops.broker, STREAM, by="run").erase("tenant", "t1")
        await run.look()
        await run.look()
        assert ("a", "e3") in run.books.done


async def test_the_probe_of_a_breaker_starts_in_no_other_pause(stage: Stage):
    async with stage() as run:
        run.declared = replace(run.declared, breaker=True)
        await run.add_worker()
        await accept(run, "e1", "unavailable", "unavailable", "ok", instance="i1")
        await run.look()  # The breaker opens.
        await run.ops.pauses(STREAM, by="run").pause(key="k")
        await accept(run, "e2", "ok", instance="i1", key="k")
        await run.look()  # It comes to the breaker first.
        for _ in range(3):
            await run.pass_time(21)
            await run.look()
        assert run.books.started["a", "e1"] == 3
        assert not run.books.started["a", "e2"]
        await run.ops.pauses(STREAM, by="run").resume(key="k")
        await run.pass_time(21)
        await run.look()
        assert ("a", "e2") in run.books.done


async def test_a_dropped_group_leaves_nobody_in_a_queue(stage: Stage):
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        await accept(run, "e2", "ok")
        await run.look()
        assert await left(run, "queue")
        await run.kill_worker()
        await run.ops.groups(STREAM, by="run").drop("a", force=True)
        assert await left(run, "queue") == []


@pytest.mark.parametrize(
    "other",
    [
        Limit("instance", name="other", rate="1/m", burst=1),
        Limit("instance", name="other", concurrency=1),
    ],
)
async def test_who_is_handed_a_slot_and_waits_for_another_limit_hands_it_on(
    stage: Stage, other: Limit
):
    async with stage(limits=(*SLOTS, other)) as run:
        await run.add_worker()
        await accept(run, "e1", "slow", instance="i1")
        await accept(run, "e2", "ok", instance="i2")
        await run.look()
        # Takes what the other limit allows.
        await accept(run, "e3", "slow", instance="i2", tenant="t2")
        await accept(run, "e4", "ok", instance="i3")
        await run.look()
        first = next(
            one for one in run.books.running.values() if one.where == ("a", "e1")
        )
        first.parked = False
        first.go_on.set()
        await run.look()
        assert run.books.done == {("a", "e1"), ("a", "e4")}


@pytest.mark.parametrize(
    "scope", [{}, {"group": "a"}, {"level": 0}], ids=["stream", "group", "level"]
)
async def test_no_slot_is_handed_on_in_a_pause(stage: Stage, scope: dict[str, Any]):
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        await accept(run, "e2", "ok")
        await run.look()
        await run.ops.pauses(STREAM, by="run").pause(**scope)
        await run.finish()  # It has not looked since.
        assert run.books.done == {("a", "e1")}
        await run.ops.pauses(STREAM, by="run").resume(**scope)
        await run.pass_time(31)
        await run.look()
        assert run.books.done == {("a", "e1"), ("a", "e2")}


@asynccontextmanager
async def died_in_b(stage: Stage) -> AsyncIterator[Run]:
    """Group a keeps the order and holds a key whose event died; in group b the first one died and was replayed."""
    async with stage(order_by="key", on_dead="hold") as run:
        other = replace(run.declared.groups["a"], order_by=None, on_dead="continue")
        run.declared = replace(
            run.declared, groups={"a": run.declared.groups["a"], "b": other}
        )
        yield run


async def replay(run: Run, group: str) -> None:
    letters = run.ops.dead_letters(STREAM, group, by="run")
    run.books.replayed |= {
        (group, letter.event_id) async for letter in letters.iterate()
    }
    await letters.replay([letter.id async for letter in letters.iterate()])


async def test_a_replay_for_another_group_waits_for_no_key(stage: Stage):
    async with died_in_b(stage) as run:
        await run.add_worker()
        await run.look()
        await run.ops.pauses(STREAM, by="run").pause(group="a")
        await accept(run, "e1", "reject", "ok", key="k")
        await run.look()
        await replay(run, "b")
        await run.ops.pauses(STREAM, by="run").resume(group="a")
        # Group a reads both at once: the first dies, and its key is held.
        await run.look()
        await run.judge()
        assert run.books.done == {("b", "e1")}
        assert [reason.group for reason in await run.oracle.reasons(run.levels)] == []


async def test_a_replay_for_another_group_ends_no_hold(stage: Stage):
    async with died_in_b(stage) as run:
        await run.add_worker()
        await accept(run, "e1", "reject", "ok", key="k")
        await accept(run, "e2", "ok", key="k")
        await run.look()
        await replay(run, "b")
        await run.look()
        await run.judge()
        assert run.books.done == {("b", "e1"), ("b", "e2")}
        keys = await run.ops.ordered_keys(STREAM, "a", by="run").list()
        assert [key.event_id for key in keys] == ["e1"]


async def test_why_knows_that_a_replay_for_another_group_is_behind_no_key(stage: Stage):
    async with died_in_b(stage) as run:
        await run.add_worker()
        await accept(run, "e1", "slow", key="k")
        await accept(run, "e2", "reject", "ok", key="k")
        await run.look()
        await run.ops.pauses(STREAM, by="run").pause(group="a")
        await replay(run, "b")
        await run.look()
        states = [
            reason.state
            for reason in await run.oracle.reasons(run.levels)
            if reason.event_id == "e2"
        ]
        assert states == ["key-busy", "paused"]


async def test_an_event_that_was_published_twice_waits_for_the_hold_of_its_first_copy(
    stage: Stage,
):
    async with stage(order_by="key", on_dead="hold") as run:
        await run.add_worker()
        await accept(run, "e1", "reject", "ok", key="k")
        await run.publish_again("e1")
        await run.look()
        await run.judge()
        assert [reason.state for reason in await run.oracle.reasons(run.levels)] == [
            "key-held"
        ]
        await run.ops.ordered_keys(STREAM, "a", by="run").skip("k")
        await run.look()
        assert run.books.done == {("a", "e1")}


async def test_what_was_cancelled_leaves_no_place_in_a_queue(stage: Stage):
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        await accept(run, "e2", "ok")
        await accept(run, "e3", "ok")
        await run.look()
        await run.ops.cancel(STREAM, "e2", by="run")
        await run.finish()
        await run.look()
        assert run.books.done == {("a", "e1"), ("a", "e3")}
        assert await left(run, "queue") == []


async def test_what_waits_for_a_limit_that_a_new_worker_does_not_have_may_be_due(
    stage: Stage,
):
    """The old worker lines it up, and a sweep of the new one, which serves other levels, has it ask anew."""
    async with stage(levels=(0, 5), limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow", priority=5)
        await accept(run, "e2", "ok", priority=5)
        await run.look()
        group = replace(run.declared.groups["a"], limits=())
        new = await run.start_worker(
            replace(run.declared, groups={"a": group}, serve=(0,))
        )
        old = next(worker for worker in run.workers if worker is not new)
        for worker in (old, new):
            await worker.look()
        states = {
            reason.event_id: reason.state
            for reason in await run.oracle.reasons(run.levels)
        }
        assert states == {"e1": "running", "e2": "starting"}
        seen = await run._seen()
        assert seen.waiting == {}
        await run.kill_worker()
        await run.pass_time(31)


async def test_the_judge_waits_a_look_for_each_suspect_that_is_due(stage: Stage):
    """While one runs, no other group of its process is given anything: what waits there starts a look later."""
    async with stage(max_retries=0) as run:
        await run.add_worker()
        await accept(run, "e1", "slow", "ok")
        await accept(run, "e2", "slow", "ok")
        await run.look()
        await run.kill_worker()
        await run.pass_time(31)
        await run.add_worker()
        for reclaimer in run.workers[0].crew.reclaimers:
            await reclaimer.sweep()
        await run.pass_time(31)
        await run.workers[0].crew.heartbeat.record()
        seen = await run._seen()
        assert {reason.event_id: reason.state for reason in seen.reasons} == {
            "e1": "suspect",
            "e2": "suspect",
        }
        assert sorted(event for _, _, event in seen.suspects) == ["e1", "e2"]


async def test_a_suspect_waits_for_no_group_that_has_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Each wait would be twice as long as the one before."""
    caplog.set_level("INFO", "streams.consumer")
    monkeypatch.setattr("streams.consuming.isolation.FIRST_WAIT", 0.5)
    async with stage(max_retries=0) as run:
        run.declared = replace(
            run.declared, groups=dict.fromkeys("ab", run.declared.groups["a"])
        )
        await run.add_worker()
        await accept(run, "e1", "slow", "ok")
        await run.look()
        while run.workers:
            await run.kill_worker()
        await run.pass_time(31)
        await run.add_worker()
        for _ in range(2):
            await run.look()
            await run.pass_time(31)
        assert "a suspect waits on" not in caplog.text
        assert {where for where, count in run.books.started.items() if count == 2} == {
            ("a", "e1"),
            ("b", "e1"),
        }
