"""Faults of the server itself, and a worker that is never restarted. The books balance afterwards."""

from __future__ import annotations

import asyncio
import signal

import pytest

from streams import Broker, OutOfMemory, Producer
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.load import Load, MakeServer, check_books, dead, drained, under_load
from tests.process.worker_app import GROUP, LEVELS, STREAM
from tests.servers import BINARIES

# The whole server


async def test_server_killed_and_restarted_with_aof(
    make_server: MakeServer, binary: str
) -> None:
    server = make_server(binary, aof=True)
    async with under_load(server) as (live, load, _):
        for _ in range(2):
            before = len(live.done)
            await asyncio.to_thread(server.kill)
            await eventually(lambda: load.refused > 0, what="a publish to be refused")
            await asyncio.to_thread(server.start)
            await eventually(
                lambda n=before: len(live.done) > n + 20, what="the worker to go on"
            )
    assert live.consumer.stats.dead > 0
    assert live.consumer.stats.retried > 0


async def test_server_frozen_for_two_seconds(make_server: MakeServer) -> None:
    # One kind: the server is not asked anything while it stands still.
    server = make_server(BINARIES[0])
    async with under_load(server, lease=1.0) as (live, load, _):
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(2.0)
        server.signal(signal.SIGCONT)
    assert load.unknown == set(), "two seconds are within the timeout"
    assert max(live.done.values()) == 1


async def test_server_frozen_for_longer_than_the_timeout(
    make_server: MakeServer,
) -> None:
    server = make_server(BINARIES[0])
    async with (
        Broker(server.url, timeout=0.5) as broker,
        Live(broker, lease=1.0) as live,
        Load(Producer(broker, STREAM)) as load,
    ):
        await eventually(lambda: len(live.done) > 50)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        server.signal(signal.SIGCONT)
        there = len(live.done)
        await eventually(lambda: len(live.done) > there + 50)
        load._stopping = True
        await load._task
        assert load.unknown, "the publish under way must not claim to know"
        await drained(server, broker)
        check_books(server, broker, live, load.stored, load.unknown)


async def test_script_flush_under_load(make_server: MakeServer, binary: str) -> None:
    server = make_server(binary)
    async with under_load(server) as (live, load, _):
        with server.client() as client:
            for _ in range(400):
                client.script_flush()
                await asyncio.sleep(0.001)
    assert (load.refused, load.unknown) == (0, set())
    assert live.consumer.stats.lost == 0


async def test_client_kill_under_load(make_server: MakeServer) -> None:
    # One kind: a closed connection looks the same from either.
    server = make_server(BINARIES[0])
    async with under_load(server) as (_, _, _):
        with server.client() as client:
            for _ in range(15):
                client.execute_command(
                    "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"
                )
                await asyncio.sleep(0.06)


async def test_too_few_replicas(make_server: MakeServer) -> None:
    # One kind: both refuse with the same word.
    server = make_server(BINARIES[0])
    async with under_load(server) as (live, load, _):
        with server.client() as client:
            client.config_set("min-replicas-to-write", "1")
            await eventually(lambda: load.refused > 0, what="a publish to be refused")
            client.config_set("min-replicas-to-write", "0")
    assert load.unknown == set(), "a refusal is a certain answer"
    assert live.consumer.stats.lost == 0


# No memory


async def test_maxmemory_reached(make_server: MakeServer, binary: str) -> None:
    server = make_server(
        binary, "--maxmemory", "12mb", "--maxmemory-policy", "noeviction"
    )
    async with Broker(server.url) as broker:
        producer = Producer(broker, STREAM)
        stored: list[str] = []
        body = "x" * 20_000

        async def fill() -> None:
            for n in range(2000):
                order = {
                    "fails": 1 if n % 10 == 1 else 0,
                    "reject": n % 10 == 2,
                    "body": body if n >= 50 else "",
                }
                stored.append(
                    (await producer.publish(order, type="job", id=f"m{n}")).event_id
                )

        with pytest.raises(OutOfMemory):
            await fill()
        assert len(stored) > 60
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
            lengths = client.xlen(broker.keys(STREAM).level(0))
            assert lengths == len(stored), "the refused event must not be stored"
            with pytest.raises(OutOfMemory):
                await producer.publish({}, type="job", delay=1.0)
            with pytest.raises(OutOfMemory):
                await producer.publish({}, type="job", dedup_id="d")
            with pytest.raises(OutOfMemory):
                await producer.publish_many([{}] * 10, type="job")
            # A worker that starts only now must be able to drain the backlog. Its group is there from before.
            client.config_set("maxmemory", "0")
            for level in LEVELS:
                client.xgroup_create(
                    broker.keys(STREAM).level(level), GROUP, "0", mkstream=True
                )
            client.config_set("maxmemory", "1mb")
        async with Live(broker) as live:
            # All the while over the limit: acks, retries and dead letters are what frees memory.
            await drained(server, broker)
            check_books(server, broker, live, set(stored))
            assert live.consumer.stats.retried == sum(
                1 for n in range(len(stored)) if n % 10 == 1
            )
            assert len(dead(server, broker)) == sum(
                1 for n in range(len(stored)) if n % 10 == 2
            )
            with server.client() as client:
                client.config_set("maxmemory", "12mb")
            later = await producer.publish({}, type="job")
            await eventually(lambda: live.done[later.event_id] == 1)
