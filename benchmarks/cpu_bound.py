"""Handlers that compute: ``python -m benchmarks.cpu_bound [EVENTS]``.

Each row is a worker as a user starts it, ``streams worker --processes N``; the time runs from the first of EVENTS
published to the last one done. One event takes about 5 ms of CPU, in Python or in C that lets go of the interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.stage import Stage, label, stage
from streams import Settings, sync
from streams.broker.keys import Keys

KEY = Keys("cpu").level(0)
SECONDS = 0.005
WAYS = (
    ("inline", 1, 1),
    ("threaded", 1, 2),
    ("threaded", 1, 100),
    ("inline", 2, 100),
    ("inline", 2, 1),
    ("threaded", 2, 1),
)
"""How the handler is written, worker processes, concurrency."""


@contextmanager
def worker(
    place: Stage, handler: str, rounds: int, *, processes: int, concurrency: int
) -> Iterator[None]:
    environment = os.environ | {
        "STREAMS_URL": place.url,
        "STREAMS_LOG_LEVEL": "error",
        "BENCH_HANDLER": handler,
        "BENCH_ROUNDS": str(rounds),
        "BENCH_CONCURRENCY": str(concurrency),
    }
    command = [
        sys.executable,
        "-m",
        "streams",
        "worker",
        "benchmarks.cpu_app:pipeline",
        "--processes",
        str(processes),
    ]
    running = subprocess.Popen(command, env=environment)
    try:
        _wait(place, lambda: _consumers(place) >= processes)
        yield
    finally:
        running.terminate()
        running.wait(30)


def _consumers(place: Stage) -> int:
    """How many clients block for new entries: workers that are ready."""
    return sum(client["cmd"] == "xreadgroup" for client in place.client.client_list())


def _wait(place: Stage, reached: Any) -> None:
    give_up = time.monotonic() + 120
    while not reached():
        if time.monotonic() > give_up:
            raise RuntimeError("the workers did not get there")
        time.sleep(0.02)


def rounds_for(function: Any) -> int:
    """How many rounds take SECONDS here."""
    best = min(_timed(function) for _ in range(5))
    return max(1, round(1000 * SECONDS / best))


def _timed(function: Any) -> float:
    clock = time.perf_counter()
    function()
    return time.perf_counter() - clock


def main(count: int = 1000) -> None:
    os.environ |= {
        "BENCH_ROUNDS": "1000",
        "BENCH_HANDLER": "inline python",
        "BENCH_CONCURRENCY": "1",
    }
    from benchmarks import cpu_app

    rounds = {
        "python": rounds_for(cpu_app.python),
        "hashing": rounds_for(cpu_app.hashing),
    }
    with stage() as place:
        print(
            f"{label(place)}, {count} events of {1000 * SECONDS:g} ms, {os.cpu_count()} cores\n"
        )
        print(
            "| work | handler | processes | concurrency | events/s | against the first |\n"
            + "| --- " * 6
            + "|"
        )
        for work in ("python", "hashing"):
            first = 0.0
            for way, processes, slots in WAYS:
                rate = _rate(
                    place, count, f"{way} {work}", rounds[work], processes, slots
                )
                first = first or rate
                name = "`async def`" if way == "inline" else "`def`, in threads"
                print(
                    f"| {work} | {name} | {processes} | {slots} | {rate:,.0f} | {rate / first:.2f} |",
                    flush=True,
                )


def _rate(
    place: Stage,
    count: int,
    handler: str,
    rounds: int,
    processes: int,
    concurrency: int,
) -> float:
    place.clear()
    with (
        worker(place, handler, rounds, processes=processes, concurrency=concurrency),
        sync.Pipeline(settings=Settings(url=place.url)) as pipeline,
    ):
        clock = time.perf_counter()
        pipeline.publish_many("cpu", range(count), type="t")
        _wait(place, lambda: not place.client.xlen(KEY))
        return count / (time.perf_counter() - clock)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
