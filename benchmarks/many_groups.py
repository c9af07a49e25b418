"""What many idle groups in one process cost: ``python -m benchmarks.many_groups [GROUPS ...]``.

Each group has a stream of its own, one handler and 100 slots. The table has the shares of one core that the worker and
its server take while nothing happens, what the server is sent, what is open, and how long starting, the first event of
an idle group and stopping take. Commands that scripts call are counted like those that are sent.
"""

from __future__ import annotations

import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.stage import Stage, label, stage
from streams import Event, Pipeline, Settings
from streams.broker.keys import Keys
from streams.cli.loading import run_worker

GROUPS = (1, 100, 600, 1000)
_SETTLED = 5.0
"""Seconds after which a worker that has started counts as idle."""
_IDLE = 20.0
"""Seconds for which an idle worker is looked at: two sweeps, two notes of its figures."""
_TRIES = 40
_PATIENCE = 120.0


def worker(url: str, groups: int) -> None:
    """The measured process: tells the time at which each handler starts."""
    pipeline = Pipeline(url, settings=Settings(health=""))

    async def handler(event: Event) -> None:
        print(event.stream, time.time(), flush=True)

    for number in range(groups):
        pipeline.handler(_stream(number), group="g")(handler)
    sys.exit(run_worker(pipeline))


def _stream(number: int) -> str:
    return f"s{number}"


def measured(place: Stage, groups: int) -> list[str]:
    """One row of the table."""
    place.clear()
    began = time.monotonic()
    command = (
        sys.executable,
        "-m",
        "benchmarks.many_groups",
        "--worker",
        place.url,
        str(groups),
    )
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        ready = _until_all_are_there(place, groups) - began
        time.sleep(_SETTLED)
        idle = _while_idle(place, process.pid)
        latency = _first_events(place, process, groups)
        stopping = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)
        stop = time.monotonic() - stopping
    finally:
        process.kill()
        process.wait()
    return [
        f"{groups:,}",
        f"{ready:.1f}",
        *idle,
        latency,
        f"{stop:.1f} ({process.returncode})",
    ]


def _until_all_are_there(place: Stage, groups: int) -> float:
    """When the last group exists; the time at which it is given up if some never do."""
    waiting = [Keys(_stream(number)).level(0) for number in range(groups)]
    give_up = time.monotonic() + _PATIENCE
    while waiting and time.monotonic() < give_up:
        time.sleep(0.1)
        there = place.client.pipeline(transaction=False)
        for key in waiting[-50:]:
            there.exists(key)
        if all(there.execute()):
            del waiting[-50:]
    return time.monotonic()


def _while_idle(place: Stage, pid: int) -> list[str]:
    """Shares of a core, commands per second, threads, connections and memory of an idle worker."""
    commands, server, cpu, clock = (
        _sent(place),
        place.server_us(),
        _cpu(pid),
        time.monotonic(),
    )
    time.sleep(_IDLE)
    took = time.monotonic() - clock
    cpu, server, commands = (
        _cpu(pid) - cpu,
        place.server_us() - server,
        _sent(place) - commands - 4,
    )
    clients = place.client.info("clients")["connected_clients"] - 1
    status = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    shares = f"{cpu / took:.1%}", f"{server / 1e6 / took:.1%}"
    memory = f"{int(status['VmRSS'].split()[0]) / 1024:.0f}"
    return [
        *shares,
        f"{commands / took:,.0f}",
        status["Threads"].strip(),
        str(clients),
        memory,
    ]


def _sent(place: Stage) -> int:
    return int(place.client.info("stats")["total_commands_processed"])


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _first_events(place: Stage, process: subprocess.Popen[str], groups: int) -> str:
    """Milliseconds from publishing on an idle group's stream to the start of its handler: median and worst."""
    assert process.stdout is not None
    chosen = random.Random(7).choices(range(groups), k=_TRIES)
    took: list[float] = []
    for number in chosen:
        time.sleep(0.05)
        before = time.time()
        place.client.xadd(Keys(_stream(number)).level(0), {"type": "t", "data": "1"})
        took.append(float(process.stdout.readline().split()[1]) - before)
    return f"{1000 * statistics.median(took):.1f}, {1000 * max(took):.1f}"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--worker"]:
        worker(arguments[1], int(arguments[2]))
    columns = (
        "groups", "ready after s", "worker's share of a core", "server's share", "commands/s", "threads", "connections",
        "MiB", "first event ms (median, worst)", "stopped after s (exit code)",
    )  # fmt: skip
    with stage() as place:
        print(
            f"\n{label(place)}, Python {platform.python_version()}, {os.cpu_count()} cores\n"
        )
        print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
        for groups in map(int, arguments) if arguments else GROUPS:
            print(f"| {' | '.join(measured(place, groups))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
