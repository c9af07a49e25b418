"""The values of the pages on WhatsApp messages."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from streams.common.masking import masked
from streams.errors import EventError, NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.analytics import COUNTS, Analytics, total
from streams.whatsapp.connections import Connections
from streams.whatsapp.messages import Messages
from streams.whatsapp.outbox.deliverer import WEBHOOK_STREAM
from streams.whatsapp.outbox.endpoints import Endpoints
from streams.whatsapp.pausing import paused_instances
from streams.whatsapp.registry import InstanceRegistry
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import MessageRecord

_LETTERS = 20


class MessageQueries:
    """Asks for messages and instances; it needs no secret of the application.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def overview(self) -> dict[str, Any]:
        """Instances with their latest reports, and the figures of today by tenant."""
        pipeline = self._pipeline
        rows = await InstanceRegistry(pipeline).all()
        seen = await Connections(pipeline).all()
        pauses = {pause.value: pause for pause in await paused_instances(pipeline)}

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

        today = datetime.fromtimestamp(pipeline.broker.clock.now(), UTC).date()
        tenants = await Analytics(pipeline).tenants(today, today)

        return {
            "instances": instances,
            "tenants": tenants,
            "total": total(tenants.values()),
            "funnel": COUNTS,
        }

    async def endpoints(self) -> dict[str, Any]:
        """The endpoints, the calls that wait, and the latest that failed for good."""
        values: dict[str, Any] = {
            "endpoints": await Endpoints(self._pipeline, WhatsAppSettings()).all(),
            "group": None,
            "letters": [],
            "stream": WEBHOOK_STREAM,
        }

        with contextlib.suppress(NotFound):
            row = await self._pipeline.status().stream(WEBHOOK_STREAM)
            groups = [group for group in row.groups if group.group]

            for group in groups[:1]:
                letters = self._pipeline.dead_letters(WEBHOOK_STREAM, group.group)
                latest = letters.latest(_LETTERS)
                values |= {"group": group, "letters": [one async for one in latest]}

        return values

    async def message(self, ident: str) -> MessageRecord | None:
        """A message, by its id or the provider's; None if there is none."""
        try:
            return await Messages(self._pipeline, WhatsAppSettings()).show(ident)
        except (NotFound, EventError):
            return None
