"""Another server becomes the primary under load. Nobody restarts anything, and the books say what that cost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import redis

from streams import Broker, Producer
from tests.conformance.balance import TimedLoad, books
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.worker_app import STREAM
from tests.servers import Server
from tests.topologies import Clustered, Watched

Several = Watched | Clustered
SECONDS_AFTER = 10.0
"""Within this time of the new primary's being there, work goes on."""


@contextlib.asynccontextmanager
async def under_load(
    several: Several, **options: Any
) -> AsyncIterator[tuple[Live, TimedLoad]]:
    """A live worker and a publishing producer on servers that fail over; ends with the books."""
    async with (
        Broker(several.url, timeout=2.0) as broker,
        Live(broker, **options) as live,
    ):
        async with TimedLoad(Producer(broker, STREAM)) as load:
            await eventually(lambda: len(live.done) > 50, what="the load to run")
            yield live, load
        await books(several, broker, live, load)


async def goes_on(live: Live, load: TimedLoad) -> None:
    """Wait until events that are published from now on are handled."""
    now = time.monotonic()
    await eventually(
        lambda: any(
            at > now and ident in live.done for ident, at in list(load.at.items())
        ),
        seconds=SECONDS_AFTER,
        what="work to go on with the new primary",
    )


async def promoted(several: Several, before: Server) -> Server:
    """Wait for the new primary."""

    def another() -> bool:
        return several.of(STREAM) is not before

    await eventually(
        lambda: asyncio.to_thread(another), seconds=30, what="another primary"
    )
    return several.of(STREAM)


async def test_the_primary_is_killed(several: Several) -> None:
    async with under_load(several) as (live, load):
        before = several.of(STREAM)
        load.may_lose(time.monotonic())
        await asyncio.to_thread(before.kill)
        await promoted(several, before)
        await goes_on(live, load)


async def test_the_primary_hangs_and_comes_back(several: Several) -> None:
    """Who waits for a server that says nothing more is told that there is another one."""
    async with under_load(several, lease=3.0) as (live, load):
        before = several.of(STREAM)
        load.may_lose(time.monotonic())
        before.signal(signal.SIGSTOP)
        await promoted(several, before)
        await goes_on(live, load)
        before.signal(signal.SIGCONT)

        def follows() -> bool:
            # It cuts its clients off when it becomes a replica.
            with contextlib.suppress(redis.ConnectionError), before.client() as client:
                return client.info("replication")["role"] == "slave"
            return False

        await eventually(
            follows, seconds=30, what="the old primary to follow the new one"
        )
        await goes_on(live, load)


async def test_a_failover_in_good_order(several: Several) -> None:
    async with under_load(several) as (live, load):
        before = several.of(STREAM)
        await asyncio.to_thread(several.failover, STREAM)
        await promoted(several, before)
        await goes_on(live, load)
