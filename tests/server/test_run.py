"""How ``pipeline.run`` begins and ends where it is a task of another program, e.g. of a web app."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streams import ConfigurationError, Event, Limit, Pipeline, Settings
from streams.consuming.executor import Executor
from streams.consuming.fetcher import Fetcher
from streams.consuming.gate import Gate
from streams.middleware import Middleware, Place
from streams.sync import Pipeline as Blocking
from streams.worker.heartbeat import Heartbeat
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn


async def handle(event: Event) -> None:
    del event


@pytest.fixture
def pipeline(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    pipeline.handler("orders", group="billing")(handle)
    return pipeline


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def serves(pipeline: Pipeline) -> None:
    """Wait until a worker has handled something."""
    await pipeline.publish("orders", 1, type="t")

    async def is_done() -> bool:
        return (await pipeline.status().stream("orders")).stored == 0

    await eventually(is_done, what="a worker that serves")


class Broken(Middleware):
    """A pool that cannot be opened."""

    async def start(self, place: Place) -> None:
        del place
        raise RuntimeError("no route to the database")


# --- an end by an exception


async def test_a_worker_that_nobody_awaits_says_that_it_has_ended(pipeline, caplog):
    pipeline.middleware[:] = [Broken()]
    async with pipeline:
        worker = asyncio.create_task(pipeline.run(signals=False))
        await asyncio.wait([worker])
        (line,) = told(caplog)
    assert line.streams_message == (
        "the worker ends: the middleware Broken cannot start for orders/billing: RuntimeError: no route to the database"
    )
    assert line.error == "RuntimeError"
    assert "test_run.py" in line.error_at
    assert line.next == "it handles nothing until it is run again"
    with pytest.raises(RuntimeError):
        worker.result()


async def test_a_declaration_that_the_server_refuses_is_told(
    pipeline, server, namespace, caplog
):
    other = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    other.handler("orders", group="shipping")(handle)
    async with pipeline, other:
        first = asyncio.create_task(pipeline.run(signals=False))
        await serves(pipeline)
        second = asyncio.create_task(other.run(signals=False))
        await asyncio.wait([second], timeout=10)
        pipeline.stop()
        await first
    (line,) = told(caplog)
    assert line.streams_message == f"the worker ends: {second.exception()}"
    assert "cannot join stream" in line.getMessage()


async def test_a_pipeline_without_handlers_says_so_in_the_log(server, caplog):
    with pytest.raises(ConfigurationError):
        await Pipeline(server.url).run()
    assert [line.getMessage()[:40] for line in told(caplog)] == [
        "the worker ends: this pipeline has no ha"
    ]


async def test_an_end_by_order_or_by_cancellation_is_no_error(pipeline, caplog):
    async with pipeline:
        worker = asyncio.create_task(pipeline.run(signals=False))
        await serves(pipeline)
        worker.cancel()
        await asyncio.wait([worker])
    assert told(caplog) == []


# --- an order to stop before the beginning


async def test_a_run_that_is_stopped_before_it_begins_ends_at_once(pipeline):
    async with pipeline:
        await pipeline.publish("orders", 1, type="t")
        worker = asyncio.create_task(pipeline.run(signals=False))
        pipeline.stop()
        await asyncio.wait_for(worker, 10)
        assert (await pipeline.status().stream("orders")).stored == 1


async def test_a_run_that_is_stopped_while_it_opens_ends(pipeline):
    worker = asyncio.create_task(pipeline.run(signals=False))
    await asyncio.sleep(0)
    assert not pipeline.is_open
    pipeline.stop()
    await asyncio.wait_for(worker, 10)


async def test_an_order_to_stop_holds_for_no_later_run(pipeline):
    async with pipeline:
        pipeline.stop()
        given_up = pipeline.run(signals=False)
        pipeline.stop()
        given_up.close()
        del given_up
        worker = asyncio.create_task(pipeline.run(signals=False))
        await serves(pipeline)
        pipeline.stop()
        await worker


async def test_a_second_run_is_refused_and_the_first_goes_on(pipeline, caplog):
    async with pipeline:
        first = asyncio.create_task(pipeline.run(signals=False))
        await serves(pipeline)
        with pytest.raises(
            ConfigurationError, match=r"run already, and goes on: one run\(\) at a time"
        ):
            await pipeline.run(signals=False)
        assert len(told(caplog)) == 1
        await serves(pipeline)
        pipeline.stop()
        await asyncio.wait_for(first, 10)


def test_the_blocking_form_refuses_a_second_run_and_can_still_stop_the_first(
    server, namespace
):
    ends: list[BaseException] = []
    with Blocking(settings=Settings(url=server.url, namespace=namespace)) as pipeline:

        @pipeline.handler("orders", group="billing")
        def second(event: Event) -> None:
            del event
            try:
                pipeline.run(signals=False)
            except ConfigurationError as error:
                ends.append(error)
            pipeline.stop()

        pipeline.publish("orders", 1, type="t")
        pipeline.run(signals=False)
    assert ["one run() at a time" in str(end) for end in ends] == [True]


# --- a part that fails


class DefectError(Exception):
    """A defect of our own, or of what we use."""


@pytest.mark.parametrize("part", ["gate", "lanes", "watch"])
async def test_a_part_of_a_consumer_that_fails_ends_the_worker_and_is_told(
    pipeline, monkeypatch, caplog, part
) -> None:
    """Else it would go on without handing over slots or keys, or without timeouts, and look healthy."""
    fails = asyncio.Event()

    async def run(self, *given: object) -> None:
        await fails.wait()
        raise DefectError("a defect")

    kind, method = {
        "gate": (Gate, "run"),
        "lanes": (Fetcher, "follow"),
        "watch": (Executor, "watch"),
    }[part]
    monkeypatch.setattr(kind, method, run)
    limit = Limit("tenant", concurrency=1)
    pipeline.handler("mails", group="sending", order_by="key", limits=[limit])(handle)
    async with pipeline:
        worker = asyncio.create_task(pipeline.run(signals=False))
        await serves(pipeline)
        assert not worker.done()
        fails.set()
        await asyncio.wait([worker], timeout=20)
        assert worker.done()
    assert isinstance(worker.exception(), DefectError)
    assert [line.streams_message for line in told(caplog)] == [
        "the worker ends: DefectError: a defect"
    ]


async def test_a_recorder_that_fails_is_told_and_begins_again(
    pipeline, monkeypatch, caplog
) -> None:
    """Else the worker would look silent from then on, and nothing would say why."""
    turns: list[int] = []

    async def record(self, *, leaves: bool = False) -> None:
        turns.append(1)
        if len(turns) == 1:
            raise DefectError("a defect")

    monkeypatch.setattr(Heartbeat, "record", record)
    async with pipeline:
        worker = asyncio.create_task(pipeline.run(signals=False))
        await eventually(lambda: len(turns) > 1, what="the heartbeat to begin again")
        await serves(pipeline)
        pipeline.stop()
        await worker
    (line,) = told(caplog)
    assert (
        line.streams_message
        == "the heartbeat failed and begins again: DefectError: a defect"
    )
