"""Order and fairness with real workers that are killed, stopped for longer than their lease, and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

from streams import Broker, Event, Producer
from tests import terminal
from tests.conftest import eventually
from tests.servers import whole_lines

APP = """
import asyncio, os, random, time
from streams import Event, Pipeline, Retry

pipeline = Pipeline.from_env()
log = os.open(os.environ["TEST_LOG"], os.O_WRONLY | os.O_APPEND)

def note(what, event):
    os.write(log, f"{what} {time.monotonic()} {os.getpid()} {event.subject} {event.data}\\n".encode())

@pipeline.handler("s", group="g", lease=1.0, concurrency=10, retry=Retry(max_retries=30, delay=0.05, jitter=0.0),
                  order_by="subject", fair_by="tenant")
async def handle(event: Event) -> None:
    note("start", event)
    await asyncio.sleep(random.random() * 0.02)
    if random.random() < 0.1:
        raise RuntimeError("one in ten")
    note("end", event)
"""
KEYS, EACH = 12, 40


async def test_order_holds_through_kills_and_stops(
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

    def ended() -> int:
        return len({(key, data) for what, _, _, key, data in rows() if what == "end"})

    workers = [worker(), worker(), worker()]
    gone: dict[str, float] = {}
    total = KEYS * EACH
    try:
        async with Broker(server.url) as broker:
            await Producer(broker, "s").publish_many(
                Event("t", n, subject=f"k{key}", tenant=f"t{key % 3}")
                for n in range(EACH)
                for key in range(KEYS)
            )
            await eventually(lambda: ended() >= total * 0.15, seconds=60)
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait(10)
            gone[str(workers[0].pid)] = time.monotonic()
            workers.append(worker())
            await eventually(lambda: ended() >= total * 0.4, seconds=60)
            workers[1].send_signal(signal.SIGSTOP)
            gone[str(workers[1].pid)] = time.monotonic()
            await eventually(lambda: ended() >= total * 0.7, seconds=60)
            # Longer than its lease: what it held is with others now.
            await asyncio.sleep(1.5)
            workers[1].send_signal(signal.SIGCONT)
            await eventually(
                lambda: ended() == total, seconds=60, what="every event to end"
            )

            async def quiet() -> bool:
                found = await broker.control.call("KEYS", "streams:{s}:g:*")
                kinds = {
                    name.rpartition(b":g:")[2].partition(b":")[0] for name in found
                }
                return kinds <= {
                    b"rules",
                    b"sweep",
                    b"minute",
                    b"hour",
                    b"workers",
                    b"leases",
                }

            await eventually(quiet, what="the lanes' state to be gone")
    finally:
        for running in workers:
            running.send_signal(signal.SIGCONT)
            running.terminate()
        for running in workers:
            running.wait(30)
    check(rows(), gone)


def check(rows: list[list[str]], gone: dict[str, float]) -> None:
    """Compare what the workers wrote down with the promise, as far as they were alive to keep it."""
    ends: defaultdict[str, list[int]] = defaultdict(list)
    for what, at, pid, key, data in rows:
        if what == "end":
            # A worker that was stopped may end what it had begun, once it goes on: its lease is lost by then.
            late = pid in gone and float(at) > gone[pid]
            if not (late and int(data) in ends[key]):
                ends[key].append(int(data))
    for key, found in ends.items():
        firsts = list(dict.fromkeys(found))
        assert firsts == sorted(firsts), f"{key} ended as {found}"
    started: defaultdict[str, list[tuple[int, str, float]]] = defaultdict(list)
    done: defaultdict[tuple[str, int], float] = defaultdict(lambda: float("inf"))
    for what, at, pid, key, data in rows:
        if what == "start":
            started[key].append((int(data), pid, float(at)))
        else:
            done[key, int(data)] = min(done[key, int(data)], float(at))
    for key, found in started.items():
        for number, _, at in found:
            if number:
                assert done[key, number - 1] <= at, (
                    f"{key}: {number} started before {number - 1} was done"
                )
    doubles = Counter(
        (key, data)
        for what, _, pid, key, data in rows
        if what == "end" and pid not in gone
    )
    assert max(doubles.values()) == 1, (
        "an event was done twice by workers that were alive all the time"
    )
