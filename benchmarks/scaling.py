"""How costs grow: ``python -m benchmarks.scaling [CURVE ...]``.

Curves: processes, concurrency, payload, backlog, consumers, retries, idle. Each prints a Markdown table; what must not
grow is the cost per event with the backlog and with waiting retries, and the cost of idle workers beyond their number.
"""

from __future__ import annotations

import asyncio
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.stage import Program, Stage, label, stage
from streams import Broker, Producer
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.keys import PARKED, Keys
from streams.policy.levels import Levels

COUNT = 100_000
_FAR = 4_000_000_000_000
"""A due time (ms) that does not come."""


def processes(place: Stage) -> None:
    """Worker processes on one stream."""
    print(
        "| worker processes | events/s | against 1 | worker CPU µs/event | server CPU µs/event |\n"
        + "| --- " * 5
        + "|"
    )
    first = 0.0
    for workers in (1, 2, 4):
        result = _drain(place, COUNT, workers=workers)
        rate = COUNT / result["seconds"]
        first = first or rate
        print(
            f"| {workers} | {rate:,.0f} | {rate / first:.2f} | {_cpu(result)} | {_server(result)} |"
        )


def concurrency(place: Stage) -> None:
    """Slots of one worker, with handlers that do nothing and that wait."""
    print(
        "| concurrency | no-op events/s | 1 ms handler events/s | share of slots ÷ 1 ms |\n"
        + "| --- " * 4
        + "|"
    )
    for slots in (1, 10, 100, 1000):
        plain = COUNT / _drain(place, COUNT, concurrency=slots)["seconds"]
        count = min(COUNT, slots * 400)
        waiting = (
            count / _drain(place, count, concurrency=slots, sleep=0.001)["seconds"]
        )
        print(
            f"| {slots} | {plain:,.0f} | {waiting:,.0f} | {waiting / (slots * 1000):.2f} |"
        )


def payload(place: Stage) -> None:
    """Size of the body."""
    print("| body | publish_many /s | drain /s | MB/s drained |\n" + "| --- " * 4 + "|")
    for size, count in (
        (100, COUNT),
        (1_000, COUNT),
        (10_000, 20_000),
        (100_000, 3_000),
    ):
        place.clear()
        stream = place.name()
        published = place.run(
            "ours_publish_many", stream=stream, count=count - 1, size=size
        )
        drained = place.drain("ours_drain", Keys(stream).level(0), stream=stream)
        rate = count / drained["seconds"]
        print(
            f"| {size:,} B | {count / published['seconds']:,.0f} | {rate:,.0f} | {rate * size / 1e6:,.0f} |"
        )


def backlog(place: Stage) -> None:
    """How much waits when the worker starts."""
    print(
        "| backlog | events/s | worker CPU µs/event | server CPU µs/event | worker peak MiB |\n"
        + "| --- " * 5
        + "|"
    )
    for count in (1_000, 10_000, 100_000, 1_000_000):
        result = _drain(place, count)
        print(
            f"| {count:,} | {count / result['seconds']:,.0f} | {_cpu(result, count)} | {_server(result, count)} "
            f"| {result['peak_mib']:.0f} |"
        )


def consumers(place: Stage) -> None:
    """Consumers of one group on one stream, in one process, 100 slots shared among them."""
    print(
        "| consumers | events/s | server CPU µs/event | least and most handled by one |\n"
        + "| --- " * 4
        + "|"
    )
    for number in (1, 4, 16, 32):
        stream = _filled(place, COUNT)
        key = Keys(stream).level(0)
        slots = max(1, 100 // number)
        result = place.drain(
            "ours_drain_many", key, stream=stream, consumers=number, concurrency=slots
        )
        shares = result["handled"][0]
        print(
            f"| {number} | {COUNT / result['seconds']:,.0f} | {_server(result)} | {min(shares):,} to {max(shares):,} |"
        )


def retries(place: Stage) -> None:
    """Retries that wait while a worker is idle, and while it drains."""
    print(
        "| waiting retries | idle server µs per second | drain events/s | server CPU µs/event |\n"
        + "| --- " * 4
        + "|"
    )
    for waiting in (0, 10_000, 100_000, 1_000_000):
        place.clear()
        stream = place.name()
        asyncio.run(_park(place.url, stream, waiting))
        idle = _idle(place, stream, 1)["server_us"]
        asyncio.run(_publish(place.url, stream, COUNT))
        key = Keys(stream).level(1)
        result = place.drain("ours_drain", key, stream=stream)
        print(
            f"| {waiting:,} | {idle:,.0f} | {COUNT / result['seconds']:,.0f} | {_server(result)} |"
        )


def idle(place: Stage) -> None:
    """Workers that find nothing to do."""
    print(
        "| idle workers | commands/s | per worker | server µs per second | worker CPU µs per second, each |\n"
        + "| --- " * 5
        + "|"
    )
    for workers in (1, 50):
        place.clear()
        result = _idle(place, place.name(), workers)
        commands, used = result["commands"], 1e6 * result["cpu"]
        server = f"{result['server_us']:,.0f}"
        print(
            f"| {workers} | {commands:,.1f} | {commands / workers:.1f} | {server} | {used / workers:,.0f} |"
        )


CURVES: tuple[Callable[[Stage], None], ...] = (
    processes,
    concurrency,
    payload,
    backlog,
    consumers,
    retries,
    idle,
)


def _filled(place: Stage, count: int) -> str:
    place.clear()
    stream = place.name()
    place.run("ours_publish_many", stream=stream, count=count - 1)
    return stream


def _drain(place: Stage, count: int, workers: int = 1, **facts: Any) -> dict[str, Any]:
    stream = _filled(place, count)
    return place.drain(
        "ours_drain", Keys(stream).level(0), workers, stream=stream, **facts
    )


def _cpu(result: dict[str, Any], count: int = COUNT) -> str:
    return f"{1e6 * result['cpu'] / count:.1f}"


def _server(result: dict[str, Any], count: int = COUNT) -> str:
    return f"{result['server_us'] / count:.1f}"


def _idle(
    place: Stage, stream: str, workers: int, seconds: float = 10.0
) -> dict[str, float]:
    program = Program("ours_idle", place.url, stream=stream, workers=workers)
    program.tell()
    commands, before, clock = (
        place.client.info("stats")["total_commands_processed"],
        place.server_us(),
        time.monotonic(),
    )
    time.sleep(seconds)
    took = time.monotonic() - clock
    used = place.server_us() - before
    sent = place.client.info("stats")["total_commands_processed"] - commands - 2
    program.tell()
    return {
        "server_us": used / took,
        "commands": sent / took,
        "cpu": program.result()["cpu"] / took,
    }


async def _publish(url: str, stream: str, count: int) -> None:
    async with Broker(url) as broker:
        await Producer(broker, stream).publish_many(
            ({"n": n} for n in range(count)), type="t", priority=1
        )


async def _park(url: str, stream: str, waiting: int) -> None:
    """Retries whose time does not come."""
    async with Broker(url) as broker:
        keys = broker.keys(stream)
        await Fetching(
            GroupConsumer(broker, keys, Levels(), "g", "parker")
        ).ensure_group()
        await Producer(broker, stream).publish_many(
            ({"n": n} for n in range(waiting)), type="t"
        )
        key = keys.level(0)
        for _ in range(waiting // 1000):
            command = (
                "XREADGROUP",
                "GROUP",
                "g",
                PARKED,
                "COUNT",
                1000,
                "STREAMS",
                key,
                ">",
            )
            entries = (await broker.control.call(*command))[0][1]
            rows: list[str | int] = []
            for entry_id, _ in entries:
                rows += (_FAR, f"0|{entry_id.decode()}")
            await broker.control.call("ZADD", keys.retry("g"), *rows)


def main(names: list[str]) -> None:
    for curve in CURVES:
        if names and curve.__name__ not in names:
            continue
        with stage() as place:
            print(
                f"\n### {curve.__doc__}\n\n{label(place)}, Python {platform.python_version()}, {COUNT:,} events\n"
            )
            curve(place)


if __name__ == "__main__":
    main(sys.argv[1:])
