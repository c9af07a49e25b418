"""The journal: writes down what became of messages, and tells their tenants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streams.admin.tracking import Tracked, Tracking
from streams.pipeline import Pipeline
from streams.whatsapp.analytics import counts_of
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import MessageStatus, tracking

Tell = Callable[[str, str, MessageStatus, dict[str, Any]], Awaitable[None]]
"""Message id, tenant, state, facts."""
_TOLD = ("code", "reason", "provider_id", "attempt")


class Journal:
    """What is known of messages.

    Args:
        pipeline: open while this is used.
        settings: of the application.
        tell: is told of states that a message reached; it may be told twice.
    """

    def __init__(
        self, pipeline: Pipeline, settings: WhatsAppSettings, tell: Tell
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._tell = tell

    async def get(self, message_id: str) -> Tracked | None:
        """What is known of a message."""
        return await self._notes().get(message_id)

    async def find(self, provider_id: str) -> str | None:
        """The message that a provider calls so."""
        return await self._notes().linked(provider_id)

    async def note(
        self,
        message_id: str,
        status: MessageStatus,
        facts: Mapping[str, Any],
        *,
        fields: Mapping[str, str],
        anew: bool = False,
    ) -> None:
        """Write a state down; if the message moved, its tenant is told. ``fields`` with a tenant say whose it is.

        The fact ``waited`` (seconds from queue to provider) is counted and not kept.
        """
        given = {name: value for name, value in facts.items() if value != ""}
        waited, reason = given.pop("waited", None), str(given.get("reason", ""))
        counts = counts_of(
            status,
            fields.get("tenant", ""),
            fields.get("instance", ""),
            now=self._pipeline.broker.clock.now(),
            reason=reason,
            waited=waited,
        )
        noted = await self._notes().note(
            message_id, status, given, fields=fields, counts=counts, anew=anew
        )
        provider_id = fields.get("provider_id")
        if provider_id:
            await self._notes().link(provider_id, message_id)
        if noted.moved and (noted.before != status or status is MessageStatus.RETRYING):
            await self.tell(message_id, fields.get("tenant", ""), status, given)

    async def tell(
        self,
        message_id: str,
        tenant: str,
        status: MessageStatus,
        facts: Mapping[str, Any],
    ) -> None:
        """Tell the tenant of a state; again, if nobody knows whether it was told."""
        await self._tell(
            message_id,
            tenant,
            status,
            {name: facts[name] for name in _TOLD if facts.get(name)},
        )

    def _notes(self) -> Tracking:
        return tracking(self._pipeline, self._settings.retention)
