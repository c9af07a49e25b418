"""Workers that are alive and fetch nothing: what waits for them has no reason, and the product says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streams.admin.reason import Reason
from streams.admin.why import Wanted, Why
from streams.doctor import Doctor
from tests.composition.declared import STREAM
from tests.composition.run import Run
from tests.composition.staging import SLOTS, Stage, accept, left
from tests.composition.staging import stage as stage

pytestmark = pytest.mark.one_server


@asynccontextmanager
async def stuck(stage: Stage, **options: object) -> AsyncIterator[Run]:
    """A worker that writes down what it does, and looks for nothing unless it is told to."""
    async with stage(**options) as run:
        await run.add_worker()
        await run.look()
        yield run


async def later(run: Run, seconds: int) -> None:
    """Time passes, and the workers say that they are alive."""
    await run.pass_time(seconds)
    for worker in run.workers:
        await worker.crew.heartbeat.record()


async def why(run: Run, name: str) -> Reason:
    (reason,) = (await Why(run.ops.broker, STREAM, look=0.0).ask(Wanted(name))).reasons
    return reason


async def told(run: Run) -> list[str]:
    """What the doctor says of events that nothing starts."""
    found = await Doctor(run.ops.broker, role="operator").examine(STREAM)
    return [
        finding.what.partition(" ")[0]
        for finding in found
        if finding.code == "runnable-but-waiting"
    ]


async def is_found(run: Run, name: str) -> None:
    """Why names it as nothing's, and the doctor finds it; when the worker looks again, it starts."""
    reason = await why(run, name)
    assert reason.state == "none", reason.sentence
    assert await told(run) == [f"{reason.level}|{reason.entry_id}"]
    before = run.books.started["a", name]
    await run.look()
    assert run.books.started["a", name] == before + 1
    assert await told(run) == []


async def test_a_new_event_that_nobody_reads(stage: Stage):
    async with stuck(stage) as run:
        await accept(run, "e1", "ok")
        await later(run, 2)
        assert (await why(run, "e1")).state == "starting"
        assert await told(run) == []
        await later(run, 40)
        await is_found(run, "e1")


async def test_a_due_retry_that_nobody_fetches_behind_others_that_are_paused(
    stage: Stage,
):
    async with stuck(stage) as run:
        await accept(run, "e1", "fail", "ok", tenant="t2")
        await accept(run, "e2", "fail", "ok")
        await run.look()
        await run.ops.pauses(STREAM, by="run").pause(tenant="t2")
        await later(run, 60)
        assert (await why(run, "e1")).state == "paused"
        await is_found(run, "e2")


async def test_an_event_that_has_a_slot_and_that_nobody_fetches(stage: Stage):
    async with stuck(stage, limits=SLOTS) as run:
        await accept(run, "e1", "slow", "ok")
        await accept(run, "e2", "ok")
        await run.look()
        # The slot goes to the second, or stays with the first: what is written first decides.
        await run.stop_worker()
        await run.add_worker()
        await later(run, 2)
        states = {(await why(run, name)).state: name for name in ("e1", "e2")}
        assert "reserved" in states
        assert states.keys() <= {"reserved", "limit", "starting"}
        await later(run, 40)
        assert (await why(run, states["reserved"])).state == "none"
        assert len(await told(run)) >= 1
        await run.look()
        assert run.books.started["a", states["reserved"]] >= 1
        assert await told(run) == []


async def test_the_first_of_a_queue_with_a_free_slot_that_no_sweep_finds(stage: Stage):
    """Somebody deleted the row of the slot; the first of the queue looks by itself when its lease is over."""
    async with stuck(stage, limits=SLOTS, lease=600.0) as run:
        await accept(run, "e1", "slow")
        await accept(run, "e2", "ok")
        await run.look()
        await run.kill_worker()
        (busy,) = await left(run, "busy")
        await run.ops.broker.control.call("DEL", busy)
        await run.add_worker()
        reason = await why(run, "e2")
        assert (reason.state, "until" in reason.facts) == ("starting", True)
        assert await told(run) == []
        await later(run, 60)
        await is_found(run, "e2")


async def test_what_starts_within_one_look_is_no_defect(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    async with stuck(stage) as run:
        await accept(run, "e1", "ok")
        await later(run, 40)

        async def look(seconds: float) -> None:
            assert seconds == 1.0
            await run.workers[0].look()

        monkeypatch.setattr("streams.admin.why.sleep", look)
        (reason,) = (await Why(run.ops.broker, STREAM).ask(Wanted("e1"))).reasons
        assert reason.state in ("done", "unknown")
