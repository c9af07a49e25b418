"""A program that was given no server goes on with one that keeps nothing only where a person sees that it does."""

from __future__ import annotations

import asyncio
import io
import logging
import sys

import pytest

from streams import ConfigurationError, Event, Pipeline
from streams import sync as blocking
from streams.settings import Settings
from streams.testing import Harness
from streams.worker import fallback
from tests import terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_said", [])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.streams_message
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]


async def publish(pipeline: Pipeline) -> None:
    async with pipeline:
        await pipeline.publish("orders", 1, type="t")


async def test_a_person_is_warned_once_of_what_is_lost(caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in range(2):
        pipeline = Pipeline.from_env()
        await publish(pipeline)
        await publish(pipeline.twin())
    (line,) = warnings(caplog)
    assert "no server is given (STREAMS_URL, REDIS_URL)" in line
    assert "all of it is lost when it ends" in line
    assert "STREAMS_URL=redis://HOST:6379/0" in line


async def test_without_a_terminal_it_is_refused_and_the_error_says_what_to_write(
    caplog,
):
    with pytest.raises(ConfigurationError) as caught:
        await publish(Pipeline.from_env())
    for words in (
        "no terminal",
        "STREAMS_URL=redis://HOST:6379/0",
        "STREAMS_URL=memory://",
        "embedded://PATH",
        "lost",
    ):
        assert words in str(caught.value)
    assert not warnings(caplog)


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
async def test_a_standard_error_that_is_gone_is_no_terminal(monkeypatch, stderr):
    if stderr is not None:
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(ConfigurationError, match="no terminal"):
        await publish(Pipeline.from_env())


@pytest.mark.parametrize("where", ["environment", ".env"])
async def test_in_production_it_is_refused_on_a_terminal_too(
    monkeypatch, tmp_path, where
):
    monkeypatch.setattr(sys, "stderr", Terminal())
    if where == ".env":
        (tmp_path / ".env").write_text("STREAMS_ENV=Production\n")
    else:
        monkeypatch.setenv("STREAMS_ENV", "production")
    with pytest.raises(ConfigurationError, match="STREAMS_ENV is production"):
        await publish(Pipeline.from_env())


@pytest.mark.parametrize("production", [False, True])
async def test_whoever_writes_memory_has_it_without_a_word(
    monkeypatch, caplog, production
):
    monkeypatch.setenv("STREAMS_URL", "memory://")
    if production:
        monkeypatch.setenv("STREAMS_ENV", "production")
    await publish(Pipeline.from_env())
    assert not warnings(caplog)


async def test_code_that_names_no_server_means_it(caplog):
    await publish(Pipeline())
    assert not warnings(caplog)


def test_the_blocking_form_is_the_same(monkeypatch):
    pipeline = blocking.Pipeline.from_env()
    with pytest.raises(ConfigurationError, match="STREAMS_URL=memory://"):
        pipeline.publish("orders", 1, type="t")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert pipeline.publish("orders", 1, type="t").event_id
    pipeline.close()


async def test_a_worker_is_refused_before_it_does_anything(monkeypatch):
    pipeline = Pipeline.from_env()

    @pipeline.handler("orders", group="billing")
    async def charge(event: Event) -> None:
        raise AssertionError("never")

    with pytest.raises(ConfigurationError, match="no terminal"):
        await pipeline.run()


async def test_a_test_kit_needs_no_variable():
    pipeline = Pipeline.from_env()
    seen = []

    @pipeline.handler("orders", group="billing")
    async def charge(event: Event) -> None:
        seen.append(event.data)

    async with Harness(pipeline) as harness:
        await pipeline.publish("orders", 1, type="t")
        await harness.drain()
    assert seen == [1]


async def test_a_server_that_is_set_later_counts(server):
    pipeline = Pipeline.from_env()
    pipeline.settings = Settings(url=server.url)
    await publish(pipeline)


async def test_a_notebook_is_a_person(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    await publish(Pipeline.from_env())


async def test_the_command_says_the_same_and_ends(tmp_path):
    (tmp_path / "shop.py").write_text(
        "from streams import Pipeline\npipeline = Pipeline.from_env()\n"
        "@pipeline.handler('orders', group='billing')\nasync def charge(event): ...\n"
    )
    with (tmp_path / "said").open("w") as file:
        process = terminal.streams("worker", "shop:pipeline", stderr=file)
        assert await asyncio.to_thread(process.wait, 60) == 2
    assert (
        "STREAMS_URL=memory:// if that is what you want"
        in (tmp_path / "said").read_text()
    )
