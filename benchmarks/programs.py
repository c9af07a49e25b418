"""The measured programs, each in a process of its own: ``python -m benchmarks.programs NAME URL JSON``.

A program prepares itself, prints ``ready``, waits for a line on standard input, works, and prints one JSON line. Those
called ``raw`` are the client library and nothing else: the limit that ours are compared with.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import redis.asyncio

from streams import Broker, Consumer, ConsumerOptions, Event, Pipeline, Settings
from streams.broker.server.link import NodeLink
from streams.sync import Pipeline as SyncPipeline

BODY = {
    "phone": "5511999999999",
    "message": "x" * 160,
    "tenant_id": 1,
    "instance_id": 1,
}
KIND = "message.queued"
READ = 500
Facts = dict[str, Any]

programs: dict[str, Callable[[str, Facts], Coroutine[Any, Any, Facts]]] = {}


def program(
    function: Callable[[str, Facts], Coroutine[Any, Any, Facts]],
) -> Callable[..., Any]:
    programs[function.__name__] = function
    return function


async def started() -> None:
    """Say that the preparations are done, and wait for the word to begin."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def stopped() -> None:
    await asyncio.to_thread(sys.stdin.readline)


def body(size: int = 0) -> dict[str, Any]:
    return {**BODY, "message": "x" * size} if size else BODY


@program
async def raw_drain(url: str, facts: Facts) -> Facts:
    """Read 500 entries, acknowledge and delete them in two commands, again; no handler."""
    client = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
    key = facts["key"]
    await client.ping()
    await started()
    cpu = time.process_time()
    while entries := await client.xreadgroup(
        "g", f"c{facts.get('n', 0)}", {key: ">"}, count=READ
    ):
        ids = [entry_id for entry_id, _ in entries[0][1]]
        await client.xack(key, "g", *ids)
        await client.xdel(key, *ids)
    used = time.process_time() - cpu
    await stopped()
    await client.aclose()
    return {"cpu": used}


@program
async def ours_drain(url: str, facts: Facts) -> Facts:
    """A whole worker with its defaults; the handler does nothing, or awaits ``sleep`` seconds."""
    pipeline = Pipeline(settings=Settings(url=url, log_level="error"))
    pause = facts.get("sleep")
    done = 0
    commands = _count_commands()

    async def nothing(event: Event) -> None:
        nonlocal done
        done += 1

    async def wait(event: Event) -> None:
        nonlocal done
        await asyncio.sleep(pause)
        done += 1

    pipeline.handler(
        facts["stream"], group="g", concurrency=facts.get("concurrency", 100)
    )(nothing if pause is None else wait)
    await started()
    cpu = time.process_time()
    running = asyncio.create_task(pipeline.run())
    await stopped()
    used = time.process_time() - cpu
    pipeline.stop()
    await running
    return {"cpu": used, "handled": done, "commands": commands[0], "trips": commands[1]}


@program
async def ours_drain_many(url: str, facts: Facts) -> Facts:
    """``consumers`` consumers of one group in this process, each with ``concurrency`` slots."""
    async with Broker(url) as broker:
        options = ConsumerOptions(concurrency=facts["concurrency"])

        async def nothing(event: Event) -> None:
            pass

        consumers = [
            Consumer(
                broker,
                facts["stream"],
                "g",
                nothing,
                dataclasses.replace(options, name=f"c{n}"),
            )
            for n in range(facts["consumers"])
        ]
        await started()
        cpu = time.process_time()
        running = [asyncio.create_task(consumer.run()) for consumer in consumers]
        await stopped()
        used = time.process_time() - cpu
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*running)
        return {"cpu": used, "handled": [consumer.stats.done for consumer in consumers]}


@program
async def ours_idle(url: str, facts: Facts) -> Facts:
    """``workers`` whole workers in this process that find nothing to do for ``seconds``."""
    pipelines = [
        Pipeline(settings=Settings(url=url, log_level="error"))
        for _ in range(facts["workers"])
    ]
    for pipeline in pipelines:

        @pipeline.handler(facts["stream"], group="g")
        async def handle(event: Event) -> None:
            pass

    running = [asyncio.create_task(pipeline.run()) for pipeline in pipelines]
    await asyncio.sleep(1.0)
    await started()
    cpu = time.process_time()
    await stopped()
    used = time.process_time() - cpu
    for pipeline in pipelines:
        pipeline.stop()
    await asyncio.gather(*running)
    return {"cpu": used}


@program
async def raw_publish_many(url: str, facts: Facts) -> Facts:
    """Pipelines of 500 XADD."""
    client = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
    await client.ping()
    await started()
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(facts["count"] // READ):
        pipe = client.pipeline(transaction=False)
        for _ in range(READ):
            pipe.xadd(facts["key"], {"type": KIND, "data": orjson.dumps(BODY)})
        await pipe.execute()
    return await _over(client, clock, cpu)


@program
async def ours_publish_many(url: str, facts: Facts) -> Facts:
    async with Pipeline(settings=Settings(url=url)) as pipeline:
        await pipeline.publish(facts["stream"], BODY, type=KIND)
        commands = _count_commands()
        await started()
        clock, cpu = time.perf_counter(), time.process_time()
        size = facts.get("size", 0)
        data = body(size)
        await pipeline.publish_many(
            facts["stream"], (data for _ in range(facts["count"])), type=KIND
        )
        result = {
            "seconds": time.perf_counter() - clock,
            "cpu": time.process_time() - cpu,
        }
    return result | {"commands": commands[0], "trips": commands[1]}


@program
async def ours_publish_many_sync(url: str, facts: Facts) -> Facts:
    """The blocking form, called where no event loop runs."""

    def publish() -> Facts:
        with SyncPipeline(settings=Settings(url=url)) as pipeline:
            pipeline.publish(facts["stream"], BODY, type=KIND)
            barrier.wait()
            clock, cpu = time.perf_counter(), time.process_time()
            pipeline.publish_many(
                facts["stream"], (BODY for _ in range(facts["count"])), type=KIND
            )
            return {
                "seconds": time.perf_counter() - clock,
                "cpu": time.process_time() - cpu,
            }

    barrier = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(publish))
    await started()
    barrier.set()
    return await running


@program
async def ours_publish_100(url: str, facts: Facts) -> Facts:
    """A hundred tasks that publish one event after the other."""
    async with Pipeline(settings=Settings(url=url)) as pipeline:
        await pipeline.publish(facts["stream"], BODY, type=KIND)
        numbers = iter(range(facts["count"]))

        async def publisher() -> None:
            for _ in numbers:
                await pipeline.publish(facts["stream"], BODY, type=KIND)

        await started()
        clock, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(publisher() for _ in range(100)))
        return {
            "seconds": time.perf_counter() - clock,
            "cpu": time.process_time() - cpu,
        }


@program
async def raw_publish_one(url: str, facts: Facts) -> Facts:
    """One awaited XADD after the other."""
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    await client.ping()
    await started()
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(facts["count"]):
        await client.xadd(facts["key"], {"type": KIND, "data": orjson.dumps(BODY)})
    return await _over(client, clock, cpu)


@program
async def ours_publish_one(url: str, facts: Facts) -> Facts:
    async with Pipeline(settings=Settings(url=url)) as pipeline:
        await pipeline.publish(facts["stream"], BODY, type=KIND)
        await started()
        clock, cpu = time.perf_counter(), time.process_time()
        for _ in range(facts["count"]):
            await pipeline.publish(facts["stream"], BODY, type=KIND)
        return {
            "seconds": time.perf_counter() - clock,
            "cpu": time.process_time() - cpu,
        }


@program
async def raw_latency(url: str, facts: Facts) -> Facts:
    """A blocked reader; the time from before XADD to the entry in hand."""
    client = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
    key, left, waits = facts["key"], facts["count"], []
    await client.ping()
    await started()
    while left:
        for _, entries in await client.xreadgroup(
            "g", "c", {key: ">"}, count=1, block=500
        ):
            now = time.perf_counter_ns()
            for entry_id, fields in entries:
                waits.append(now - orjson.loads(fields[b"data"])["at"])
                left -= 1
                await client.xack(key, "g", entry_id)
                await client.xdel(key, entry_id)
    await client.aclose()
    return {"waits": waits}


@program
async def ours_latency(url: str, facts: Facts) -> Facts:
    pipeline = Pipeline(settings=Settings(url=url, log_level="error"))
    waits: list[int] = []

    @pipeline.handler(facts["stream"], group="g")
    async def handle(event: Event) -> None:
        waits.append(time.perf_counter_ns() - event.data["at"])
        if len(waits) == facts["count"]:
            pipeline.stop()

    await started()
    await pipeline.run()
    return {"waits": waits}


@program
async def raw_send(url: str, facts: Facts) -> Facts:
    """Publish with the time of publishing in the body, paced."""
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    await client.ping()
    await started()
    for _ in range(facts["count"]):
        await asyncio.sleep(facts["pause"])
        data = orjson.dumps({**BODY, "at": time.perf_counter_ns()})
        await client.xadd(facts["key"], {"type": KIND, "data": data})
    await client.aclose()
    return {}


@program
async def ours_send(url: str, facts: Facts) -> Facts:
    async with Pipeline(settings=Settings(url=url)) as pipeline:
        await pipeline.broker.control.call("PING")
        await started()
        for _ in range(facts["count"]):
            await asyncio.sleep(facts["pause"])
            await pipeline.publish(
                facts["stream"], {**BODY, "at": time.perf_counter_ns()}, type=KIND
            )
    return {}


async def _over(client: Any, clock: float, cpu: float) -> Facts:
    result = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
    await client.aclose()
    return result


def _count_commands() -> list[int]:
    """Count what is sent from now on: commands, and round trips that carry them."""
    counts = [0, 0]
    exchange = NodeLink._exchange

    async def counted(self: NodeLink, commands: Any, deadline: Any) -> Any:
        counts[0] += len(commands)
        counts[1] += 1
        return await exchange(self, commands, deadline)

    NodeLink._exchange = counted  # type: ignore[method-assign]
    return counts


def main() -> None:
    name, url, facts = sys.argv[1:4]
    result = asyncio.run(programs[name](url, json.loads(facts)))
    result["peak_mib"] = round(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1
    )
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
