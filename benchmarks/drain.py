"""How fast one worker drains a stream, against the bare loop: ``python benchmarks/drain.py [N] [rounds]``.

Bare loop: the client library reading 500 entries per call, one XACK and one XDEL per read, no handler, nothing else.
Ours: a consumer with its defaults and a handler that does nothing. Rounds alternate on one server.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import redis.asyncio

from streams import Broker, Consumer, Producer
from streams.events.event import Event

BODY = {
    "phone": "5511999999999",
    "message": "x" * 160,
    "tenant_id": 1,
    "instance_id": 1,
}


async def fill(broker: Broker, stream: str, count: int) -> None:
    await Producer(broker, stream).publish_many(
        (BODY for _ in range(count)), type="message.queued"
    )


async def bare(client: redis.asyncio.Redis, key: str, count: int) -> float:
    """Entries per second of the bare loop."""
    await client.xgroup_create(key, "g", "0", mkstream=True)
    left, started = count, time.perf_counter()
    while left:
        entries = (await client.xreadgroup("g", "c", {key: ">"}, count=500))[0][1]
        ids = [entry_id for entry_id, _ in entries]
        await client.xack(key, "g", *ids)
        await client.xdel(key, *ids)
        left -= len(ids)
    return count / (time.perf_counter() - started)


async def ours(broker: Broker, stream: str, count: int) -> float:
    """Events per second of a consumer."""
    left, done = count, asyncio.Event()

    async def handle(event: Event) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    consumer = Consumer(broker, stream, "g", handle)
    started = time.perf_counter()
    running = asyncio.create_task(consumer.run())
    await done.wait()
    rate = count / (time.perf_counter() - started)
    consumer.stop()
    await running
    return rate


async def main(count: int, rounds: int) -> None:
    results: dict[str, list[float]] = {"bare": [], "ours": []}
    async with Broker("memory://") as broker:
        socket = broker.link()._connect  # the bare loop must use the same server
        path = (await socket()).path
        client = redis.asyncio.Redis(
            unix_socket_path=path, protocol=2, socket_timeout=None
        )
        for n in range(rounds):
            await fill(broker, f"bare{n}", count)
            results["bare"].append(
                await bare(client, broker.keys(f"bare{n}").level(0), count)
            )
            await fill(broker, f"ours{n}", count)
            results["ours"].append(await ours(broker, f"ours{n}", count))
        groups_us = (await client.info("commandstats"))["cmdstat_xinfo|groups"][
            "usec_per_call"
        ]
        await client.aclose()
    for name, rates in results.items():
        print(
            f"{name}: median {statistics.median(rates):,.0f}/s, from {min(rates):,.0f} to {max(rates):,.0f}"
        )
    ratios = [o / b for o, b in zip(results["ours"], results["bare"], strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f}")
    print(f"XINFO GROUPS, once per acknowledged batch: {groups_us} µs of the server")


if __name__ == "__main__":
    asyncio.run(
        main(*(int(a) for a in sys.argv[1:]) if len(sys.argv) > 2 else (50_000, 3))
    )
