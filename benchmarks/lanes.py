"""What order and fairness by key cost: ``python -m benchmarks.lanes [EVENTS]``.

A drain without them, with each, with both; what an event that waits in a lane weighs, what a worker asks while a long
backlog waits, and how soon a new tenant starts behind it.
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks.programs import BODY, KIND
from benchmarks.stage import Stage, label, stage
from streams import Broker, Consumer, ConsumerOptions, Event, Lanes, Producer

CASES = {
    "none": Lanes(),
    "fair by tenant, 10 of them": Lanes(fair_by=("tenant",)),
    "order by subject, 1,000 of them": Lanes(order_by=("subject",)),
    "both": Lanes(order_by=("subject",), fair_by=("tenant",)),
}


async def publish(broker: Broker, count: int) -> None:
    events = (
        Event(KIND, BODY, tenant=f"t{n % 10}", subject=f"s{n % 1000}")
        for n in range(count)
    )
    async for _ in Producer(broker, "s").publish_batches(events):
        pass


async def drain(place: Stage, lanes: Lanes, count: int) -> tuple[float, float, float]:
    """Events per second, worker and server microseconds per event."""

    async def nothing(event: Event) -> None:
        pass

    place.clear()
    async with Broker(place.url) as broker:
        await publish(broker, count)
        consumer = Consumer(broker, "s", "g", nothing, ConsumerOptions(lanes=lanes))
        clock, cpu, server = time.perf_counter(), time.process_time(), place.server_us()
        running = asyncio.create_task(consumer.run())
        while consumer.stats.done < count:  # noqa: ASYNC110 - nothing tells when the last one is done
            await asyncio.sleep(0.01)
        seconds, used = time.perf_counter() - clock, time.process_time() - cpu
        consumer.stop()
        await running
        return count / seconds, 1e6 * used / count, (place.server_us() - server) / count


async def wait(place: Stage, lanes: Lanes, count: int) -> dict[str, float]:
    """Everything waits behind handlers that do not end; then a new tenant comes."""
    blocked, started = asyncio.Event(), asyncio.Event()

    async def block(event: Event) -> None:
        if event.tenant == "new":
            started.set()
        else:
            await blocked.wait()

    place.clear()
    async with Broker(place.url) as broker:
        await publish(broker, count)
        stored = place.client.info("memory")["used_memory"]
        consumer = Consumer(
            broker, "s", "g", block, ConsumerOptions(concurrency=10, lanes=lanes)
        )
        clock = time.perf_counter()
        running = asyncio.create_task(consumer.run())
        key = broker.keys("s").level(0)
        while (  # noqa: ASYNC110 - on the server
            consumer.stats.fetched < 10
            or place.client.xpending(key, "g")["pending"] < count
        ):
            await asyncio.sleep(0.02)
        lined_up = time.perf_counter() - clock
        await asyncio.sleep(1)
        weight = (place.client.info("memory")["used_memory"] - stored) / count
        before, server = (
            place.client.info("stats")["total_commands_processed"],
            place.server_us(),
        )
        await asyncio.sleep(3)
        asked = (place.client.info("stats")["total_commands_processed"] - before) / 3
        server = (place.server_us() - server) / 3
        await Producer(broker, "s").publish(Event(KIND, BODY, tenant="new"))
        clock = time.perf_counter()
        blocked.set()
        await started.wait()
        late = time.perf_counter() - clock
        consumer.stop(0.0)
        await running
        return {
            "bytes": weight,
            "lined up per second": count / lined_up,
            "commands/s": asked,
            "server us/s": server,
            "ms": late * 1000,
        }


def main(count: int = 100_000) -> None:
    with stage() as place:
        print(f"{label(place)}, {count:,} events\n")
        print(
            "| lanes | events/s | worker µs/event | server µs/event |\n"
            + "| --- " * 4
            + "|"
        )
        for name, lanes in CASES.items():
            rate, worker, server = asyncio.run(drain(place, lanes, count))
            print(f"| {name} | {rate:,.0f} | {worker:.1f} | {server:.1f} |", flush=True)
        print(
            "\n| lanes | bytes each | lined up per second | commands/s | server µs/s | new tenant starts after (ms) |\n"
            + "| --- " * 6
            + "|"
        )
        for name, lanes in list(CASES.items())[1:]:
            found = asyncio.run(wait(place, lanes, count))
            print(
                "| "
                + " | ".join([name, *(f"{value:,.0f}" for value in found.values())])
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
