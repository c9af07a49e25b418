"""Applications of other distributions: found by entry points, and no harm to anything when broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.docs.blocks import ROOT
from tests.servers import clean_environment

BROKEN = {
    "gone": ("gone:Gone", "ModuleNotFoundError: No module named 'gone'"),
    "plain": ("json:dumps", "TypeError: json:dumps is no streams.Guest"),
    "raises": ("raises:Raises", "ValueError: not today"),
}
RAISES = """
from streams import Guest

class Raises(Guest):
    def commands(self):
        raise ValueError("not today")
    def board(self, host):
        raise ValueError("not today")
    async def examine(self, broker):
        raise ValueError("not today")
    async def on_start(self, pipeline):
        raise ValueError("not today")
    async def on_stop(self, pipeline):
        raise ValueError("not today")
"""
SHOP = """
from streams import Pipeline

pipeline = Pipeline.from_env()

@pipeline.handler("orders", group="billing")
async def handle(event):
    print("handled", flush=True)
    pipeline.stop()
"""


@pytest.fixture
def environment(server, namespace, tmp_path):
    """The environment of a machine where the example and some broken applications are installed."""
    points = {"stock": "stock:Stock"} | {
        name: point for name, (point, _) in BROKEN.items()
    }
    for name, point in points.items():
        info = tmp_path / f"{name}_app-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}-app\nVersion: 1.5\n"
        )
        (info / "entry_points.txt").write_text(
            f"[streams.applications]\n{name} = {point}\n"
        )
    (tmp_path / "raises.py").write_text(RAISES)
    (tmp_path / "shop.py").write_text(SHOP)
    places = [tmp_path, ROOT / "examples", ROOT, os.environ.get("PYTHONPATH", "")]
    return clean_environment() | {
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
        "COLUMNS": "200",
    }


def streams(environment, *words):
    return subprocess.run(
        [sys.executable, "-m", "streams", *words],
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip


def test_its_commands_stand_with_ours(environment):
    ran = streams(environment, "stock")
    assert (ran.returncode, ran.stdout) == (0, "7 in stock\n")
    ran = streams(environment, "--help")
    assert ran.returncode == 0
    assert "Say what is in stock." in ran.stdout
    assert "Publish" in ran.stdout
    for name, (_, why) in BROKEN.items():
        (line,) = [line for line in ran.stderr.splitlines() if f" {name} " in line]
        assert line.startswith(f"streams: the application {name} of {name}-app 1.5 ")
        assert why in line
        assert "all else works without it" in line


def test_a_command_of_ours_does_not_look_for_applications(environment):
    ran = streams(environment, "publish", "orders", "--type", "t", "--data", "1")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_doctor_shows_its_findings_and_what_cannot_be_asked(environment):
    ran = streams(environment, "doctor", "--json")
    assert ran.returncode > 0, ran.stderr
    found = {one["code"]: one for one in json.loads(ran.stdout)["findings"]}
    assert found["stock:low"] == {
        "code": "stock:low",
        "severity": "warning",
        "where": "stock",
        "what": "7 in stock",
        "todo": "order more",
    }
    for name, (_, why) in BROKEN.items():
        assert found[f"{name}:broken"]["severity"] == "unknown"
        assert why in found[f"{name}:broken"]["what"]


def test_a_worker_tells_it_of_its_start_and_its_end(environment, tmp_path):
    assert streams(environment, "publish", "orders", "--type", "t", "--data", "1").returncode == 0  # fmt: skip
    ran = streams(environment, "worker", str(tmp_path / "shop.py") + ":pipeline")
    assert ran.returncode == 0, ran.stderr
    said = [line for line in ran.stdout.splitlines() if line in SAID]
    assert said == SAID
    assert "raises of raises-app 1.5 cannot start with the worker" in ran.stderr


SAID = ["the stock is open", "handled", "the stock is closed"]


@contextlib.asynccontextmanager
async def dashboard(environment) -> AsyncIterator[httpx.AsyncClient]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams", "dashboard", "--port", "0",
        stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = ""
        while "the dashboard at " not in line:
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            assert line
        base = line.split(" at ")[1].split(";")[0].strip()
        async with httpx.AsyncClient(base_url=base, timeout=30) as client:
            yield client
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def test_the_dashboard_serves_its_page_and_its_operation(environment):
    async with dashboard(environment) as client:
        assert '<a href="/stock">Stock</a>' in (await client.get("/")).text
        assert (await client.get("/stock")).text == "7 in stock"
        assert (await client.get("/api/v1/stock")).json() == {"count": 7}
        document = (await client.get("/api/v1/openapi.json")).json()
        assert document["paths"]["/stock"]["get"]["operationId"] == "getStock"
        assert {"name": "stock", "description": "What there is."} in document["tags"]
        assert "stock:low" in (await client.get("/doctor")).text
