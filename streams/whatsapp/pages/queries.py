"""What the pages show of WhatsApp messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streams.common.masking import masked
from streams.errors import EventError, NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.analytics import Analytics, Figures
from streams.whatsapp.connections import Connections
from streams.whatsapp.messages import Messages
from streams.whatsapp.outbox.deliverer import WEBHOOK_STREAM
from streams.whatsapp.outbox.endpoints import Endpoints
from streams.whatsapp.registry import InstanceRegistry
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageRecord

FUNNEL = ("queued", "sent", "delivered", "read", "failed", "retried")
_LETTERS = 20


class MessageQueries:
    """Asks for messages and instances; it needs no secret of the application.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def overview(self) -> dict[str, Any]:
        """Instances with what was last heard of them, and the figures of today by tenant."""
        rows, seen = (
            await InstanceRegistry(self._pipeline).all(),
            await Connections(self._pipeline).all(),
        )
        pauses = {
            p.value: p
            for p in await self._pipeline.pauses(STREAM).list()
            if p.attribute == "instance"
        }
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
        total = Figures()
        for figures in tenants.values():
            for name in FUNNEL:
                total.add(name, getattr(figures, name))
        return {
            "instances": instances,
            "tenants": tenants,
            "total": total,
            "funnel": FUNNEL,
        }

    async def endpoints(self) -> dict[str, Any]:
        """Where tenants are told, the state of the calls that wait, and the latest that failed for good."""
        endpoints = await Endpoints(self._pipeline, WhatsAppSettings()).all()
        try:
            row = await self._pipeline.status().stream(WEBHOOK_STREAM)
        except NotFound:
            return {
                "endpoints": endpoints,
                "group": None,
                "letters": [],
                "stream": WEBHOOK_STREAM,
            }
        groups = [group for group in row.groups if group.group]
        letters = []
        if groups:
            latest = self._pipeline.dead_letters(
                WEBHOOK_STREAM, groups[0].group
            ).latest(_LETTERS)
            letters = [letter async for letter in latest]
        return {
            "endpoints": endpoints,
            "group": groups[0] if groups else None,
            "letters": letters,
            "stream": WEBHOOK_STREAM,
        }

    async def message(self, ident: str) -> MessageRecord | None:
        """A message, by its id or the provider's; None if nobody knows it."""
        try:
            return await Messages(self._pipeline, WhatsAppSettings()).show(ident)
        except (NotFound, EventError):
            return None
