"""A stream's slot moves to another node while in use: no publish is refused, no event is handled twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from streams import Broker, Producer
from streams.broker.server.link import NodeLink
from streams.errors import BrokerUnavailable
from tests.conformance.balance import books
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.load import Load
from tests.process.worker_app import STREAM
from tests.servers import Server
from tests.topologies import Clustered

SLOT = key_slot(STREAM.encode())


class Move:
    """The slot of the stream on its way from its node to another one."""

    def __init__(self, cluster: Clustered) -> None:
        self.cluster = cluster
        self.source = cluster.of(STREAM)
        replicas = {cluster.replica_of(one).port for one in cluster.servers[:3]}
        self.target = next(
            one
            for one in cluster.servers
            if one is not self.source and one.port not in replicas
        )

    def begin(self) -> None:
        _ask(
            self.target,
            "CLUSTER",
            "SETSLOT",
            SLOT,
            "IMPORTING",
            self.cluster.ident(self.source),
        )
        _ask(
            self.source,
            "CLUSTER",
            "SETSLOT",
            SLOT,
            "MIGRATING",
            self.cluster.ident(self.target),
        )

    def carry(self, most: int = 1000) -> int:
        """Move some of the keys; returns how many."""
        keys = _ask(self.source, "CLUSTER", "GETKEYSINSLOT", SLOT, most)
        if keys:
            _ask(
                self.source,
                "MIGRATE",
                "127.0.0.1",
                self.target.port,
                "",
                0,
                5000,
                "KEYS",
                *keys,
            )
        return len(keys)

    def end(self) -> None:
        while self.carry():
            pass
        ident = self.cluster.ident(self.target)
        for server in (self.target, self.source, *self.cluster.servers[:3]):
            _ask(server, "CLUSTER", "SETSLOT", SLOT, "NODE", ident)


def _ask(server: Server, *command: str | int | bytes) -> list[bytes]:
    with _plain(server) as client:
        return client.execute_command(*command)


@contextmanager
def _plain(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.response_callbacks.clear()
        yield client


@pytest.fixture
def cluster(make_cluster: Callable[..., Clustered]) -> Clustered:
    return make_cluster()


async def test_a_slot_moves_there_and_back_under_load(cluster: Clustered) -> None:
    async with (
        Broker(cluster.url, timeout=3.0) as broker,
        Live(broker, lease=5.0) as live,
    ):
        async with Load(Producer(broker, STREAM)) as load:
            await eventually(lambda: len(live.done) > 50, what="the load to run")
            for _ in range(4):
                move = Move(cluster)
                await asyncio.to_thread(move.begin)
                # Some keys are here by now and some are there: what needs both is told to try again.
                await asyncio.to_thread(move.carry, 3)
                await asyncio.to_thread(move.end)
                there = len(live.done)
                await eventually(
                    lambda n=there: len(live.done) > n + 50, what="the worker to go on"
                )
                assert cluster.of(STREAM) is move.target
        await books(cluster, broker, live, load)
    assert (load.refused, load.unknown) == (0, set()), (
        "nobody who publishes has to know"
    )
    assert max(live.done.values()) == 1
    assert live.consumer.stats.lost == 0


async def test_a_move_that_stops_half_way_holds_work_up_and_loses_none(
    cluster: Clustered,
) -> None:
    async with (
        Broker(cluster.url, timeout=1.0) as broker,
        Live(broker, lease=20.0) as live,
    ):
        async with Load(Producer(broker, STREAM)) as load:
            await eventually(lambda: len(live.done) > 50, what="the load to run")
            move = Move(cluster)
            await asyncio.to_thread(move.begin)
            await asyncio.to_thread(move.carry, 3)
            # The fault: keys of one stream on two nodes for longer than anybody waits.
            await asyncio.sleep(2.0)
            await asyncio.to_thread(move.end)
            there = len(live.done)
            await eventually(
                lambda: len(live.done) > there + 50, what="the worker to go on"
            )
        await books(cluster, broker, live, load)
    assert load.unknown == set(), "what is refused is surely not stored"
    assert max(live.done.values()) == 1


async def test_a_try_is_sent_only_with_time_for_its_answer(
    cluster: Clustered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a millisecond left would be given up unanswered: refused work would be said to be of unknown fate."""
    had: list[float] = []
    trip = NodeLink.trip

    async def noted(
        link: NodeLink, commands: Any, within: float | None = None
    ) -> list[Any]:
        had.append(within or 0.0)
        return await trip(link, commands, within)

    async with Broker(cluster.url, timeout=1.0) as broker:
        producer = Producer(broker, STREAM)
        await producer.publish({}, type="t", delay=60)
        move = Move(cluster)
        await asyncio.to_thread(move.begin)
        # One of the several keys that a delayed event needs.
        await asyncio.to_thread(move.carry, 1)
        monkeypatch.setattr(NodeLink, "trip", noted)
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match="TRYAGAIN"):
                await producer.publish({}, type="t", delay=60)
        assert len(had) > 10, "it was tried again and again"
        assert min(had) > 0.2
        await asyncio.to_thread(move.end)
        await producer.publish({}, type="t", delay=60)


async def test_a_node_that_was_never_named_is_found_and_one_that_is_gone_is_not_needed(
    cluster: Clustered,
) -> None:
    """The URL names nodes to begin with; the cluster knows the others."""
    one = cluster.servers[2]
    async with Broker(f"redis+cluster://127.0.0.1:1,127.0.0.1:{one.port}") as broker:
        places = {
            stream: await Producer(broker, stream).publish(1, type="t")
            for stream in "abcdef"
        }
        assert all(receipt.entry_id for receipt in places.values())
        assert len({cluster.of(stream).port for stream in places}) == 3
        replies = await broker.control.batch(
            [("XLEN", broker.keys(stream).level(0)) for stream in places]
        )
        assert replies == [1] * 6
