"""A server that comes back on its append-only file has everything, whoever its users are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams import Broker, Event, Producer, Retry, Status
from streams.handlers.routes import Route
from tests.conftest import TOPOLOGY, eventually
from tests.server.consuming import consuming
from tests.servers import Server
from tests.topologies import Guarded


@pytest.fixture
def server(binary: str) -> Iterator[Server]:
    """A server of the test's own, to be killed; with the shipped files and users where the suite runs on them."""
    own = Guarded(binary) if TOPOLOGY == "acl" else Server(binary, aof=True, port=True)
    try:
        yield own.start()
    finally:
        own.close()


async def test_what_was_accepted_and_what_was_finished_outlive_a_kill(
    server: Server, namespace: str
) -> None:
    handled: list[object] = []

    async def work(event: Event) -> None:
        handled.append(event.data)
        if event.data == "fails":
            raise OSError("no")

    route = Route(work, retry=Retry(max_retries=3, delay=3600.0, jitter=0.0))

    async def look(broker: Broker) -> tuple[object, ...]:
        (seen,) = await Status(broker).overview()
        return seen.scheduled, [
            (row.level, row.waiting, row.retrying) for row in seen.groups[0].levels
        ]

    async with Broker(server.url, namespace=namespace) as broker:
        producer = Producer(broker, "s")
        await producer.publish_many([*range(50), "fails"], type="t")
        async with consuming(broker, route) as first:
            await eventually(lambda: len(handled) == 51 and first.stats.done == 50)
        await producer.publish_many(range(50, 100), type="t")
        await producer.publish_many([Event("t", n, delay=3600.0) for n in range(10)])
        before = await look(broker)
    server.kill()
    server.start()
    async with Broker(server.url, namespace=namespace) as broker:
        assert await look(broker) == before
        async with consuming(broker, route) as second:
            await eventually(lambda: second.stats.done == 50)
        assert handled == [*range(50), "fails", *range(50, 100)]
