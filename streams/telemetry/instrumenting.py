"""Switching telemetry on for a pipeline."""

from __future__ import annotations

from streams.broker.entries.observing import Observer
from streams.errors import ConfigurationError
from streams.middleware.base import Middleware, Place
from streams.pipeline import Pipeline
from streams.telemetry.backlog import Backlog
from streams.telemetry.exporting import Exported
from streams.telemetry.metrics import Metrics
from streams.telemetry.tracing import Tracing


def instrument(pipeline: Pipeline, exported: Exported | None = None) -> None:
    """Let a pipeline make spans and metrics from now on; before it is opened.

    Without ``exported`` they go to whatever SDK the program has set up, or nowhere. With it they go where it says, and
    what waits is measured, too.

    Raises:
        ConfigurationError: the pipeline is open, or is instrumented already.
    """
    if pipeline.is_open:
        raise ConfigurationError("instrument a pipeline before it is opened")
    if any(isinstance(found, (Tracing, Metrics)) for found in pipeline.middleware):
        raise ConfigurationError("this pipeline is instrumented already")
    tracing: Tracing | None
    if exported is None:
        tracing, metrics = Tracing(), Metrics()
    else:
        tracing = Tracing(exported.tracers) if exported.tracers is not None else None
        metrics = Metrics(exported.meters)
    added: list[Middleware] = [made for made in (tracing, metrics) if made is not None]
    if exported is not None:
        added.append(Scraped(metrics, exported))
    pipeline.middleware[:0] = added


class Scraped(Middleware, Observer):
    """Gauges of what waits on the streams of a worker, and the text that scrapers read.

    Args:
        metrics: whose meter makes the gauges.
        exported: what is read.
    """

    def __init__(self, metrics: Metrics, exported: Exported) -> None:
        self._metrics = metrics
        self._exported = exported
        self._backlog: Backlog | None = None
        self._streams: list[str] = []

    async def start(self, place: Place) -> None:
        """A consumer begins: its stream is among those that are measured."""
        if place.stream not in self._streams:
            self._streams.append(place.stream)
        if self._backlog is None:
            self._backlog = Backlog(self._metrics.meter, place.broker, self._streams)

    async def exposition(self) -> bytes:
        """Ask the server if that is some seconds ago, and tell."""
        if self._backlog is not None:
            await self._backlog.refresh()
        return self._exported.exposition()
