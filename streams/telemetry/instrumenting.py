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
    """Let a pipeline that is not open yet make spans and metrics.

    Without ``exported`` they go to the SDK of the program, if it has set up one. With
    ``exported`` they go there, and the backlog is measured, too.

    Raises:
        ConfigurationError: the pipeline is open, or is instrumented already.
    """
    if pipeline.is_open:
        raise ConfigurationError("instrument a pipeline before it is opened")
    if any(isinstance(found, (Tracing, Metrics)) for found in pipeline.middleware):
        raise ConfigurationError("this pipeline is instrumented already")

    added: list[Middleware] = []
    if exported is None:
        added = [Tracing(), Metrics()]
    else:
        metrics = Metrics(exported.meters)
        if exported.tracers is not None:
            added.append(Tracing(exported.tracers))

        added += [metrics, Scraped(metrics, exported)]

    pipeline.middleware[:0] = added


class Scraped(Middleware, Observer):
    """Gauges of the backlog of a worker's streams, and the text for scrapers.

    Args:
        metrics: the metrics whose meter makes the gauges.
        exported: the SDK.
    """

    def __init__(self, metrics: Metrics, exported: Exported) -> None:
        self._metrics = metrics
        self._exported = exported
        self._backlog: Backlog | None = None
        self._streams: list[str] = []

    async def start(self, place: Place) -> None:
        """Measure the stream of a consumer that starts."""
        if place.stream not in self._streams:
            self._streams.append(place.stream)

        if self._backlog is None:
            self._backlog = Backlog(self._metrics.meter, place.broker, self._streams)

    async def exposition(self) -> bytes:
        """The text for scrapers, with a backlog that is some seconds old at most."""
        if self._backlog is not None:
            await self._backlog.refresh()

        return self._exported.exposition()
