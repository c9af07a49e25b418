"""What the blocking form costs: ``python benchmarks/blocking.py [N] [rounds]``.

``publish_many`` of a generator by ``streams.Pipeline`` and by ``streams.sync``, in turn, on one server; then one
``publish`` after the other, alone and from 16 threads (or tasks) at once.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from streams import Pipeline, sync

BODY = {
    "phone": "5511999999999",
    "message": "x" * 160,
    "tenant_id": 1,
    "instance_id": 1,
}
WORKERS = 16


def events(count: int) -> Any:
    return (BODY for _ in range(count))


def many(pipeline: sync.Pipeline, count: int) -> None:
    pipeline.publish_many("orders", events(count), type="t")


def singly(pipeline: sync.Pipeline, count: int) -> None:
    for body in events(count // 20):
        pipeline.publish("orders", body, type="t")


def at_once(pipeline: sync.Pipeline, count: int) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda _: singly(pipeline, count // WORKERS), range(WORKERS)))


async def many_awaited(pipeline: Pipeline, count: int) -> None:
    await pipeline.publish_many("orders", events(count), type="t")


async def singly_awaited(pipeline: Pipeline, count: int) -> None:
    for body in events(count // 20):
        await pipeline.publish("orders", body, type="t")


async def at_once_awaited(pipeline: Pipeline, count: int) -> None:
    await asyncio.gather(
        *(singly_awaited(pipeline, count // WORKERS) for _ in range(WORKERS))
    )


def seconds(function: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def main(count: int, rounds: int) -> None:
    cases = [
        ("publish_many", count, many, many_awaited),
        ("publish, one caller", count // 20, singly, singly_awaited),
        (f"publish, {WORKERS} callers", count // 20, at_once, at_once_awaited),
    ]
    with (
        sync.Pipeline("memory://bench-blocking") as pipeline,
        asyncio.Runner() as runner,
    ):
        other = pipeline.asynchronous
        runner.run(other.__aenter__())
        for name, events_of_case, blocking, awaited in cases:
            rates: tuple[list[float], list[float]] = [], []
            for _ in range(rounds):
                rates[0].append(
                    events_of_case
                    / seconds(lambda run=awaited: runner.run(run(other, count)))
                )
                rates[1].append(events_of_case / seconds(blocking, pipeline, count))
                runner.run(other.broker.control.call("FLUSHALL"))
            ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
            a, b = map(statistics.median, rates)
            print(
                f"{name:<22}: streams {a:9,.0f}/s, streams.sync {b:9,.0f}/s, ratio {ratio:.2f}"
            )
        runner.run(other.__aexit__())


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]) if len(sys.argv) > 2 else (50_000, 5))
