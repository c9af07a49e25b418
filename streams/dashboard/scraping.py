"""Figures of the events that wait, for Prometheus to scrape from the dashboard."""

from __future__ import annotations

from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.telemetry import Exported, export
from streams.telemetry.backlog import Backlog


class Scraping:
    """The text that scrapers read.

    A scrape asks the server of the streams, once in five seconds at most.

    Args:
        pipeline: open while it is scraped.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._exported: Exported | None = None
        self._backlog: Backlog | None = None

    async def text(self) -> bytes:
        """Every gauge; empty without the extra ``prometheus``."""
        if self._backlog is None or self._exported is None:
            try:
                self._exported = exported = export(
                    ("prometheus",), service="streams-dashboard"
                )
            except ConfigurationError:
                return b""

            if exported.meters is None:
                return b""

            self._backlog = Backlog(
                exported.meters.get_meter("streams"), self._pipeline.broker
            )

        await self._backlog.refresh()

        return self._exported.exposition()

    def close(self) -> None:
        """End."""
        if self._exported is not None:
            self._exported.close()
