"""The last known connection of each instance, from senders, webhooks and checks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from streams.admin.records import Records
from streams.pipeline import Pipeline
from streams.whatsapp.providers.base import Connection
from streams.whatsapp.status import STREAM

KIND = "connections"
_FRESH = 60.0
"""Seconds during which an unchanged state is not written again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The last report about an instance.

    Attributes:
        state: open, connecting, closed or unknown.
        at: Unix seconds.
        source: of the report: ``sender``, ``webhook`` or ``check``.
        reason: why it is not open, in a word; '' if it is.
    """

    state: Connection
    at: float
    source: str
    reason: str = ""


class Connections:
    """The connections of the instances on a server.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._written: dict[str, tuple[Connection, float]] = {}

    async def note(
        self, ident: str, state: Connection, source: str, reason: str = ""
    ) -> None:
        """Store a report, unless the same state was stored less than a minute ago."""
        before, at = self._written.get(
            ident,
            (None, 0.0),
        )
        if before == state and time.monotonic() - at < _FRESH:
            return

        self._written[ident] = (state, time.monotonic())
        now = round(self._pipeline.broker.clock.now(), 3)
        seen = Seen(
            state,
            now,
            source,
            reason,
        )
        await self._records().change(
            ident,
            lambda _: asdict(seen),
        )

    async def all(self) -> Mapping[str, Seen]:
        """The last report of each instance. One command."""
        found = {}
        for ident, record in (await self._records().all()).items():
            state = Connection(record.pop("state"))
            found[ident] = Seen(state, **record)

        return found

    def _records(self) -> Records:
        return self._pipeline.records(STREAM, KIND)
