"""What a page costs the server: a number of commands that does not depend on how much is stored."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from streams import Event, Pipeline, Settings
from streams.dashboard import Accounts, Dashboard, DashboardOptions
from tests.dashboard.board import trouble
from tests.servers import Server
from tests.whatsapp.servers import serving

PENDING, DEAD, STREAMS, CONSUMERS = 1_000_000, 100_000, 200, 500
PAGES = {
    "/streams/orders?group=billing": 150, "/streams/orders?group=billing&state=processing": 190,
    "/streams/orders?group=billing&state=retrying": 150, "/streams/orders?group=billing&reach=quarter": 200,
    "/streams/orders/dead?group=billing": 150, "/streams/orders/dead?group=billing&tenant=nobody": 150,
    "/streams/orders/event?id=0%7C1-1": 138, "/streams/orders/event?id=no-such-event": 100,
    "/streams/orders/consumer?group=billing&name=c7": 150, "/audit?stream=orders": 10,
    "/search?q=nothing&stream=orders": 100,
}  # fmt: skip
"""Commands that a page may cost, those of scripts included."""
FILL = """
for n = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], '*', 'type', 'works', 'id', 'p' .. n, 'data', '1', 'meta', '{}')
end
for c = 1, ARGV[2] do
  redis.call('XREADGROUP', 'GROUP', 'billing', 'c' .. c, 'COUNT', ARGV[1] / ARGV[2], 'STREAMS', KEYS[1], '>')
end
"""
BURY = """
local fields = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(fields)) end
"""


async def commands(pipeline: Pipeline) -> int:
    text = (await pipeline.broker.control.call("INFO", "stats")).decode()
    return int(text.split("total_commands_processed:")[1].split()[0])


async def cost(
    pipeline: Pipeline, client: httpx.AsyncClient, path: str
) -> tuple[int, int]:
    before = await commands(pipeline)
    reply = await client.get(path, timeout=60)
    assert reply.status_code in (200, 404), path
    return await commands(pipeline) - before - 1, len(reply.text)


@pytest.mark.timeout(300)
async def test_a_page_costs_the_same_whatever_there_is(binary):
    """With a million pending, 100,000 dead letters, 200 streams and 500 consumers."""
    server = Server(binary).start()
    try:
        settings = Settings(url=server.url, namespace="big", timeout=30.0)
        await trouble(server, "big")
        options = DashboardOptions(Accounts({}))
        async with (
            serving(Dashboard(Pipeline(settings=settings), options).app) as url,
            httpx.AsyncClient(base_url=url, headers={"Accept": "text/html"}) as client,
            Pipeline(settings=settings) as pipeline,
        ):
            small = {path: await cost(pipeline, client, path) for path in PAGES}
            call, keys = pipeline.broker.control.call, pipeline.broker.keys("orders")
            for _ in range(20):
                await call("EVAL", FILL, 1, keys.level(0), PENDING // 20, CONSUMERS)
            for _ in range(20):
                await call("EVAL", BURY, 1, keys.dead("billing"), DEAD // 20)
            assert (await call("XPENDING", keys.level(0), "billing"))[0] > PENDING
            assert await call("XLEN", keys.dead("billing")) > DEAD
            large = {path: await cost(pipeline, client, path) for path in PAGES}
            print({k: (small[k], large[k]) for k in PAGES})
            too_many = {
                path: (small[path], large[path])
                for path, most in PAGES.items()
                if large[path][0] > most
            }
            assert too_many == {}
            # No page carries more than it did: 50 rows, and the table of what is seen.
            assert {
                path: size for path, (_, size) in large.items() if size > 120_000
            } == {}

            for n in range(STREAMS):
                await pipeline.publish(f"s{n}", 1, type="t")
            started = time.monotonic()
            first = (await cost(pipeline, client, "/"))[0]
            took = time.monotonic() - started
            # Of each stream, which has one level and no group, and of the one that has more.
            assert first <= 6 * STREAMS + 60
            assert took < 20
            asked = await asyncio.gather(
                *(client.get("/", timeout=60) for _ in range(50))
            )
            assert {reply.status_code for reply in asked} == {200}
    finally:
        server.close()


async def test_fifty_dashboards_cost_no_more_than_two(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    @pipeline.handler("orders", group="billing")
    async def work(event: Event) -> None:
        return None

    await trouble(server, namespace)
    dashboard = Dashboard(
        Pipeline(settings=Settings(url=server.url, namespace=namespace))
    )
    async with serving(dashboard.app) as url, pipeline:

        async def watch(count: int) -> int:
            """Commands of some seconds in which so many live pages are open."""
            async with httpx.AsyncClient(
                base_url=url, limits=httpx.Limits(max_connections=100)
            ) as client:
                arrived = asyncio.Event()
                seen = 0

                async def look() -> None:
                    nonlocal seen
                    async with client.stream(
                        "GET", "/live/overview", headers={"Accept": "text/event-stream"}
                    ) as reply:
                        async for line in reply.aiter_lines():
                            if line.startswith("event: view"):
                                seen += 1
                                if seen == count:
                                    arrived.set()

                looking = [asyncio.create_task(look()) for _ in range(count)]
                await asyncio.wait_for(arrived.wait(), 30)
                looks, before = dashboard._pages.queries.looks, await commands(pipeline)
                while dashboard._pages.queries.looks < looks + 2:
                    await asyncio.sleep(0.01)
                found = await commands(pipeline) - before
                for task in looking:
                    task.cancel()
                await asyncio.gather(*looking, return_exceptions=True)
                return found

        two, fifty = await watch(2), await watch(50)
        assert fifty <= two + 30  # What happens to fall between.
