"""Queueing messages, and following them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from streams.common.log_facts import logger_of
from streams.errors import InvalidMessage, NotFound
from streams.events.event import random_hex
from streams.pipeline import Pipeline
from streams.quantities import Seconds, When
from streams.whatsapp.content import Content
from streams.whatsapp.idempotency import dedup_id
from streams.whatsapp.journal import StatusLog
from streams.whatsapp.message import Message
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.sender import SEND
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import (
    FINAL,
    GROUP,
    STREAM,
    MessageRecord,
    MessageStatus,
)
from streams.whatsapp.suppressions import MARKETING
from streams.whatsapp.vault import vault_of

logger = logger_of("whatsapp")


class SendOptions(TypedDict, total=False):
    """How a message is sent; all optional."""

    delay: When
    """When it may go out: seconds from now, a ``timedelta``, or a ``datetime`` with a zone."""
    expires: When
    """When it must not go out any more; in the forms of ``delay``."""
    idempotency_key: str
    """Calls with the same key within the dedup window send one message."""
    max_retries: int
    """Retries after the first try; None uses the settings."""
    retry_delay: Seconds
    """Seconds, or a ``timedelta``, before the first retry; None uses the settings."""
    category: str
    """``marketing`` for messages that people can stop while others go on."""
    reply_to: str
    """The provider's id of the message that this one answers."""


class MessageOptions(SendOptions, total=False):
    """How a message is sent, with its tenant and sender; all optional."""

    tenant: str | int
    """The owner of the message; tenants take turns."""
    instance: str | int
    """The sender, by its id."""
    priority: int
    """0 normal, 1 automatic reply, 5 important, 10 critical.

    Any other integer goes to the level below it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of messages by state, over all levels.

    Attributes:
        pending: waiting, delayed ones included.
        processing: with a worker.
        retrying: waiting for a retry, a limit, or an instance that can send.
        failed: in the dead letters.
    """

    pending: int
    processing: int
    retrying: int
    failed: int


class Messages:
    """The messages of an open pipeline.

    Args:
        pipeline: open, on the server that the workers serve.
        settings: of the application.
    """

    def __init__(self, pipeline: Pipeline, settings: WhatsAppSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._log = StatusLog(pipeline, settings)

    async def add(
        self, to: str | Recipient, content: Content, **options: Unpack[MessageOptions]
    ) -> str:
        """Queue a message; it is stored when this returns.

        Returns its id, or that of an earlier message with the same idempotency key.

        Raises:
            InvalidMessage: the provider would refuse it; nothing is queued.
            StreamsError: as ``Pipeline.publish``.
        """
        return (await self.add_once(to, content, **options))[0]

    async def add_once(
        self, to: str | Recipient, content: Content, **options: Unpack[MessageOptions]
    ) -> tuple[str, bool]:
        """Like ``add``; also tells whether the message is new, so no repeated key."""
        recipient = to if isinstance(to, Recipient) else Recipient.parse(to)
        message = Message(recipient, content, options.get("reply_to", ""))
        tenant = checked_text("tenant", options.get("tenant", "1"))
        instance = checked_text("instance", options.get("instance", "1"))
        attributes: dict[str, Any] = {
            name: options[name]
            for name in ("priority", "delay", "expires", "max_retries", "retry_delay")
            if options.get(name) is not None
        }
        key = options.get("idempotency_key")

        if key:
            attributes["dedup_id"] = dedup_id(tenant, key)

        category = options.get("category", "")
        if category not in ("", MARKETING):
            raise InvalidMessage(
                f"category is {MARKETING} or nothing, not {category!r}"
            )

        if category:
            attributes["headers"] = {"category": category}

        ident = random_hex(16)
        hashed = self.hashed(recipient)
        vault = vault_of(self._settings.encryption_keys)
        receipt = await self._pipeline.publish(
            STREAM,
            vault.seal(message.as_data(), ident, tenant),
            type=SEND,
            id=ident,
            tenant=tenant,
            instance=instance,
            subject=hashed,
            **attributes,
        )

        if not receipt.duplicate:
            fields = {"tenant": tenant, "instance": instance, "recipient": hashed}
            facts = {"priority": attributes.get("priority", 0)}
            await self._log.note(ident, MessageStatus.PENDING, facts, fields=fields)

        return receipt.event_id, not receipt.duplicate

    async def status(self, message_id: str) -> MessageStatus | None:
        """The state of a message; None if it is not known (any more)."""
        try:
            return (await self.show(message_id)).status
        except NotFound:
            return None

    async def show(self, message_id: str) -> MessageRecord:
        """The record of a message, by its id or the provider's.

        Raises:
            NotFound: there is none, or it was forgotten.
        """
        notes = self._log.tracking
        tracked = await notes.get(message_id)
        if tracked is None and (other := await notes.linked(message_id)) is not None:
            tracked = await notes.get(other)

        if tracked is None:
            raise NotFound(f"no message {message_id} is known (any more)")

        if tracked.state in FINAL:
            return MessageRecord.of(tracked)

        dead = False
        with contextlib.suppress(NotFound):  # Not queued: its outcome is unknown.
            # An expired or stalled message ends without its handler, so without a note.
            states = await self._pipeline.status().find(STREAM, tracked.id, GROUP)
            dead = any(state.state == "dead" for state in states)

        return MessageRecord.of(tracked, MessageStatus.FAILED if dead else None)

    async def sent_to(
        self, recipient: str | Recipient, *, most: int = 100
    ) -> list[MessageRecord]:
        """Records of the messages of all tenants to a recipient, the latest first.

        Args:
            recipient: as for ``add``.
            most: number of records; 1,000 are kept.

        Raises:
            InvalidMessage: the recipient is malformed.
        """
        to = recipient
        if not isinstance(to, Recipient):
            to = Recipient.parse(to)

        found = []
        for ident in await self._log.tracking.filed(self.hashed(to), most=most):
            # A record may expire sooner than the list of them.
            with contextlib.suppress(NotFound):
                found.append(await self.show(ident))

        return found

    async def counts(self) -> Counts:
        """Numbers of messages by state."""
        try:
            row = await self._pipeline.status().stream(STREAM)
        except NotFound:
            return Counts(0, 0, 0, 0)

        group = next((group for group in row.groups if group.group == GROUP), None)
        if group is None:
            return Counts(row.stored + row.scheduled, 0, 0, 0)

        levels = group.levels
        return Counts(
            sum(level.waiting for level in levels) + row.scheduled,
            sum(level.processing for level in levels),
            sum(level.retrying for level in levels),
            group.dead,
        )

    async def totals(self) -> Mapping[str, int]:
        """Numbers of messages that ever reached each state, by all workers."""
        return await self._log.tracking.totals()

    def hashed(self, recipient: Recipient) -> str:
        """The pseudonym of a recipient, for keys, statuses and suppressions."""
        return recipient.hashed(self._settings.lookup_key)


def checked_text(name: str, value: object) -> str:
    """A tenant or instance as text.

    Raises:
        InvalidMessage: it is neither a text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise InvalidMessage(
            f"{name} is a text or a number, not {type(value).__name__}"
        )

    return str(value)
