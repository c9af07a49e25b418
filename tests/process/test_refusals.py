"""A server, or a proxy before it, that refuses in words that nobody knows: an outage, through which nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from streams import (
    AccessDenied,
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Lanes,
    Levels,
    Limit,
    Pipeline,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
    Scheduler,
)
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Settling
from streams.errors import CommandRefused
from streams.handlers.routes import Route
from streams.middleware import Dedupe
from streams.policy.partitions import Partitions, partition_name, partition_of
from streams.settings import Settings
from streams.worker.patience import is_waited_out
from tests.conftest import eventually
from tests.process.proxy import Proxy
from tests.server.test_doctor import FIT, acl_user

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
async def behind_a_proxy(
    server, namespace: str, handler, *, lease: float, **options
) -> AsyncIterator[tuple]:
    """The roles of a worker, which reach the server through a proxy; and a producer that reaches it directly."""
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(server))
        direct = await stack.enter_async_context(
            Broker(server.url, namespace=namespace)
        )
        broker = await stack.enter_async_context(Broker(proxy.url, namespace=namespace))
        lanes = Lanes(order_by=("subject",))
        own = ConsumerOptions(name="w", lease=lease, lanes=lanes)
        route = Route(handler, limits=[Limit("tenant", concurrency=9)], **options)
        consumer = Consumer(broker, "s", "g", route, own)
        reclaimer = Reclaimer(
            broker,
            "s",
            "g",
            options=ReclaimerOptions(lease=lease, interval=0.05, lanes=lanes),
        )
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
    async with behind_a_proxy(server, namespace, handler, lease=2.0) as (
        proxy,
        direct,
        consumer,
    ):
        producer = Producer(direct, "s")
        await producer.publish_many(
            Event("t", n, subject=f"k{n // 2}", tenant="t") for n in range(6)
        )
        await eventually(
            lambda: len(handler.started) == 3, what="the first of each key"
        )
        proxy.answer = text
        handler.go_on.set()
        await producer.publish("late", type="t", delay=0.01)
        await eventually(lambda: proxy.answered > 8, what="calls that are refused")
        assert len(handler.done) == 3
        assert consumer.stats.done == 0, "their outcomes are not written"
        proxy.answer = b""
        await eventually(lambda: len(handler.done) == 7)
        await eventually(lambda: consumer.stats.done == 7)
        await eventually(lambda: "the server is back" in caplog.text)
        assert sorted(map(str, handler.started)) == sorted(map(str, handler.done)), (
            "each started once"
        )
        assert consumer.stats.lost == 0
    said = [
        record.streams_message
        for record in caplog.records
        if "refuse" in record.streams_message
    ]
    assert (
        said.count(
            "the server refuses what it is asked, trying again until it does not"
        )
        == 1
    )
    assert said.count("the server refuses to settle") == 1
    assert len(said) == 2


async def test_who_was_refused_for_longer_than_a_lease_has_one_to_come_back(
    server, namespace
):
    handler = Handler()
    async with behind_a_proxy(server, namespace, handler, lease=1.0) as (
        proxy,
        direct,
        consumer,
    ):
        await Producer(direct, "s").publish("long", type="t")
        await eventually(lambda: handler.started == ["long"])
        proxy.answer = TEXTS[0]
        key = direct.keys("s").level(0)

        async def silent() -> bool:
            return bool(
                await direct.control.call(
                    "XPENDING", key, "g", "IDLE", 1100, "-", "+", 1
                )
            )

        await eventually(silent, what="a lease that has run out")
        proxy.answer = b""

        async def renewed() -> bool:
            return not await silent()

        await eventually(renewed, what="a lease that is renewed")
        handler.go_on.set()
        await eventually(lambda: consumer.stats.done == 1)
        assert handler.started == ["long"]
        assert consumer.stats.lost == 0


async def test_a_renewal_that_is_refused_inside_its_script_loses_nothing(
    make_server, binary, namespace
):
    server = make_server(binary, aof=True)
    async with Broker(server.url, namespace=namespace) as broker:
        keys = broker.keys("s")
        fetching = Fetching(GroupConsumer(broker, keys, Levels(), "g", "w"))
        await fetching.ensure_group()
        await Producer(broker, "s").publish({}, type="t")
        held = await fetching.take(1)
    user = acl_user(server, namespace, *FIT, "-xpending")
    async with Broker(user, namespace=namespace) as broker:
        with pytest.raises(AccessDenied):
            await Settling(GroupConsumer(broker, keys, Levels(), "g", "w")).renew(held)


async def test_a_worker_of_partitions_with_dedupe_waits_out_an_unknown_refusal(
    server, namespace
):
    handler = Handler()
    async with (
        Proxy(server) as proxy,
        Broker(server.url, namespace=namespace) as direct,
    ):
        settings = Settings(url=proxy.url, namespace=namespace)
        pipeline = Pipeline(settings=settings, middleware=[Dedupe()])
        pipeline.stream("s", partitions=Partitions(2))
        pipeline.handler("s", group="g", retry=Retry(max_retries=0))(handler)
        running = asyncio.create_task(pipeline.run())
        try:
            await eventually(
                lambda: bool(
                    pipeline._service and pipeline._service.assignments[0].serves
                )
            )
            await pipeline.publish("s", "event", type="t", key="k")
            await eventually(lambda: handler.started == ["event"])
            members = direct.keys("s").members("g")
            asked = len(proxy.seen_with(members))
            proxy.answer = TEXTS[0]
            handler.go_on.set()
            # The mark that it is handled, and the worker's word that it is there.
            await eventually(
                lambda: proxy.answered > 8 and len(proxy.seen_with(members)) > asked
            )
            proxy.answer = b""
            place = direct.keys(partition_name("s", partition_of("k", 2)))
            await eventually(lambda: is_empty(direct, place.level(0)))
            assert not running.done()
            assert await direct.control.call("EXISTS", place.dead("g")) == 0
            assert handler.started == ["event"]
        finally:
            proxy.answer = b""
            pipeline.stop()
            await running


async def is_empty(broker: Broker, stream: str) -> bool:
    return await broker.control.call("XLEN", stream) == 0


def test_a_program_waits_for_a_server_that_refuses_but_not_for_one_that_cannot():
    assert is_waited_out("server", CommandRefused("UNAVAILABLE"))
    assert not is_waited_out("never", CommandRefused("UNAVAILABLE"))
    assert not is_waited_out(
        "always", CommandRefused("ERR unknown command 'XAUTOCLAIM'")
    )
