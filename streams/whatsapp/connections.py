"""Whether instances are connected, as far as anybody heard: what senders saw, webhooks said, and operators asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from streams.pipeline import Pipeline
from streams.whatsapp.providers.base import Connection
from streams.whatsapp.status import STREAM

KIND = "connections"
_FRESH = 60.0
"""Seconds for which the same news is not written down again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was last heard of an instance.

    Attributes:
        state: open, connecting, closed or unknown.
        at: when, Unix seconds.
        source: who said so: ``sender``, ``webhook`` or ``check``.
        reason: why it is not open, in a word; '' if it is.
    """

    state: Connection
    at: float
    source: str
    reason: str = ""


class Connections:
    """The states of a server's instances.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._written: dict[str, tuple[Connection, float]] = {}

    async def note(
        self, ident: str, state: Connection, source: str, reason: str = ""
    ) -> None:
        """Write down what was heard; the same again within a minute is not."""
        before, at = self._written.get(ident, (None, 0.0))
        if before == state and time.monotonic() - at < _FRESH:
            return
        self._written[ident] = (state, time.monotonic())
        seen = Seen(state, round(self._pipeline.broker.clock.now(), 3), source, reason)
        await self._pipeline.records(STREAM, KIND).change(ident, lambda _: asdict(seen))

    async def all(self) -> Mapping[str, Seen]:
        """What was last heard, by instance. One command."""
        records = await self._pipeline.records(STREAM, KIND).all()
        return {
            ident: Seen(**{**row, "state": Connection(row["state"])})
            for ident, row in records.items()
        }
