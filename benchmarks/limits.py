"""What limits cost: ``python -m benchmarks.limits [EVENTS]``.

A drain without limits, with limits that never hold anything back, and with a concurrency; then what an event that waits
weighs, and what a worker asks while it does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from benchmarks.programs import BODY, KIND
from benchmarks.stage import Stage, label, stage
from streams import Broker, Consumer, ConsumerOptions, Event, Limit, Producer
from streams.handlers.routes import Route, Router

CASES: dict[str, list[Limit]] = {
    "none": [],
    "one rate, 10 keys": [Limit("tenant", rate="10000/s", burst=1_000_000)],
    "three rates, 1,000 keys": [
        Limit("tenant", rate="10000/s", burst=1_000_000),
        Limit("subject", rate="10000/s", burst=1_000_000),
        Limit(("tenant", "subject"), rate="10000/s", burst=1_000_000),
    ],
    "a concurrency, 10 keys": [Limit("tenant", concurrency=1000)],
}


async def publish(broker: Broker, count: int) -> None:
    events = (
        Event(KIND, BODY, tenant=f"t{n % 10}", subject=f"s{n % 1000}")
        for n in range(count)
    )
    async for _ in Producer(broker, "s").publish_batches(events):
        pass


async def drain(
    place: Stage, limits: list[Limit], count: int
) -> tuple[float, float, float]:
    """Events per second, worker and server microseconds per event."""

    async def nothing(event: Event) -> None:
        pass

    place.clear()
    async with Broker(place.url) as broker:
        await publish(broker, count)
        consumer = Consumer(broker, "s", "g", Router([Route(nothing, limits=limits)]))
        clock, cpu, server = time.perf_counter(), time.process_time(), place.server_us()
        running = asyncio.create_task(consumer.run())
        while consumer.stats.done < count:  # noqa: ASYNC110 - nothing tells when the last one is done
            await asyncio.sleep(0.01)
        seconds, used = time.perf_counter() - clock, time.process_time() - cpu
        consumer.stop()
        await running
        return count / seconds, 1e6 * used / count, (place.server_us() - server) / count


async def wait(place: Stage, limit: Limit, count: int) -> dict[str, float]:
    """All but one wait for one key: bytes of each, and what is asked in three seconds."""

    async def block(event: Event) -> None:
        await asyncio.sleep(3600)

    place.clear()
    async with Broker(place.url) as broker:
        await publish(broker, count)
        stored = place.client.info("memory")["used_memory"]
        consumer = Consumer(
            broker,
            "s",
            "g",
            Router([Route(block, limits=[limit])]),
            ConsumerOptions(lease=30.0),
        )
        clock = time.perf_counter()
        running = asyncio.create_task(consumer.run())
        while place.client.zcard(broker.keys("s").retry("g")) < count - 1:  # noqa: ASYNC110 - on the server
            await asyncio.sleep(0.05)
        parked = time.perf_counter() - clock
        await asyncio.sleep(1)
        weight = (place.client.info("memory")["used_memory"] - stored) / count
        before, server = (
            place.client.info("stats")["total_commands_processed"],
            place.server_us(),
        )
        await asyncio.sleep(3)
        asked = (place.client.info("stats")["total_commands_processed"] - before) / 3
        server = (place.server_us() - server) / 3
        consumer.stop(0.0)
        await running
        return {
            "bytes": weight,
            "parked per second": count / parked,
            "commands/s": asked,
            "server us/s": server,
        }


def main(count: int = 100_000) -> None:
    with stage() as place:
        print(f"{label(place)}, {count:,} events\n")
        print(
            "| limits | events/s | worker µs/event | server µs/event |\n"
            + "| --- " * 4
            + "|"
        )
        for name, limits in CASES.items():
            rate, worker, server = asyncio.run(drain(place, limits, count))
            print(f"| {name} | {rate:,.0f} | {worker:.1f} | {server:.1f} |", flush=True)
        print(
            "\n| waiting for | bytes each | deferred per second | commands/s | server µs/s |\n"
            + "| --- " * 5
            + "|"
        )
        one_key: Any = lambda _: "all"  # noqa: E731 - a key function
        for name, limit in (
            ("a rate", Limit(one_key, rate="1/d", name="all")),
            ("a slot", Limit(one_key, concurrency=1, name="all")),
        ):
            found = asyncio.run(wait(place, limit, count))
            print(
                "| "
                + " | ".join([name, *(f"{value:,.0f}" for value in found.values())])
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
