"""What workers do is seen by minute and hour, and costs next to nothing."""

from __future__ import annotations

import asyncio

import pytest

from streams import Event, Pipeline, Settings
from streams.broker.admin.figures import HOUR, MINUTE, FigureStore
from streams.worker.heartbeat import Heartbeat
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn


async def test_figures_add_up_and_a_worker_is_there_until_it_leaves(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.worker.heartbeat.EVERY", 0.05)
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    fail = True

    @pipeline.handler("s", group="g", concurrency=3)
    async def work(event: Event) -> None:
        if event.data == 0 and fail:
            raise OSError

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as looking:
        await looking.publish_many("s", range(20), type="t", retry_delay=0.05)
        store, now = (
            FigureStore(looking.broker, looking.broker.keys("s"), "g"),
            looking.broker.clock.now,
        )

        async def figures(span: int) -> dict[str, int]:
            number = int(now() // span)
            whole: dict[str, int] = {}
            for part in await store.read(span, (number - 1, number)):
                for name, count in part.items():
                    whole[name] = whole.get(name, 0) + count
            return whole

        async def first_failures() -> bool:
            return (await figures(MINUTE)).get("retried", 0) >= 1

        await eventually(first_failures, what="a retry to be counted")
        (said,) = (await store.workers()).values()
        assert said.keys() == {
            *(
                "host",
                "pid",
                "version",
                "python",
                "since",
                "at",
                "concurrency",
                "busy",
                "done",
                "rate",
            ),
            *("levels", "lease", "free", "runs", "declared"),
        }
        assert (said["levels"], said["lease"]) == ([10, 5, 1, 0], 30.0)
        assert said["concurrency"] == 3
        fail = False

        async def all_done() -> bool:
            return (await figures(HOUR)).get("done", 0) == 20

        await eventually(all_done, what="everything to be counted")
        pipeline.stop()
        await running
        minute, hour = await figures(MINUTE), await figures(HOUR)
        assert minute == hour
        assert minute["done"] == 20
        assert minute["fetched"] == 20 + minute["retried"]
        assert await store.workers() == {}


async def test_an_outage_takes_no_figures_along(make_server, binary, namespace):
    server = make_server(binary, aof=True)
    pipeline = Pipeline(
        settings=Settings(url=server.url, namespace=namespace, timeout=0.5)
    )

    @pipeline.handler("s", group="g")
    async def work(event: Event) -> None:
        return None

    async with pipeline:
        service = pipeline.service(pipeline.plans)
        heartbeat = Heartbeat(pipeline.broker, service.consumers, "w")
        service.consumers[0].stats.done = 3
        server.kill()
        await heartbeat.record()
        service.consumers[0].stats.done = 5
        server.start()

        async def written() -> bool:
            await heartbeat.record()
            store = FigureStore(pipeline.broker, pipeline.broker.keys("s"), "g")
            number = int(pipeline.broker.clock.now() // HOUR)
            found = await store.read(HOUR, (number - 1, number))
            return sum(row.get("done", 0) for row in found) == 5

        await eventually(written, what="all five")
