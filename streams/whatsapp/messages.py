"""Messages: what callers do with messages: queue them, send them at once, and follow them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from streams.admin.tracking import Tracking
from streams.common.log_facts import logger_of
from streams.errors import InvalidMessage, NotFound
from streams.events.event import random_hex
from streams.pipeline import Pipeline
from streams.quantities import Seconds, When
from streams.whatsapp.analytics import counts_of
from streams.whatsapp.content import Content
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
    tracking,
)
from streams.whatsapp.suppressions import MARKETING
from streams.whatsapp.vault import vault_of

logger = logger_of("whatsapp")


class SendOptions(TypedDict, total=False):
    """How a message is sent; all optional."""

    delay: When
    """Seconds until it may go out, a ``timedelta``, or the moment itself as a ``datetime`` with a zone."""
    expires: When
    """Seconds after which it must not go out any more; a ``timedelta`` or ``datetime``, as for ``delay``."""
    idempotency_key: str
    """However often a caller repeats it within the dedup window, one message goes out."""
    max_retries: int
    """Retries after the first try; None: the settings'."""
    retry_delay: Seconds
    """Seconds, or a ``timedelta``, before the first retry; None: the settings'."""
    category: str
    """``marketing`` for what people can stop while other messages go on."""
    reply_to: str
    """The provider's id of the message that it answers."""


class MessageOptions(SendOptions, total=False):
    """How a message is sent, by whom and for whom; all optional."""

    tenant: str | int
    """Whose message it is; tenants take turns."""
    instance: str | int
    """The sender, by its id."""
    priority: int
    """0 normal, 1 automatic reply, 5 important, 10 critical; any other integer goes to the level below it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages stand where, in all levels.

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

    async def add(
        self, to: str | Recipient, content: Content, **options: Unpack[MessageOptions]
    ) -> str:
        """Queue a message; when this returns it is stored. Returns its id; that of the first with its idempotency key.

        Raises:
            InvalidMessage: the provider would refuse it; nothing is queued.
            StreamsError: as ``Pipeline.publish``.
        """
        return (await self.add_once(to, content, **options))[0]

    async def add_once(
        self, to: str | Recipient, content: Content, **options: Unpack[MessageOptions]
    ) -> tuple[str, bool]:
        """As ``add``; says also whether the message is new, or was queued before under its idempotency key."""
        recipient = to if isinstance(to, Recipient) else Recipient.parse(to)
        message = Message(recipient, content, options.get("reply_to", ""))
        attributes: dict[str, Any] = {
            name: options[name]
            for name in ("priority", "delay", "expires", "max_retries", "retry_delay")
            if options.get(name) is not None
        }
        tenant, key = (
            checked_text("tenant", options.get("tenant", "1")),
            options.get("idempotency_key"),
        )
        instance = checked_text("instance", options.get("instance", "1"))
        if key:
            # A tenant's keys are its own.
            attributes["dedup_id"] = f"{tenant}:{key}"
        if (category := options.get("category", "")) not in ("", MARKETING):
            raise InvalidMessage(
                f"category is {MARKETING} or nothing, not {category!r}"
            )
        if category:
            attributes["headers"] = {"category": category}
        ident, hashed = random_hex(16), self.hashed(recipient)
        receipt = await self._pipeline.publish(
            STREAM,
            vault_of(self._settings.encryption_keys).seal(
                message.as_data(), ident, tenant
            ),
            type=SEND,
            id=ident,
            tenant=tenant,
            instance=instance,
            subject=hashed,
            **attributes,
        )
        if not receipt.duplicate:
            notes, now = self._notes(), self._pipeline.broker.clock.now()
            await asyncio.gather(
                notes.note(
                    ident,
                    MessageStatus.PENDING,
                    {"priority": attributes.get("priority", 0)},
                    fields={
                        "tenant": tenant,
                        "instance": instance,
                        "recipient": hashed,
                    },
                    counts=counts_of(MessageStatus.PENDING, tenant, instance, now=now),
                ),
                notes.file(hashed, ident),
            )
        return receipt.event_id, not receipt.duplicate

    async def status(self, message_id: str) -> MessageStatus | None:
        """Where a message stands; None if it is not known (any more)."""
        try:
            return (await self.show(message_id)).status
        except NotFound:
            return None

    async def show(self, message_id: str) -> MessageRecord:
        """What is known of a message, by its id or by the provider's.

        Raises:
            NotFound: nothing is, or not any more.
        """
        notes = self._notes()
        tracked = await notes.get(message_id)
        if tracked is None and (other := await notes.linked(message_id)) is not None:
            tracked = await notes.get(other)
        if tracked is None:
            raise NotFound(f"no message {message_id} is known (any more)")
        if tracked.state in FINAL:
            return MessageRecord.of(tracked)
        dead = False
        with contextlib.suppress(NotFound):  # Acknowledged: its outcome is unknown.
            # Whoever ends a message without its handler (expired, stalled too often) leaves no note: the queue knows.
            states = await self._pipeline.status().find(STREAM, tracked.id, GROUP)
            dead = any(state.state == "dead" for state in states)
        return MessageRecord.of(tracked, MessageStatus.FAILED if dead else None)

    async def sent_to(
        self, recipient: str | Recipient, *, most: int = 100
    ) -> list[MessageRecord]:
        """What is known of the messages to a recipient, whosever they are, the latest first; of 1,000 at most.

        Raises:
            InvalidMessage: it is no recipient.
        """
        to = (
            recipient
            if isinstance(recipient, Recipient)
            else Recipient.parse(recipient)
        )
        found = []
        for ident in await self._notes().filed(self.hashed(to), most=most):
            # Forgotten sooner than the list of them.
            with contextlib.suppress(NotFound):
                found.append(await self.show(ident))
        return found

    async def counts(self) -> Counts:
        """How many messages stand where."""
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
        """How many messages reached which state, since ever and by all workers."""
        return await self._notes().totals()

    def hashed(self, recipient: Recipient) -> str:
        """What stands for a recipient wherever its number must not."""
        return recipient.hashed(self._settings.lookup_key)

    def _notes(self) -> Tracking:
        return tracking(self._pipeline, self._settings.retention)


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
