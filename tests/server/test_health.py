"""Readiness and liveness of a worker on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import pytest

from streams import Broker, Pauses
from streams.address import Address
from streams.consuming.lease_renewer import LeaseRenewer
from streams.handlers.plans import GroupPlan
from streams.handlers.routes import Route, Router
from streams.health import LIVE, READY, Answer, ask, served
from streams.worker.options import ServiceOptions
from streams.worker.service import Service
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn

STREAM, GROUP = "jobs", "work"


class Run:
    """A worker whose health is served."""

    def __init__(self, service: Service, address: Address) -> None:
        self.service = service
        self._address = address

    async def live(self) -> Answer:
        return await ask(self._address, LIVE)

    async def ready(self) -> Answer:
        return await ask(self._address, READY)

    async def becomes_ready(self) -> None:
        async def good() -> bool:
            return (await self.ready()).ok

        await eventually(good, what="the worker to be ready")

    async def not_ready_because(self, *words: str) -> Answer:
        """Wait for a reason; whatever it is, the worker stays alive."""
        answer = await self.ready()

        async def told() -> bool:
            nonlocal answer
            answer = await self.ready()
            return not answer.ok and all(word in answer.says for word in words)

        try:
            await eventually(told, what=f"not ready because of {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {answer.says}") from None
        assert (await self.live()).ok
        return answer


@contextlib.asynccontextmanager
async def running(broker: Broker, handler=None, concurrency: int = 4):
    async def nothing(event) -> None:
        del event

    router = Router()
    router.add(Route(handler or nothing))
    plan = GroupPlan(STREAM, GROUP, router, 2.0, concurrency)
    service = Service(broker, [plan], ServiceOptions(grace_period=0.2))
    async with served("127.0.0.1:0", broker, lambda: service.vitals) as address:
        task = asyncio.create_task(service.run())
        run = Run(service, address)
        try:
            await run.becomes_ready()
            yield run
        finally:
            service.stop()
            await asyncio.gather(task, return_exceptions=True)


async def test_off_serves_nothing(broker):
    async with served("", broker, lambda: pytest.fail("asked")) as address:
        assert address is None


async def test_alive_and_ready_with_nothing_to_do(broker):
    async with running(broker) as run:
        assert (await run.live()).says == "alive: loop, roles, leases"
        assert (
            await run.ready()
        ).says == "ready: running, loop, server, groups, reading"
        assert (
            not broker.address.startswith("redis://")
            or broker.address not in (await run.ready()).says
        )


async def test_before_the_group_exists_it_is_not_ready(broker):
    router = Router()
    service = Service(broker, [GroupPlan(STREAM, GROUP, router, 2.0, 4)])
    async with served("127.0.0.1:0", broker, lambda: service.vitals) as address:
        answer = await ask(address, READY)
    assert not answer.ok
    assert f"{STREAM}/{GROUP} level 10: the group is missing" in answer.says


async def test_a_worker_with_all_handlers_busy_is_ready(broker, monkeypatch):
    """It reads nothing, but it could: what a read would have told, the server is asked directly."""
    gate = asyncio.Event()

    async def wait(event) -> None:
        del event
        await gate.wait()

    async with running(broker, wait, concurrency=1) as run:
        from streams import Producer

        await Producer(broker, STREAM).publish({}, type="job")
        await eventually(
            lambda: run.service.vitals.consumers[0].is_full, what="a full worker"
        )
        monkeypatch.setattr("streams.health.judging.READ_BOUND", 0.2)
        await eventually(
            lambda: time.monotonic() - run.service.vitals.consumers[0].read_at > 0.4
        )
        assert (await run.ready()).ok
        gate.set()


async def test_a_deleted_group_comes_back(broker, server, namespace):
    async with running(broker) as run:
        with server.client() as client:
            client.delete(broker.keys(STREAM).level(5))
        await run.becomes_ready()


async def test_a_key_of_another_kind_is_not_ready(broker, server):
    async with running(broker) as run:
        with server.client() as client:
            key = broker.keys(STREAM).level(5)
            client.delete(key)
            client.set(key, "mine")
            await run.not_ready_because(
                f"{STREAM}/{GROUP} level 5: the key holds another kind of value"
            )
            client.delete(key)


async def test_killed_frozen_and_denied(make_server, binary, namespace):
    server = make_server(binary, aof=True)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "probe", "on", ">pw", "~*", "+@all")
    url = server.url.replace("unix://", "unix://probe:pw@")
    async with (
        Broker(url, namespace=namespace, timeout=1.0) as broker,
        running(broker) as run,
    ):
        server.signal(signal.SIGSTOP)
        before = time.monotonic()
        answer = await run.ready()
        while answer.ok:  # The last look may still count.
            answer = await run.ready()
        assert time.monotonic() - before < 3.0
        before = time.monotonic()
        await run.not_ready_because("server: ")
        assert time.monotonic() - before < 2.5
        server.signal(signal.SIGCONT)
        await run.becomes_ready()
        server.kill()
        answer = await run.not_ready_because("server: ", "cannot be reached")
        assert "pw" not in answer.says
        server.start()
        with server.client() as client:
            client.execute_command(
                "ACL", "SETUSER", "probe", "on", ">pw", "~*", "+@all"
            )
        await run.becomes_ready()


async def test_without_memory_a_worker_stays_ready_for_it_can_still_drain(
    make_server, binary, namespace
):
    server = make_server(binary)
    async with (
        Broker(server.url, namespace=namespace) as broker,
        running(broker) as run,
    ):
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
            client.config_set("maxmemory-policy", "noeviction")
            # Longer than an answer of the server is taken for fresh.
            await asyncio.sleep(1.1)
            assert (await run.ready()).ok


async def test_a_lease_keeper_that_died_is_noticed(broker, monkeypatch):
    dies = asyncio.Event()

    async def keep(self, link) -> None:
        while not dies.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(LeaseRenewer, "keep", keep)
    async with running(broker) as run:
        assert (await run.live()).ok
        dies.set()

        async def noticed() -> bool:
            return f"leases: not renewed: {STREAM}/{GROUP}" in (await run.live()).says

        await eventually(noticed, what="the missing lease keeper")


async def test_stopping_is_not_ready_but_alive(broker):
    async with running(broker) as run:
        run.service.stop()
        answer = await run.ready()
        assert not answer.ok
        assert "running: told to stop" in answer.says
        assert (await run.live()).ok


async def test_a_paused_stream_is_ready(broker, monkeypatch):
    async with running(broker) as run:
        await Pauses(broker, STREAM).pause()
        await eventually(lambda: run.service.consumers[0].paused, what="the pause")
        monkeypatch.setattr("streams.health.judging.READ_BOUND", 1.5)
        since = time.monotonic()
        await eventually(lambda: time.monotonic() - since > 2.0)
        assert (await run.ready()).ok
