"""The pytest plugin, found by its entry point, in a pytest of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest_plugins = ["pytester"]


@pytest.fixture
def suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A folder for a test suite, in an environment where streams is installed, whether it is or not."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "entry-points"
    ]["pytest11"]
    installed = pytester.mkdir("installed") / "streams-0.0.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: streams\nVersion: 0.0.0\n"
    )
    lines = "".join(f"{name} = {module}\n" for name, module in entries.items())
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{lines}")
    monkeypatch.setenv("PYTHONPATH", f"{installed.parent}:{ROOT}")
    pytester.makeini("[pytest]\nfilterwarnings = error\nanyio_mode = auto\n")
    return pytester


SHOP = """
from streams import Retry, Pipeline, sync

pipeline = Pipeline("redis://production.invalid/0")
blocking = sync.Pipeline("redis://production.invalid/0")

@pipeline.handler("orders", group="billing", retry=Retry(max_retries=1, delay=60, jitter=0))
async def charge(event):
    if event.data["amount"] < 0:
        raise ValueError("an amount below 0")

@blocking.handler("orders", group="billing")
def charge_blocking(event):
    pass
"""

TESTS = """
import asyncio
import pytest
from shop import blocking, pipeline

urls = set()

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_charges(streams_harness, streams_server):
    urls.add(streams_server)
    async with streams_harness(pipeline) as harness:
        await pipeline.publish("orders", {"amount": 1}, type="order.created")
        await harness.drain()
        assert len(harness.done("orders", "billing")) == 1

def test_without_any_plugin_for_asyncio(streams_harness, streams_server):
    urls.add(streams_server)
    async def body():
        async with streams_harness(pipeline, raise_errors=True) as harness:
            await pipeline.publish("orders", {"amount": -1}, type="order.created")
            with pytest.raises(ValueError):
                await harness.drain()
            assert len(harness.published("orders")) == 1  # none of the other tests'
    asyncio.run(body())

def test_blocking(streams_harness):
    with streams_harness(blocking) as harness:
        blocking.publish("orders", {"amount": 1}, type="order.created")
        assert harness.drain() == 1

async def test_own_pipeline(streams_pipeline, streams_harness):
    seen = []

    @streams_pipeline.handler("orders", group="g")
    async def handle(event):
        seen.append(event.data)

    async with streams_harness(streams_pipeline) as harness:
        await streams_pipeline.publish("orders", 1, type="t")
        await harness.drain()
    assert seen == [1]

def test_one_server_for_all():
    assert len(urls) == 1
    assert urls.pop().startswith("memory://")
"""


def test_the_fixtures_serve_a_test_suite(suite):
    suite.makepyfile(shop=SHOP, test_shop=TESTS)
    suite.runpytest_subprocess("-p", "streams.testing.plugin").assert_outcomes(passed=5)


def test_without_a_server_binary_the_fixture_fails_and_says_why(suite, monkeypatch):
    monkeypatch.setenv("STREAMS_SERVER_BINARY", "/nowhere/valkey-server")
    suite.makepyfile("def test_something(streams_server): ...")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*NoServer: no server binary for the embedded server*"]
    )


def test_who_does_not_use_it_pays_nothing(suite):
    suite.makeconftest(
        """
        import sys

        def pytest_report_header(config):
            assert config.pluginmanager.has_plugin("streams.testing.plugin")
            return f"client library loaded: {'redis' in sys.modules}"
        """
    )
    suite.makepyfile("def test_something(): ...")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["client library loaded: False"])
