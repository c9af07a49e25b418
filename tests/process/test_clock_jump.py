"""The server's clock jumps by an hour, back or ahead: what waits goes on soon, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Limit,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.handlers.routes import Route, Router
from streams.policy.declaration import AS_IT_IS
from streams.policy.levels import Levels
from tests.conftest import eventually

SHIM = Path(__file__).with_name("clock_shim.c")
HOUR = 3600


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A library that moves the wall clock of the process that loads it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("moving a server's clock takes a C compiler, and there is none")
    library = tmp_path / "clock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"],
        check=True,
    )
    return library


async def moved(broker: Broker, offset: Path, seconds: int) -> None:
    """Move the clock of the server, and wait until it goes by that: it may look at it ten times a second only."""

    async def seen() -> bool:
        now = int((await broker.control.call("TIME"))[0])
        return abs(now - time.time() - seconds) < 60

    offset.write_text(str(seconds))
    try:
        await eventually(seen, seconds=5.0)
    except AssertionError:
        pytest.skip(
            "this server binary does not take its clock from the C library, so it cannot be moved"
        )


@pytest.mark.parametrize("seconds", [-HOUR, HOUR], ids=["back", "ahead"])
async def test_a_jump_of_the_clock_heals(
    make_server, binary, shim, tmp_path, monkeypatch, seconds
):
    offset = tmp_path / "offset"
    offset.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("CLOCK_OFFSET_FILE", str(offset))
    server = make_server(binary)
    monkeypatch.delenv("LD_PRELOAD")
    done: list[object] = []

    async def handle(event: Event) -> None:
        if event.data == "fails" and event.attempt == 1:
            raise RuntimeError
        done.append(event.data)

    async with Broker(server.url) as broker:
        await moved(broker, offset, 500)
        await moved(broker, offset, 0)
        levels, keys = Levels(), broker.keys("s")
        silent = Fetching(
            GroupConsumer(broker, keys, levels, "g", "silent", lease=1.0),
            Declaring(keys, levels, "g", AS_IT_IS),
        )
        await silent.ensure_group()
        await silent.announce()  # Else it would be taken for one with a lease of 30 s.
        producer = Producer(broker, "s")
        await producer.publish(Event("t", "of a dead worker", tenant="d"))
        assert len(await silent.take(1)) == 1
        reclaimer = Reclaimer(
            broker,
            "s",
            "g",
            Retry(delay=0.0),
            ReclaimerOptions(lease=1.0, interval=0.2),
        )
        lanes, limits = (
            Lanes(order_by=("subject",)),
            [Limit("tenant", rate="4/s", burst=1)],
        )
        route = Route(
            handle, retry=Retry(delay=1.5, backoff="fixed", jitter=0.0), limits=limits
        )
        consumer = Consumer(
            broker, "s", "g", Router([route]), ConsumerOptions(lease=1.0, lanes=lanes)
        )
        tasks = [
            asyncio.create_task(reclaimer.run()),
            asyncio.create_task(consumer.run()),
        ]
        await producer.publish(Event("t", "fails", subject="k"))
        await producer.publish_many(
            Event("t", n, tenant="a", subject=f"k{n}") for n in range(12)
        )
        await eventually(
            lambda: consumer.stats.retried == 1 and consumer.stats.limited >= 8
        )

        async def swept() -> bool:
            return bool(await broker.control.call("HGET", keys.sweep("g"), "seen"))

        await eventually(swept)
        await moved(broker, offset, seconds)
        await producer.publish(Event("t", "after", subject="k"))
        await eventually(
            lambda: len(done) == 15, seconds=20.0, what="everything to go on"
        )
        consumer.stop()
        reclaimer.stop()
        await asyncio.gather(*tasks)
    assert sorted(map(str, done)) == sorted(
        ["fails", "after", "of a dead worker", *map(str, range(12))]
    )
    assert done.index("fails") < done.index("after")
