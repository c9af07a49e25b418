"""Metrics as Prometheus scrapes them: of a worker, of a supervisor with several, and of the dashboard."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams import Broker, Pipeline, Settings
from streams.dashboard import (
    Accounts,
    Dashboard,
    DashboardOptions,
    Role,
    Token,
    Tokens,
    new_token,
)
from streams.health.exposition import merged
from tests.conftest import eventually
from tests.dashboard.board import ACCOUNTS, trouble
from tests.servers import clean_environment
from tests.whatsapp.servers import serving

SHOP = """
from streams import Event, Pipeline

pipeline = Pipeline.from_env()

@pipeline.handler("orders", group="billing", concurrency=2)
async def work(event: Event) -> None:
    pass
"""


def samples(text: str) -> dict[str, float]:
    """Sums by name of sample, over all labels; the text has to be one that Prometheus reads."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one", "two"])
async def test_a_worker_is_scraped_where_its_health_is(
    make_server, binary, tmp_path: Path, processes
):
    server = make_server(binary)
    (tmp_path / "shop.py").write_text(SHOP)
    environment = clean_environment() | {
        "STREAMS_URL": server.url,
        "STREAMS_TELEMETRY": "prometheus",
    }
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams", "worker", "shop:pipeline", "--health", "127.0.0.1:0", *processes),
        stderr=subprocess.PIPE, cwd=tmp_path, env=environment,
    )  # fmt: skip
    try:
        assert worker.stderr is not None
        address = ""
        while not address:
            line = (await asyncio.wait_for(worker.stderr.readline(), 30)).decode()
            found = re.search(r"health is served.*address=(127\.0\.0\.1:\d+)", line)
            address = found[1] if found else ""
        reading = asyncio.create_task(worker.stderr.read())
        async with (
            Pipeline(server.url) as pipeline,
            httpx.AsyncClient(timeout=10) as client,
        ):
            await pipeline.publish_many("orders", range(20), type="t")
            await pipeline.publish("orders", 1, type="t", delay=3600.0)
            url = f"http://{address}/metrics"

            async def counted() -> bool:
                reply = await client.get(url)
                return (
                    reply.status_code == 200
                    and samples(reply.text).get("streams_settled_total") == 20
                )

            await eventually(counted, seconds=30, what="the events to be counted")
            reply = await client.get(url)
            assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
            found = samples(reply.text)
            assert found["messaging_client_consumed_messages_total"] == 20
            assert found["messaging_process_duration_seconds_count"] == 20
            many = 2 if processes else 1

            async def all_up() -> bool:
                found = samples((await client.get(url)).text)
                return (
                    found["streams_connection_up"]
                    == found["streams_backlog_scheduled"]
                    == many
                )

            await eventually(all_up, what="every process to tell what waits")
            reply = await client.get(url)
            if processes:
                assert len(set(re.findall(r'process="([^"]+)"', reply.text))) == 2
            assert (await client.get(f"http://{address}/nothing")).status_code == 404
            server.kill()

            async def down() -> bool:
                return (
                    samples((await client.get(url)).text).get("streams_connection_up")
                    == 0
                )

            await eventually(down, seconds=30, what="the connection to be down")
            server.start()

            async def up() -> bool:
                return (
                    samples((await client.get(url)).text)["streams_connection_up"] > 0
                )

            await eventually(up, seconds=30, what="it to be up again")
        worker.terminate()
        await asyncio.wait_for(worker.wait(), 30)
        await reading
    finally:
        if worker.returncode is None:
            worker.kill()


async def test_the_dashboard_is_scraped_with_a_token(make_server, binary):
    server = make_server(binary)
    await trouble(server, "streams", ["one", "two"])
    token, hashed = new_token()
    options = DashboardOptions(
        Accounts(ACCOUNTS), Tokens({hashed: Token("prometheus", Role.VIEWER)})
    )
    app = Dashboard(Pipeline(settings=Settings(url=server.url)), options).app
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        assert (await client.get("/metrics")).status_code == 401
        reply = await client.get(
            "/metrics", headers={"Authorization": f"Bearer {token}"}
        )
        assert reply.status_code == 200
        found = samples(reply.text)
        assert found["streams_backlog_dead_letters"] == 4
        async with Broker(server.url) as broker:
            before = (await broker.control.call("INFO", "stats")).decode()
            for _ in range(10):
                await client.get(
                    "/metrics", headers={"Authorization": f"Bearer {token}"}
                )
            after = (await broker.control.call("INFO", "stats")).decode()
        took = [
            int(text.split("total_commands_processed:")[1].split()[0])
            for text in (before, after)
        ]
        # Ten scrapes are a look or two, of about 60 commands.
        assert took[1] - took[0] <= 200


def test_metrics_of_processes_stand_together():
    one = b'# HELP a_total A.\n# TYPE a_total counter\na_total{x="1"} 1.0\n# HELP b B.\n# TYPE b gauge\nb 2.0\n'
    two = b'# HELP a_total A.\n# TYPE a_total counter\na_total{x="1"} 3.0\n'
    text = merged({"1": one, "2": two}).decode()
    assert text.splitlines() == [
        "# HELP a_total A.", "# TYPE a_total counter",
        'a_total{process="1",x="1"} 1.0', 'a_total{process="2",x="1"} 3.0',
        "# HELP b B.", "# TYPE b gauge", 'b{process="1"} 2.0',
    ]  # fmt: skip
    assert samples(text) == {"a_total": 4.0, "b": 2.0}
    assert merged({"1": b""}) == b""
