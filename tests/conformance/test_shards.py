"""A cluster without replicas loses a shard, for good or for a while: that is the trouble of what is on it alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from streams import BrokerUnavailable, Event, Pipeline, Settings
from streams.partitions import partition_of
from tests.conformance.conftest import OURS
from tests.conftest import eventually
from tests.servers import Server
from tests.topologies import Sharded

HOW = ("killed", "frozen")
_count = itertools.count()


@pytest.fixture(scope="module")
def sharded() -> Iterator[Sharded]:
    """One for all tests of this module; each brings back what it took away."""
    running = Sharded(OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


class Place:
    """A namespace whose index is on one shard, and names of streams on each."""

    def __init__(self, sharded: Sharded) -> None:
        self.sharded = sharded
        self.namespace = f"n{next(_count)}"
        self.home = sharded.of(f"{self.namespace}:index")
        self.others = [server for server in sharded.servers if server is not self.home]
        self.healthy = sharded.named(self.others[0])
        self.at_home = sharded.named(self.home)

    def pipeline(self) -> Pipeline:
        return Pipeline(self.sharded.url, settings=Settings(namespace=self.namespace, timeout=1.0, lease=3.0))

    def spread(self) -> tuple[str, dict[str, list[int]]]:
        """A stream whose first partition is not with the index, and its four partitions by where they are."""
        for n in range(200):
            name = f"spread{n}"
            servers = [self.sharded.of(name), *(self.sharded.of(f"{name}.p{number}") for number in range(1, 4))]
            if servers[0] in self.others and self.home in servers:
                away = [number for number, server in enumerate(servers) if server is self.home]
                return name, {"away": away, "there": [number for number in range(4) if number not in away]}
        raise AssertionError("no such name")


@pytest.fixture
def place(sharded: Sharded) -> Place:
    return Place(sharded)


@contextlib.asynccontextmanager
async def lost(place: Place, how: str, server: Server | None = None) -> AsyncIterator[None]:
    """While the shard of the index, or another one, is away."""
    shard = place.sharded.without(server or place.home, how)
    await asyncio.to_thread(shard.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(shard.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def worker(pipeline: Pipeline) -> AsyncIterator[None]:
    """A pipeline that runs."""
    running = asyncio.create_task(pipeline.run())
    try:
        yield
        assert not running.done(), "the worker went on"
    finally:
        pipeline.stop()
        await asyncio.wait_for(running, 20)


@pytest.mark.parametrize("how", HOW)
async def test_without_the_shard_of_the_index_everything_else_starts(place: Place, how: str) -> None:
    """Registration waits for the index, and nothing else does."""
    seen: set[str] = set()

    def with_handlers() -> Pipeline:
        pipeline = place.pipeline()
        for stream in (place.healthy, place.at_home):

            @pipeline.handler(stream, group="g")
            async def handle(event: Event) -> None:
                seen.add(event.id)

        return pipeline

    async with place.pipeline() as was_open:
        async with lost(place, how):
            first = await was_open.publish(place.healthy, 1, type="t")
            async with place.pipeline() as starts, worker(with_handlers()):
                second = await starts.publish(place.healthy, 2, type="t")
                await eventually(lambda: {first.event_id, second.event_id} <= seen, what="the healthy stream's events")
                with pytest.raises(BrokerUnavailable) as away:
                    await starts.publish(place.at_home, 3, type="t")
                assert str(place.home.port) in str(away.value)
        async with worker(with_handlers()):
            third = await was_open.publish(place.at_home, 4, type="t")
            await eventually(lambda: third.event_id in seen, what="the other stream's event, when its shard is back")

        async def is_listed() -> bool:
            return place.healthy in await was_open.status().streams()

        await eventually(is_listed, what="the index to be written")


@pytest.mark.parametrize("how", HOW)
async def test_dedup_ids_on_healthy_partitions_are_stored(place: Place, how: str) -> None:
    name, parts = place.spread()
    declaring = place.pipeline()
    declaring.stream(name, partitions=4)
    declaring.handler(name, group="g")(lambda _: None)
    async with worker(declaring), place.pipeline() as asks:

        async def is_spread() -> bool:
            return bool(await asks.broker.control.call("GET", asks.broker.keys(name).partitions()))

        await eventually(is_spread, what="the number of partitions to be declared")
    keys = [f"k{n}" for n in range(40) if partition_of(f"k{n}", 4) in parts["there"]]
    async with place.pipeline() as was_open:
        async with lost(place, how), asyncio.timeout(9):
            events = [Event("t", n, key=key, dedup_id=f"d-{key}") for n, key in enumerate(keys)]
            receipts = await was_open.publish_many(name, events)
        assert len(receipts) == len(keys)
        assert not any(receipt.duplicate for receipt in receipts)
