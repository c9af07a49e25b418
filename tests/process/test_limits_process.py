"""Limits of real workers: what a killed one held comes back, and nothing starts too often or too many at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path

from streams import Broker, Event, Producer
from streams.policy.limit import Rate
from tests import terminal
from tests.conftest import eventually
from tests.server.limiting import most_at_once
from tests.servers import whole_lines

APP = """
import asyncio, os, time
from streams import Event, Limit, Pipeline, Retry

pipeline = Pipeline.from_env()
log = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND)

def note(what, event):
    os.write(log, f"{what} {time.monotonic()} {os.getpid()} {event.tenant} {event.data}\\n".encode())

@pipeline.handler("s", group="g", lease=3.0, retry=Retry(max_retries=5, delay=0.1),
                  limits=[Limit("tenant", rate="40/s", burst=4, concurrency=3)])
async def handle(event: Event) -> None:
    note("start", event)
    await asyncio.sleep(0.05)
    note("end", event)
"""
TENANTS, EACH, MOST = "abc", 80, 3


async def test_a_killed_worker_leaves_no_slot_behind_and_no_limit_is_broken(
    make_server, binary, tmp_path: Path
) -> None:
    server = make_server(binary)
    log, app = tmp_path / "log", tmp_path / "app.py"
    log.touch()
    app.write_text(APP)
    environment = os.environ | {
        "STREAMS_URL": server.url,
        "TEST_LOG": str(log),
        "STREAMS_LOG_LEVEL": "error",
    }

    def worker() -> subprocess.Popen[bytes]:
        return terminal.streams("worker", f"{app}:pipeline", env=environment)

    def rows() -> list[list[str]]:
        return [line.split() for line in whole_lines(log)]

    def ended() -> set[tuple[str, str]]:
        return {(tenant, data) for what, _, _, tenant, data in rows() if what == "end"}

    workers = [worker(), worker(), worker()]
    killed: dict[int, float] = {}
    try:
        async with Broker(server.url) as broker:
            await Producer(broker, "s").publish_many(
                Event("t", n, tenant=t) for n in range(EACH) for t in TENANTS
            )
            for victim, share in ((0, 0.2), (1, 0.5)):
                await eventually(
                    lambda share=share: len(ended()) >= share * EACH * len(TENANTS),
                    seconds=60,
                )
                workers[victim].send_signal(signal.SIGKILL)
                workers[victim].wait(10)
                killed[workers[victim].pid] = time.monotonic()
            await eventually(
                lambda: len(ended()) == EACH * len(TENANTS),
                seconds=60,
                what="every event to end",
            )

            async def idle() -> bool:
                keys = await broker.control.call("KEYS", "streams:{s}:g:*")
                return not [
                    key
                    for key in keys
                    if b":busy:" in key or b":queue:" in key or b":limit:" in key
                ]

            await eventually(idle, what="the limits' state to be gone")
    finally:
        for running in workers:
            running.terminate()
        for running in workers:
            running.wait(30)

    check(rows(), killed)


def check(rows: list[list[str]], killed: dict[int, float]) -> None:
    """Compare what the workers wrote down with the limits."""
    starts: defaultdict[str, list[float]] = defaultdict(list)
    edges: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    open_at: dict[tuple[str, str, str], float] = {}
    for what, at, pid, tenant, data in rows:
        if what == "start":
            assert (pid, tenant, data) not in open_at, (
                "an event that runs is started again"
            )
            starts[tenant].append(float(at))
            open_at[pid, tenant, data] = float(at)
        else:
            edges[tenant] += [(open_at.pop((pid, tenant, data)), 1), (float(at), -1)]
    for (pid, tenant, _), at in open_at.items():
        # What a killed worker ran ended with it.
        edges[tenant] += [(at, 1), (killed[int(pid)], -1)]
    rate = Rate.parse("40/s", 4)
    for tenant in TENANTS:
        running, most = 0, 0
        for at, change in sorted(edges[tenant]):
            running += change
            if running > MOST:
                told = [
                    row
                    for row in rows
                    if row[3] == tenant and abs(float(row[1]) - at) < 4
                ]
                raise AssertionError(
                    f"{running} of {tenant} at {at}; killed: {killed}; {told}"
                )
            most = max(most, running)
        assert most_at_once(starts[tenant], rate) <= 1 + 0.03 / rate.interval
