"""Direct sending: one try without the queue, by request or while the queue is away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.errors import InvalidMessage
from streams.events.event import random_hex
from streams.pipeline import Pipeline
from streams.whatsapp.content import Content
from streams.whatsapp.idempotency import dedup_id, dedup_ids
from streams.whatsapp.instances import Providers
from streams.whatsapp.journal import StatusLog
from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Hopeless, Outcome, Sent
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.settings import DAY
from streams.whatsapp.status import MessageStatus

if TYPE_CHECKING:
    from streams.whatsapp.application import Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """One message that is sent without the queue.

    Attributes:
        application: of this process.
        to, content: the message.
        tenant, instance: its tenant and its sender.
        key: idempotency key; '' for none.
        id: of the message.
    """

    application: Application
    to: Recipient
    content: Content
    tenant: str
    instance: str
    key: str = ""
    id: str = field(default_factory=lambda: random_hex(16))

    async def reserve(self, pipeline: Pipeline) -> str:
        """Reserve the idempotency key on the server.

        Returns the id of the message that has the key: of this one, or an earlier one.
        """
        await self.application.instances.refresh(pipeline)

        if not self.key:
            return self.id

        name = dedup_id(self.tenant, self.key)

        return await dedup_ids(pipeline).reserve(name, self.id, 7 * DAY)

    async def send(self) -> Outcome:
        """Send once, without asking the queue.

        Raises:
            InvalidMessage: there is no such instance.
        """
        sender = self.application.instances.get(self.instance)

        if sender is None:
            raise InvalidMessage(f"there is no instance {self.instance!r}")

        providers = Providers(self.application.settings)

        try:
            message = Message(self.to, self.content)

            return await providers.of(sender).send(sender, message, self.id)
        finally:
            await providers.close()

    async def note(self, pipeline: Pipeline, outcome: Outcome) -> None:
        """Store the outcome, so that the message can be followed like a queued one."""
        settings = self.application.settings
        state, reason, provider_id = MessageStatus.PROCESSING, outcome.reason, ""

        if isinstance(outcome, Sent):
            state, reason, provider_id = MessageStatus.SENT, "", outcome.provider_id
        elif isinstance(outcome, Hopeless):
            state = MessageStatus.FAILED

        fields = {
            "tenant": self.tenant,
            "instance": self.instance,
            "recipient": self.to.hashed(settings.lookup_key),
            "provider_id": provider_id,
            "reason": reason,
        }

        facts = {"from": "direct", "code": outcome.code, "reason": reason}
        log = StatusLog(pipeline, settings)
        await log.note(self.id, state, facts, fields=fields)
