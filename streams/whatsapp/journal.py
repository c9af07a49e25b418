"""The status log: stores the states of messages, and reports them to their tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streams.admin.tracking import Tracking
from streams.pipeline import Pipeline
from streams.whatsapp.analytics import counts_of
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import MessageStatus, tracking

Tell = Callable[[str, str, MessageStatus, dict[str, Any]], Awaitable[None]]
"""Message id, tenant, state, facts."""
_TOLD = ("code", "reason", "provider_id", "attempt")


class StatusLog:
    """The states of messages.

    Args:
        pipeline: open while this is used.
        settings: of the application.
        tell: called for each new state of a message, sometimes twice; None for no calls.
    """

    def __init__(
        self, pipeline: Pipeline, settings: WhatsAppSettings, tell: Tell | None = None
    ) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._tell = tell

    @property
    def tracking(self) -> Tracking:
        """The tracking that stores the states."""
        return tracking(self._pipeline, self._settings.retention)

    async def note(
        self,
        message_id: str,
        status: MessageStatus,
        facts: Mapping[str, Any],
        *,
        fields: Mapping[str, str],
        anew: bool = False,
    ) -> None:
        """Store a state, and tell the tenant if the message moved.

        Args:
            message_id: of the message.
            status: the state that it reached.
            facts: for the timeline; empty ones are left out. ``waited`` (seconds from queue
                to provider) is only counted.
            fields: facts of the message itself. ``tenant`` and ``instance`` are counted
                for; the message can be found by ``provider_id`` and ``recipient``.
            anew: begin again, whatever the state was.
        """
        kept = {name: value for name, value in facts.items() if value != ""}
        waited = kept.pop("waited", None)
        tenant = fields.get("tenant", "")
        counts = counts_of(
            status,
            tenant,
            fields.get("instance", ""),
            now=self._pipeline.broker.clock.now(),
            reason=str(kept.get("reason", "")),
            waited=waited,
        )
        notes = self.tracking
        work: list[Awaitable[Any]] = []

        if fields.get("provider_id"):
            work.append(notes.link(fields["provider_id"], message_id))

        if fields.get("recipient"):
            work.append(notes.file(fields["recipient"], message_id))

        noted, *_ = await asyncio.gather(
            notes.note(
                message_id,
                status,
                kept,
                fields=fields,
                counts=counts,
                anew=anew,
            ),
            *work,
        )

        if noted.moved and (noted.before != status or status is MessageStatus.RETRYING):
            await self.tell(message_id, tenant, status, kept)

    async def tell(
        self,
        message_id: str,
        tenant: str,
        status: MessageStatus,
        facts: Mapping[str, Any],
    ) -> None:
        """Tell the tenant of a state, also if an earlier report may have arrived."""
        if self._tell is not None:
            told = {name: facts[name] for name in _TOLD if facts.get(name)}
            await self._tell(message_id, tenant, status, told)
