"""The tracker: the handler that writes down what webhooks said of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.errors import Snooze
from streams.events.event import Event
from streams.pipeline import Pipeline
from streams.policy.retry import Retry
from streams.whatsapp.connections import Connections
from streams.whatsapp.instances import Instances
from streams.whatsapp.journal import Journal, Tell
from streams.whatsapp.providers.base import Connection
from streams.whatsapp.providers.meta_errors import TABLE
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageStatus
from streams.whatsapp.suppressions import MARKETING, Suppressions

STATUS_STREAM = "whatsapp-status"
INBOUND_STREAM = "whatsapp-inbound"
STATUS, RECEIVED, CONNECTION = (
    "message.status",
    "message.received",
    "instance.connection",
)
_PATIENCE = 60.0
"""Seconds for which a status of a message that is not known yet is kept: the webhook may be faster than the answer."""


class Tracker:
    """Declares its handler with the pipeline that it is given.

    Args:
        pipeline: without handlers on the stream ``whatsapp-status``.
        settings: of the application.
        instances: whose connections webhooks tell of.
        tell: is told what became of messages.
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
        self._journal = Journal(pipeline, settings, tell)
        handler = pipeline.handler(
            STATUS_STREAM,
            group="tracker",
            types=[STATUS],
            order_by="key",
            retry=Retry(max_retries=10),
        )
        handler(self.track)
        pipeline.handler(
            STATUS_STREAM,
            group="tracker",
            types=[CONNECTION],
            order_by="key",
            retry=Retry(max_retries=10),
        )(self.connection)

    async def track(self, event: Event[Any]) -> None:
        """Write one status down. A message that is not ours, or not remembered any more, is passed over."""
        said = event.data
        ident = said.get("callback") or await self._journal.find(said["provider_id"])
        known = await self._journal.get(ident) if ident else None
        if known is None or ident is None:
            age = self._pipeline.broker.clock.now() - float(said.get("received", 0))
            if age < _PATIENCE:
                raise Snooze(2.0, "the message is not known yet")
            return
        state = MessageStatus(said["status"])
        facts = {
            name: said[name] for name in ("code", "reason", "at") if said.get(name)
        }
        whose = {name: known.fields.get(name, "") for name in ("tenant", "instance")}
        fields = {"provider_id": said["provider_id"], "trying": "", **whose}
        if state is MessageStatus.FAILED:
            fields["reason"] = said.get("reason", "")
            await self._suppress(str(said.get("code", "")), known.fields)
        await self._journal.note(
            ident, state, {**facts, "from": "webhook"}, fields=fields
        )

    async def _suppress(self, code: str, known: Mapping[str, str]) -> None:
        """Remember who stopped marketing, if that is why a message failed."""
        rule, recipient = (
            TABLE.get(int(code) if code.isdigit() else -1),
            known.get("recipient"),
        )
        if rule is not None and rule.decision == "suppress" and recipient:
            suppressions = Suppressions(self._pipeline)
            await suppressions.add(
                recipient,
                known.get("tenant", ""),
                MARKETING,
                reason=rule.reason,
                by="provider",
            )

    async def connection(self, event: Event[Any]) -> None:
        """Write down what an instance's provider says of it; one that is back goes on at once."""
        await self._instances.refresh(self._pipeline)
        state, connections = (
            Connection(event.data["state"]),
            Connections(self._pipeline),
        )
        called = event.data["instance"]
        for one in self._instances.all() or filter(None, [self._instances.get(called)]):
            if called in (one.called, one.id):
                await connections.note(
                    one.id, state, "webhook", str(event.data.get("reason", ""))
                )
                if state is Connection.OPEN:
                    await self._go_on(one.id)

    async def _go_on(self, instance: str) -> None:
        """End what the breaker holds back of an instance; what an operator paused stays so."""
        pauses = self._pipeline.pauses(STREAM, by="webhook")
        for pause in await pauses.list():
            if (pause.attribute, pause.value, pause.by) == (
                "instance",
                instance,
                "breaker",
            ):
                await pauses.resume(group=pause.group, instance=instance)
