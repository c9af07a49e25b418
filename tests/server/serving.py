"""Pipelines that run beside a test."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from streams import Event, Pipeline, Settings


@contextlib.asynccontextmanager
async def serving(pipeline: Pipeline):
    """The pipeline's handlers, running until the end of the block."""
    task = asyncio.create_task(pipeline.run())
    try:
        yield task
    finally:
        while not task.done():
            pipeline.stop()
            await asyncio.wait([task], timeout=0.05)
        task.result()


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)
    monkeypatch.setattr("streams.worker.scheduler._POLL_EMPTY", 0.05)


def on(server, namespace: str, **settings) -> Pipeline:
    return Pipeline(settings=Settings(url=server.url, namespace=namespace, **settings))


async def handle(event: Event) -> None:
    raise AssertionError("not meant to run")
