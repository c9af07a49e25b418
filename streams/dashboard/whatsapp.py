"""What the pages show of WhatsApp messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streams.errors import EventError, NotFound
from streams.pipeline import Pipeline
from streams.retry import masked
from streams.whatsapp.analytics import Analytics
from streams.whatsapp.connections import Connections
from streams.whatsapp.messages import Messages
from streams.whatsapp.registry import Registry
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageRecord


class WhatsAppQueries:
    """Asks for messages and instances; it needs no secret of the application.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def overview(self) -> dict[str, Any]:
        """Instances with what was last heard of them, and the figures of today by tenant."""
        rows, seen = await Registry(self._pipeline).all(), await Connections(self._pipeline).all()
        pauses = {p.value: p for p in await self._pipeline.pauses(STREAM).list() if p.attribute == "instance"}
        instances = [
            {
                "id": ident,
                "provider": rows.get(ident, {}).get("provider", ""),
                "name": masked(rows.get(ident, {}).get("name", "")),
                "seen": seen.get(ident),
                "pause": pauses.get(ident),
            }
            for ident in sorted({*rows, *seen, *pauses})
        ]
        today = datetime.fromtimestamp(self._pipeline.broker.clock.now(), UTC).date()
        tenants = await Analytics(self._pipeline).tenants(today, today)
        return {"instances": instances, "tenants": tenants}

    async def message(self, ident: str) -> MessageRecord | None:
        """A message, by its id or the provider's; None if nobody knows it."""
        try:
            return await Messages(self._pipeline, WhatsAppSettings()).show(ident)
        except (NotFound, EventError):
            return None
