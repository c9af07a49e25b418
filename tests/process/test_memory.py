"""Memory of the server: nothing is left of what is done, and what waits costs no more than its bare fields."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import orjson
import redis

from streams import Broker, Event, Producer
from tests.conftest import eventually
from tests.process.books import unfinished
from tests.process.live import Live
from tests.process.worker_app import GROUP, LEVELS, STREAM
from tests.servers import Server

# Read at import: tests see no STREAMS_ variable.
WAITING = int(os.environ.get("STREAMS_TEST_EVENTS", "200000"))
MOST = 1.15


def order(n: int) -> dict[str, object]:
    """A small order, different each time."""
    return {
        "order": n,
        "customer": f"c-{n % 977}",
        "amount": n * 7 % 10_000,
        "lines": [{"sku": f"sku-{n % 53}"}],
    }


async def test_memory_is_back_at_its_base_when_everything_is_done(
    make_server: Callable[..., Server], binary: str
) -> None:
    server = make_server(binary)
    async with Broker(server.url) as broker, Live(broker, concurrency=100) as live:
        producer, keys = Producer(broker, STREAM), broker.keys(STREAM)

        async def through(count: int) -> int:
            """Send events through, some of which fail, some of which are delayed; returns bytes used afterwards."""
            done = live.done.total()
            for priority in LEVELS:
                events = [
                    Event(
                        "job",
                        order(n) | {"fails": n % 20 == 0},
                        priority=priority,
                        delay=0.1 * (n % 10 == 1),
                    )
                    for n in range(count // 4)
                ]
                await producer.publish_many(events)
            await eventually(lambda: live.done.total() == done + count, seconds=30)
            with server.client() as client:
                await eventually(lambda: not unfinished(client, keys))
                used[:] = [client.memory_usage(keys.level(level)) for level in LEVELS]
                client.memory_purge()
                return int(client.info("memory")["used_memory_dataset"])

        used: list[int] = []
        base, base_used = await through(400), list(used)
        after = await through(8000)
        with server.client() as client:
            assert {
                level: client.xlen(keys.level(level)) for level in LEVELS
            } == dict.fromkeys(LEVELS, 0)
            left = {key.decode() for key in client.keys("*")}
        # Streams and groups stay, empty; what is declared, who sweeps and the list of streams are small and constant.
        assert left <= {
            *map(keys.level, LEVELS),
            keys.index(),
            keys.levels(),
            keys.config(),
            keys.sweep(GROUP),
            keys.leases(GROUP),
        }
        for before, now in zip(base_used, used, strict=True):
            assert now <= before + 512, "a stream keeps memory of what is gone"
        assert after - base < 256 * 1024, f"{after - base} bytes stay of 8,000 events"


DRAINING = """
import asyncio, sys
from pathlib import Path
from streams import Pipeline, Settings

def memory(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return 1024 * int(line.split()[1])

pipeline = Pipeline(settings=Settings(url=sys.argv[1], log_level="error"))
waiting, done = int(sys.argv[2]), 0

@pipeline.handler("s", group="g")
async def nothing(event):
    global done
    done += 1
    if done in (waiting // 5, waiting):
        print(memory("VmRSS"), flush=True)
    if done == waiting:
        pipeline.stop()

asyncio.run(pipeline.run())
print(memory("VmHWM"))
"""


async def test_a_worker_needs_no_more_memory_for_a_long_backlog(
    make_server: Callable[..., Server], binary: str
) -> None:
    """Flat: after all of it as much as after a fifth; and little (a million with STREAMS_TEST_EVENTS=1000000)."""
    server = make_server(binary)
    async with Broker(server.url) as broker:
        async for _ in Producer(broker, "s").publish_batches(
            (order(n) for n in range(WAITING)), type="order.created"
        ):
            pass
    run = subprocess.run(
        [sys.executable, "-c", DRAINING, server.url, str(WAITING)],
        capture_output=True,
        text=True,
        check=True,
    )
    early, late, peak = map(int, run.stdout.split())
    assert late - early < 4 * 1024 * 1024, (
        f"{late - early} bytes more after {WAITING} events"
    )
    assert peak < 80 * 1024 * 1024


def stored_bytes(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


async def test_a_waiting_event_costs_what_its_fields_cost(
    make_server: Callable[..., Server], binary: str
) -> None:
    ours, bare = make_server(binary), make_server(binary)
    async with Broker(ours.url) as broker, Broker(bare.url) as plain:
        with ours.client() as client:
            empty = stored_bytes(client)
            receipts = 0
            async for batch in Producer(broker, STREAM).publish_batches(
                Event("order.created", order(n), id=f"id-{n}") for n in range(WAITING)
            ):
                receipts += len(batch)
            assert receipts == client.xlen(broker.keys(STREAM).level(0)) == WAITING
            cost = stored_bytes(client) - empty
            ((_, first),) = client.xrange(broker.keys(STREAM).level(0), count=1)
        assert list(first.items()) == _fields(0), (
            "the comparison must be of the same fields"
        )
        link = plain.link()
        with bare.client() as client:
            empty = stored_bytes(client)
            for start in range(0, WAITING, 1000):
                rows = range(start, min(start + 1000, WAITING))
                await link.batch(
                    [
                        ("XADD", "bare", "*", *(x for pair in _fields(n) for x in pair))
                        for n in rows
                    ]
                )
            assert client.xlen("bare") == WAITING
            reference = stored_bytes(client) - empty
    assert cost <= MOST * reference, (
        f"{cost / WAITING:.1f} bytes per event, bare {reference / WAITING:.1f}"
    )
    assert cost >= 0.5 * reference, "something else was measured"


def _fields(n: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"type", b"order.created"),
        (b"id", f"id-{n}".encode()),
        (b"data", orjson.dumps(order(n))),
    ]
