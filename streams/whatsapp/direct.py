"""Direct sending: one try without the queue, by request or while the queue is away.

The idempotency keys of messages on both ways keep it to once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from streams.broker.admin.dedup import DedupIds
from streams.errors import InvalidMessage
from streams.events.event import random_hex
from streams.pipeline import Pipeline
from streams.whatsapp.content import Content
from streams.whatsapp.instances import Instances, Providers
from streams.whatsapp.journal import StatusLog
from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Hopeless, Outcome, Sent
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.settings import DAY, WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageStatus

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Direct:
    """One message that is sent without the queue.

    Attributes:
        to, content: the message.
        tenant, instance: its tenant and its sender.
        key: idempotency key; '' for none.
    """

    to: Recipient
    content: Content
    tenant: str
    instance: str
    key: str = ""


class Sending:
    """Sends messages without the queue.

    Args:
        settings: of the application.
        instances: that send.
    """

    def __init__(self, settings: WhatsAppSettings, instances: Instances) -> None:
        self._settings = settings
        self._instances = instances

    async def reserve(self, pipeline: Pipeline, message: Direct, ident: str) -> str:
        """Reserve the idempotency key on the server.

        Returns the id of the message that has the key: ``ident``, or an earlier one.
        """
        ids = DedupIds(
            pipeline.broker,
            pipeline.broker.keys(STREAM),
        )
        return await ids.reserve(
            f"{message.tenant}:{message.key}",
            ident,
            7 * DAY,
        )

    async def send(self, message: Direct, ident: str) -> Outcome:
        """Send once, without asking the queue.

        Raises:
            InvalidMessage: there is no such instance.
        """
        sender = self._instances.get(message.instance)
        if sender is None:
            raise InvalidMessage(f"there is no instance {message.instance!r}")

        providers = Providers(self._settings)
        try:
            provider = providers.of(sender)
            content = Message(message.to, message.content)
            return await provider.send(sender, content, ident)
        finally:
            await providers.close()

    async def note(
        self, pipeline: Pipeline, message: Direct, ident: str, outcome: Outcome
    ) -> None:
        """Store the outcome, so that the message can be followed like a queued one."""
        state = MessageStatus.PROCESSING
        fields = {
            "tenant": message.tenant,
            "instance": message.instance,
            "recipient": message.to.hashed(self._settings.lookup_key),
            "provider_id": "",
            "reason": outcome.reason,
        }

        if isinstance(outcome, Sent):
            state = MessageStatus.SENT
            fields |= {"provider_id": outcome.provider_id, "reason": ""}
        elif isinstance(outcome, Hopeless):
            state = MessageStatus.FAILED

        facts = {"from": "direct", "code": outcome.code, "reason": fields["reason"]}
        log = StatusLog(pipeline, self._settings)
        await log.note(ident, state, facts, fields=fields)


class Remembered:
    """Recent idempotency keys of this process, for when the server is away.

    Safe for threads.

    Attributes:
        count: messages that were sent this way; see ``MessageWorker.get_stats``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idents: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.count = 0

    def clear(self) -> None:
        """Forget all keys, and count from 0."""
        with self._lock:
            self._idents.clear()
            self.count = 0

    def find(self, tenant: str, key: str) -> str | None:
        """The id of the message that used a key; None if there is none."""
        with self._lock:
            return self._idents.get((tenant, key))

    def add(self, tenant: str, key: str, ident: str) -> None:
        """Remember a key; the empty key is ignored."""
        if key:
            with self._lock:
                self._idents[tenant, key] = ident
                while len(self._idents) > _REMEMBERED:
                    self._idents.popitem(last=False)


def new_ident() -> str:
    """A new id for a message."""
    return random_hex(16)
