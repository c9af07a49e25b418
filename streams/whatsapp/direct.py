"""Direct sending: past the queue, once, when that is asked for or the queue is away; and what keeps it to once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from streams.broker.admin.dedup import DedupIds
from streams.errors import InvalidMessage
from streams.events.event import random_hex
from streams.pipeline import Pipeline
from streams.whatsapp.analytics import counts_of
from streams.whatsapp.content import Content
from streams.whatsapp.instances import Instances, Providers
from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Hopeless, Outcome, Sent
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.settings import DAY, WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageStatus, tracking

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Direct:
    """One message that goes past the queue.

    Attributes:
        to, content: what goes to whom.
        tenant, instance: whose it is, and which sender.
        key: idempotency key; '' for none.
    """

    to: Recipient
    content: Content
    tenant: str
    instance: str
    key: str = ""


class Sending:
    """Sends directly.

    Args:
        settings: of the application.
        instances: by which is sent.
    """

    def __init__(self, settings: WhatsAppSettings, instances: Instances) -> None:
        self._settings = settings
        self._instances = instances

    async def reserve(self, pipeline: Pipeline, message: Direct, ident: str) -> str:
        """Take the idempotency key on the server; returns the id of the message that has it, queued or sent."""
        ids = DedupIds(pipeline.broker, pipeline.broker.keys(STREAM))
        return await ids.reserve(f"{message.tenant}:{message.key}", ident, 7 * DAY)

    async def send(self, message: Direct, ident: str) -> Outcome:
        """Send once, whatever the queue says.

        Raises:
            InvalidMessage: there is no such instance.
        """
        sender = self._instances.get(message.instance)
        if sender is None:
            raise InvalidMessage(f"there is no instance {message.instance!r}")
        providers = Providers(self._settings)
        try:
            return await providers.of(sender).send(
                sender, Message(message.to, message.content), ident
            )
        finally:
            await providers.close()

    async def note(
        self, pipeline: Pipeline, message: Direct, ident: str, outcome: Outcome
    ) -> None:
        """Write down what became of it, so that it can be followed like any other."""
        notes, hashed = (
            tracking(pipeline, self._settings.retention),
            message.to.hashed(self._settings.lookup_key),
        )
        sent = isinstance(outcome, Sent)
        failed = isinstance(outcome, Hopeless)
        state = (
            MessageStatus.SENT
            if sent
            else MessageStatus.FAILED
            if failed
            else MessageStatus.PROCESSING
        )
        fields = {
            "tenant": message.tenant,
            "instance": message.instance,
            "recipient": hashed,
        }
        fields["provider_id"] = outcome.provider_id if isinstance(outcome, Sent) else ""
        fields["reason"] = "" if sent else outcome.reason
        now = pipeline.broker.clock.now()
        counts = counts_of(
            state, message.tenant, message.instance, now=now, reason=fields["reason"]
        )
        await notes.note(
            ident,
            state,
            {"from": "direct", "code": outcome.code},
            fields=fields,
            counts=counts,
        )
        await notes.file(hashed, ident)
        if fields["provider_id"]:
            await notes.link(fields["provider_id"], ident)


class Remembered:
    """Idempotency keys that this process used lately, for when the server cannot be asked. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idents: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.count = 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._idents.clear()
            self.count = 0

    def find(self, tenant: str, key: str) -> str | None:
        """The message that used a key."""
        with self._lock:
            return self._idents.get((tenant, key))

    def add(self, tenant: str, key: str, ident: str) -> None:
        """Remember a key; does nothing without one."""
        if key:
            with self._lock:
                self._idents[tenant, key] = ident
                while len(self._idents) > _REMEMBERED:
                    self._idents.popitem(last=False)


def new_ident() -> str:
    """An id for a message."""
    return random_hex(16)
