"""Rows that say nothing, in every set of a group: some seeds with every run; ``make fuzz`` goes on for longer."""

from __future__ import annotations

import random

import pytest

from streams.admin.why import Wanted, Why
from tests.composition import clock, workers
from tests.composition.declared import STREAM
from tests.composition.staging import SLOTS, Stage, accept
from tests.composition.staging import stage as stage
from tests.fuzz_rows import play

pytestmark = pytest.mark.one_server
HUGE = "9" * 400


async def test_rows_that_say_nothing_stop_themselves_only(
    server, monkeypatch: pytest.MonkeyPatch
):
    clock.install(monkeypatch)
    workers.install(monkeypatch)
    first = random.randrange(10**9)
    for seed in range(first, first + 15):
        assert await play(seed, server.url) == []


async def test_a_concurrency_that_cannot_be_ends_no_sweep(stage: Stage):
    async with stage(limits=SLOTS) as run:
        await run.add_worker()
        await accept(run, "e1", "slow")
        await accept(run, "e2", "ok")
        await run.look()
        await run.ops.broker.control.call(
            "HSET", run.ops.broker.keys(STREAM).queues("a"), "slots=t1", HUGE
        )
        await run.look()
        await run.finish()
        await run.look()
        assert run.books.done == {("a", "e1"), ("a", "e2")}


@pytest.mark.parametrize("key", ["sweep", "heads"])
async def test_times_that_cannot_be_are_none(stage: Stage, key: str):
    async with stage(order_by="key") as run:
        await run.add_worker()
        await accept(run, "e1", "slow", key="k")
        await accept(run, "e2", "ok", key="k")
        await run.look()
        keys = run.ops.broker.keys(STREAM)
        rows = {
            "sweep": (keys.sweep("a"), "seen", HUGE),
            "heads": (keys.heads("a"), "k", f"held {HUGE} 0|1-0 e"),
        }
        await run.ops.broker.control.call("HSET", *rows[key])
        (reason,) = (await Why(run.ops.broker, STREAM).ask(Wanted("e2"))).reasons
        assert reason.state == {"sweep": "key-busy", "heads": "key-held"}[key]
