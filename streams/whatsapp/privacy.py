"""Privacy: erase a person, and delete expired dead letters."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from streams.admin.erasure import Erased, Erasure
from streams.common.log_facts import logger_of
from streams.errors import StreamsError
from streams.pipeline import Pipeline
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import GROUP, STREAM, tracking
from streams.whatsapp.webhooks.tracker import INBOUND_STREAM

logger = logger_of("whatsapp")
_EVERY = 3600.0
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Numbers of deleted items of a person.

    Attributes:
        messages: to them: waiting, scheduled, running, dead.
        inbound: messages from them.
        tracked: statuses, timelines and other keys.
    """

    messages: Erased
    inbound: Erased
    tracked: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.messages.total + self.inbound.total + self.tracked


async def forget(
    pipeline: Pipeline,
    settings: WhatsAppSettings,
    recipient: Recipient,
    *,
    by: str = "",
) -> Forgotten:
    """Delete everything about a person on the server, of every tenant; counters keep their sums.

    Suppressions stay: they prevent further messages and hold no number. A message that is being
    sent now may store its status later; a second call deletes it.

    Args:
        pipeline: open.
        settings: of the application, with the lookup key that the messages were queued with.
        recipient: the person.
        by: the operator, for the audit record.
    """
    hashed = recipient.hashed(settings.lookup_key)
    sent = Erasure(pipeline.broker, STREAM, by=by)
    received = Erasure(pipeline.broker, INBOUND_STREAM, by=by)

    messages = await sent.erase("subject", hashed)
    messages += await sent.erase("recipient", hashed)
    inbound = await received.erase("recipient", hashed)

    notes = tracking(pipeline, settings.retention)
    gone = 0

    while idents := await notes.filed(hashed, most=_MOST):
        known = await asyncio.gather(*map(notes.get, idents))

        links = [
            row.fields["provider_id"]
            for row in known
            if row is not None and row.fields.get("provider_id")
        ]

        gone += await notes.forget(idents, links=links, files=[hashed])

    return Forgotten(messages, inbound, gone)


async def expire(pipeline: Pipeline, settings: WhatsAppSettings) -> int:
    """Delete dead letters of messages that are older than ``dead_retention``; returns how many."""
    letters = pipeline.dead_letters(STREAM, GROUP, by="retention")
    limit = pipeline.broker.clock.now() - settings.dead_retention
    gone, old = 0, list[str]()

    async for letter in letters.iterate():
        if letter.died_at > limit:
            break  # They stand in the order of their deaths.

        old.append(letter.id)

        if len(old) >= _MOST:
            gone += await letters.discard(old)
            old = []

    return gone + (await letters.discard(old) if old else 0)


async def clean(pipeline: Pipeline, settings: WhatsAppSettings) -> None:
    """Delete expired dead letters now and then, until it is cancelled."""
    every = min(_EVERY, settings.dead_retention / 2)

    while True:
        began = time.monotonic()

        try:
            count = await expire(pipeline, settings)

            if count:
                logger.info(
                    "deleted dead letters that were kept for long enough",
                    extra={"count": count},
                )
        except StreamsError as error:
            logger.warning(
                "old dead letters cannot be deleted now", extra={"error": str(error)}
            )

        await asyncio.sleep(max(0.0, every - (time.monotonic() - began)))
