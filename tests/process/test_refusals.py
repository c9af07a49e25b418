"""A server, or a proxy before it, that refuses in words that nobody knows: an outage, through which nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from streams import Broker, Consumer, ConsumerOptions, Event, Lanes, Limit, Producer, Reclaimer, ReclaimerOptions
from streams.errors import CommandRefused
from streams.handlers import Route
from streams.patience import is_waited_out
from streams.scheduler import Scheduler
from tests.conftest import eventually
from tests.process.proxy import Proxy

TEXTS = (b"UNAVAILABLE the upstream is busy", b"ERR unknown command 'EVALSHA'")


class Handler:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.started: list[object] = []
        self.done: list[object] = []

    async def __call__(self, event: Event) -> None:
        self.started.append(event.data)
        await self.go_on.wait()
        self.done.append(event.data)


@contextlib.asynccontextmanager
async def behind_a_proxy(server, namespace: str, handler, *, lease: float, **options) -> AsyncIterator[tuple]:
    """The roles of a worker, which reach the server through a proxy; and a producer that reaches it directly."""
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(server))
        direct = await stack.enter_async_context(Broker(server.url, namespace=namespace))
        broker = await stack.enter_async_context(Broker(proxy.url, namespace=namespace))
        lanes = Lanes(order_by=("subject",))
        own = ConsumerOptions(name="w", lease=lease, lanes=lanes)
        route = Route(handler, limits=[Limit("tenant", concurrency=9)], **options)
        consumer = Consumer(broker, "s", "g", route, own)
        reclaimer = Reclaimer(broker, "s", "g", options=ReclaimerOptions(lease=lease, interval=0.05, lanes=lanes))
        roles = [consumer, reclaimer, Scheduler(broker, "s")]
        running = [asyncio.create_task(role.run()) for role in roles]
        try:
            yield proxy, direct, consumer
            assert not any(task.done() for task in running), "no role has ended"
        finally:
            proxy.answer = b""
            for role in roles:
                role.stop()
            await asyncio.gather(*running)


@pytest.mark.parametrize("text", TEXTS, ids=["of a proxy", "of another server"])
async def test_an_unknown_refusal_is_an_outage(server, namespace, caplog, text):
    handler = Handler()
    caplog.set_level(logging.INFO, "streams")
    async with behind_a_proxy(server, namespace, handler, lease=2.0) as (proxy, direct, consumer):
        producer = Producer(direct, "s")
        await producer.publish_many(Event("t", n, subject=f"k{n // 2}", tenant="t") for n in range(6))
        await eventually(lambda: len(handler.started) == 3, what="the first of each key")
        proxy.answer = text
        handler.go_on.set()
        await producer.publish("late", type="t", delay=0.01)
        await eventually(lambda: proxy.answered > 8, what="calls that are refused")
        assert len(handler.done) == 3
        assert consumer.stats.done == 0, "their outcomes are not written"
        proxy.answer = b""
        await eventually(lambda: len(handler.done) == 7)
        await eventually(lambda: consumer.stats.done == 7)
        await eventually(lambda: "the server is back" in caplog.messages)
        assert sorted(map(str, handler.started)) == sorted(map(str, handler.done)), "each started once"
        assert consumer.stats.lost == 0
    said = [message for message in caplog.messages if "refuse" in message]
    assert said.count("the server refuses what it is asked, trying again until it does not") == 1
    assert said.count("the server refuses to settle") == 1
    assert len(said) == 2


async def test_who_was_refused_for_longer_than_a_lease_has_one_to_come_back(server, namespace):
    handler = Handler()
    async with behind_a_proxy(server, namespace, handler, lease=1.0) as (proxy, direct, consumer):
        await Producer(direct, "s").publish("long", type="t")
        await eventually(lambda: handler.started == ["long"])
        proxy.answer = TEXTS[0]
        key = direct.keys("s").level(0)

        async def silent() -> bool:
            return bool(await direct.control.call("XPENDING", key, "g", "IDLE", 1100, "-", "+", 1))

        await eventually(silent, what="a lease that has run out")
        proxy.answer = b""

        async def renewed() -> bool:
            return not await silent()

        await eventually(renewed, what="a lease that is renewed")
        handler.go_on.set()
        await eventually(lambda: consumer.stats.done == 1)
        assert handler.started == ["long"]
        assert consumer.stats.lost == 0


def test_a_program_waits_for_a_server_that_refuses_but_not_for_one_that_cannot():
    assert is_waited_out("at-start", CommandRefused("UNAVAILABLE"))
    assert not is_waited_out("never", CommandRefused("UNAVAILABLE"))
    assert not is_waited_out("always", CommandRefused("ERR unknown command 'XAUTOCLAIM'"))
