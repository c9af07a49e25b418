"""The tracker: the handler that stores the statuses and connections in webhooks."""

from __future__ import annotations

from typing import Any

from streams.errors import Snooze
from streams.events.event import Event
from streams.pipeline import Pipeline
from streams.policy.retry import Retry
from streams.whatsapp.connections import Connections
from streams.whatsapp.instances import Instances
from streams.whatsapp.journal import StatusLog, Tell
from streams.whatsapp.pausing import resume
from streams.whatsapp.providers.base import Connection
from streams.whatsapp.providers.meta_errors import rule_of
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import MessageStatus
from streams.whatsapp.suppressions import Suppressions

STATUS_STREAM = "whatsapp-status"
INBOUND_STREAM = "whatsapp-inbound"
STATUS, RECEIVED, CONNECTION = (
    "message.status",
    "message.received",
    "instance.connection",
)
_PATIENCE = 60.0
"""Seconds for which a status waits for its message: a webhook may overtake the answer."""


class Tracker:
    """Stores the content of webhooks. Declares its handlers on the pipeline.

    Args:
        pipeline: without handlers on the stream ``whatsapp-status``.
        settings: of the application.
        instances: their connections are stored.
        tell: called with the states of messages.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: WhatsAppSettings,
        instances: Instances,
        tell: Tell,
    ) -> None:
        self._pipeline = pipeline
        self._instances = instances
        self._log = StatusLog(pipeline, settings, tell)

        for kind, handle in ((STATUS, self.track), (CONNECTION, self.connection)):
            handler = pipeline.handler(
                STATUS_STREAM,
                group="tracker",
                types=[kind],
                order_by="key",
                retry=Retry(max_retries=10),
            )

            handler(handle)

    async def track(self, event: Event[Any]) -> None:
        """Store one status. Unknown messages are skipped: foreign or forgotten ones."""
        said = event.data
        notes = self._log.tracking
        ident = said.get("callback") or await notes.linked(said["provider_id"])
        known = await notes.get(ident) if ident else None

        if known is None or ident is None:
            age = self._pipeline.broker.clock.now() - float(said.get("received", 0))

            if age < _PATIENCE:
                raise Snooze(2.0, "the message is not known yet")

            return

        state = MessageStatus(said["status"])
        kept = ("code", "reason", "at")
        facts = {name: said[name] for name in kept if said.get(name)}
        owner = {name: known.fields.get(name, "") for name in ("tenant", "instance")}
        provider_id = said["provider_id"]
        fields = {"provider_id": provider_id, "trying": "", **owner}

        if state is MessageStatus.FAILED:
            fields["reason"] = said.get("reason", "")
            rule = rule_of(str(said.get("code", "")))
            recipient = known.fields.get("recipient")

            if rule.decision == "suppress" and recipient:
                suppressions = Suppressions(self._pipeline)
                await suppressions.report(
                    recipient,
                    owner["tenant"],
                    rule.reason,
                )

        facts["from"] = "webhook"
        await self._log.note(
            ident,
            state,
            facts,
            fields=fields,
        )

    async def connection(self, event: Event[Any]) -> None:
        """Store a connection; an instance that is open again resumes at once."""
        await self._instances.refresh(self._pipeline)
        connections = Connections(self._pipeline)
        state = Connection(event.data["state"])
        reason = str(event.data.get("reason", ""))
        called = event.data["instance"]
        single = self._instances.get(called)

        for one in self._instances.all() or filter(None, [single]):
            if called not in (one.called, one.id):
                continue

            await connections.note(one.id, state, "webhook", reason)

            if state is Connection.OPEN:
                # Pauses of operators stay.
                await resume(self._pipeline, one.id, by="webhook", made_by="breaker")
