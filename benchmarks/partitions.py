"""What an event costs on a cluster, by partitions: ``python -m benchmarks.partitions [EVENTS]`` (default 60,000).

Per number of partitions, on three primaries with a replica each: one process publishes in batches with keys, then one
worker handles everything, each alone. Told per event: processor time of the publisher, of the primaries, of the worker
and of the replicas, bytes that the primaries received and sent, memory while it waits; and how the events were spread.

Where few cores are shared by all of them, events per second say little; processor time says what one core can do.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

from streams import Event, Pipeline, Settings
from streams.policy.partitions import partition_name
from tests.servers import BINARIES, server_label
from tests.topologies import Clustered

BODY = {
    "order": 12345,
    "customer": "c-1234567",
    "lines": [{"sku": "A-1", "n": 2}, {"sku": "B-2", "n": 1}],
    "total": 99,
}
NAMESPACE = "bench"


def pipeline_of(url: str, partitions: int) -> Pipeline:
    """The pipeline under test."""
    pipeline = Pipeline(
        settings=Settings(url=url, namespace=NAMESPACE, concurrency=200)
    )
    pipeline.stream("orders", partitions=partitions)
    return pipeline


async def publish(url: str, partitions: int, count: int) -> None:
    """Publish all events."""
    async with pipeline_of(url, partitions) as pipeline:
        events = (
            Event("order.created", BODY, key=f"c{n % 5000}") for n in range(count)
        )
        async for _ in pipeline.producer("orders").publish_batches(events):
            pass


async def work(url: str, partitions: int, count: int) -> None:
    """Handle that many events."""
    pipeline, left = pipeline_of(url, partitions), count

    @pipeline.handler("orders", group="g")
    async def handle(event: Event) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            pipeline.stop()

    await pipeline.run()


def apart(what: str, *arguments: Any) -> float:
    """Run a part in a process of its own; returns its processor time in seconds, without that of its start."""
    spent = []
    for count in (0, arguments[-1]):
        before = os.times()
        command = [
            sys.executable,
            "-m",
            "benchmarks.partitions",
            what,
            *map(str, arguments[:-1]),
            str(count),
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        after = os.times()
        spent.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    return spent[1] - spent[0]


class Figures:
    """What the servers say of themselves, summed."""

    def __init__(self, servers: Clustered) -> None:
        primaries, replicas = servers.servers[:3], servers.servers[3:]
        self.primaries = self._cpu(primaries)
        self.replicas = self._cpu(replicas)
        rows = [self._info(one) for one in primaries]
        self.received = sum(row["total_net_input_bytes"] for row in rows)
        self.sent = sum(row["total_net_output_bytes"] for row in rows)
        self.memory = sum(row["used_memory_dataset"] for row in rows)

    def _cpu(self, servers: list[Any]) -> float:
        return sum(
            row["used_cpu_user"] + row["used_cpu_sys"]
            for row in map(self._info, servers)
        )

    @staticmethod
    def _info(server: Any) -> dict[str, Any]:
        with server.client() as client:
            found: dict[str, Any] = client.info()
        return found


async def declare(url: str, partitions: int) -> None:
    """Let the servers know how the stream is spread, as the first worker does."""
    pipeline = pipeline_of(url, partitions)

    async def nothing(event: Event) -> None:
        del event

    pipeline.handler("orders", group="g")(nothing)
    running = asyncio.create_task(pipeline.run())
    await asyncio.sleep(1.0)
    pipeline.stop()
    await running


def lengths(servers: Clustered, partitions: int) -> list[int]:
    """Events per partition."""
    with servers.client() as client:
        names = (partition_name("orders", n) for n in range(partitions))
        return [client.xlen(f"{NAMESPACE}:{{{name}}}:0") for name in names]


def main(count: int) -> None:
    """Print a table."""
    print(server_label(BINARIES[0]))
    print("| partitions | on primaries | publisher µs | primaries µs, publish | worker µs | primaries µs, work | "
          "replicas µs | bytes in | bytes out | bytes of memory |")  # fmt: skip
    print("| --- " * 10 + "|")
    for partitions in (1, 3, 12):
        servers = Clustered(BINARIES[0])
        try:
            servers.start()
            asyncio.run(declare(servers.url, partitions))
            start = Figures(servers)
            publisher = apart("publish", servers.url, partitions, count)
            there = Figures(servers)
            stored = lengths(servers, partitions)
            names = [partition_name("orders", n) for n in range(partitions)]
            by_primary = {servers.of(name).port: 0 for name in names}
            for name, length in zip(names, stored, strict=True):
                by_primary[servers.of(name).port] += length
            worker = apart("work", servers.url, partitions, count) if count else 0.0
            end = Figures(servers)
        finally:
            servers.close()
        per = 1e6 / count
        shares = " / ".join(
            f"{length / count:.0%}"
            for length in sorted(by_primary.values(), reverse=True)
        )
        print(
            f"| {partitions} | {shares} | {publisher * per:.1f} | {(there.primaries - start.primaries) * per:.1f} | "
            f"{worker * per:.1f} | {(end.primaries - there.primaries) * per:.1f} | "
            f"{(end.replicas - start.replicas) * per:.1f} | {(end.received - start.received) / count:.0f} | "
            f"{(end.sent - start.sent) / count:.0f} | {(there.memory - start.memory) / count:.0f} |"
        )


if __name__ == "__main__":
    if len(sys.argv) > 3:
        url, partitions, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        if sys.argv[1] == "publish":
            asyncio.run(publish(url, partitions, count))
        elif count:
            asyncio.run(work(url, partitions, count))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
