"""The relay: hands messages that an embedded server took, while the real one was away, over to the real one.

It is a worker of the embedded queue, so each message goes either out from there or over to the real server, never both
ways. What was sent is handed over as well, with its status and idempotency key: nobody asks in vain, or sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

from streams.admin.tracking import Tracked, Tracking
from streams.broker.admin.cancel import Cancelling
from streams.broker.admin.dedup import DedupIds
from streams.broker.admin.erase import ErasingStore
from streams.broker.admin.inspect import Inspecting
from streams.common.log_facts import logger_of
from streams.errors import BrokerError, NotFound, PublishError, Snooze
from streams.events.codec import decode
from streams.events.event import META_NAMES, Event
from streams.events.names import parse_member
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.whatsapp.analytics import counts_of
from streams.whatsapp.sender import DECIDE, SEND
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import FINAL, GROUP, STREAM, MessageStatus, tracking

logger = logger_of("whatsapp")
_LOOK = 0.5
QUIET = 10.0
"""Seconds without anything to hand over after which the relay ends: callers may be storing a last message there."""
_AWAY = 5.0


@dataclass(slots=True)
class HandedOver:
    """What a relay did: messages that were waiting, and statuses of those that were done."""

    messages: int = 0
    statuses: int = 0


class Relay:
    """Empties an embedded queue.

    Args:
        source: of the embedded server.
        target: of the server that it stood in for.
        settings: of the application.

    Attributes:
        done: what was handed over so far.
    """

    def __init__(
        self, source: Settings, target: Settings, settings: WhatsAppSettings
    ) -> None:
        self.done = HandedOver()
        self._settings = settings
        self._source = Pipeline(settings=source)
        self._target = Pipeline(settings=target)
        handler = self._source.handler(
            STREAM,
            group=GROUP,
            types=[SEND, DECIDE],
            order_by=("instance", "subject"),
            fair_by="tenant",
        )
        handler(self._hand_over)
        self._stopping = False
        self._busy = time.monotonic()

    async def run(self) -> None:
        """Hand over until nothing was left for a while, or ``stop``."""
        self._busy = time.monotonic()
        async with self._source, self._target:
            for pause in await self._source.pauses(STREAM).list():
                # What an instance could not send from there is the target's to hold.
                where = {pause.attribute: pause.value} if pause.attribute else {}
                with contextlib.suppress(NotFound):
                    await self._source.pauses(STREAM, by="relay").resume(
                        group=pause.group, level=pause.level, **where
                    )
            running = asyncio.create_task(self._source.run())
            try:
                while not running.done() and not self._stopping:
                    try:
                        await self._look()
                    except BrokerError as error:
                        logger.warning("the relay waits", extra={"error": str(error)})
                        await asyncio.sleep(_AWAY)
                    if time.monotonic() - self._busy > QUIET:
                        break
                    await asyncio.sleep(_LOOK)
            finally:
                while not running.done():
                    self._source.stop()
                    await asyncio.wait([running], timeout=1.0)
                running.result()
        if self.done.messages or self.done.statuses:
            logger.warning(
                "handed over what the embedded server took",
                extra={"messages": self.done.messages, "statuses": self.done.statuses},
            )

    def stop(self) -> None:
        """Let ``run`` end; what is left is handed over another time. Any thread may call it."""
        self._stopping = True

    async def _look(self) -> None:
        """Hand over what no worker is given: idempotency keys, statuses, and what is scheduled."""
        rows = await DedupIds(
            self._source.broker, self._source.broker.keys(STREAM)
        ).all()
        await DedupIds(self._target.broker, self._target.broker.keys(STREAM)).take(rows)
        await self._scheduled()
        await self._statuses()
        left = (
            await self._source.status().stream(STREAM)
            if await self._source.status().levels(STREAM)
            else None
        )
        if left is not None and (left.stored or left.scheduled):
            self._busy = time.monotonic()

    async def _scheduled(self) -> None:
        source, now = self._source.broker, self._source.broker.clock.now()
        levels = await self._source.status().levels(STREAM)
        cancelling = Cancelling(source, source.keys(STREAM), levels)
        async for page in ErasingStore(source, source.keys(STREAM)).scheduled():
            found = await Inspecting(source).scheduled_many(
                STREAM, [name for name, _ in page]
            )
            for name, later in found.items():
                event = decode(later.fields)
                event.priority = parse_member(name)[0]
                await self._publish(event, delay=max(0.0, (later.due or now) - now))
                # Had it become due meanwhile, it would be published with the same dedup id.
                await cancelling.scheduled([name], "relay")

    async def _statuses(self) -> None:
        """What was sent or failed from here; the others come with their messages."""
        notes = self._notes(self._source)
        async for idents in notes.known():
            for ident in idents:
                tracked = await notes.get(ident)
                if tracked is not None and tracked.state in FINAL:
                    await self._note(tracked)
                    links = (
                        [found]
                        if (found := tracked.fields.get("provider_id", ""))
                        else []
                    )
                    await notes.forget([ident], links=links)
                    self.done.statuses += 1
                    self._busy = time.monotonic()

    async def _hand_over(self, event: Event[Any]) -> None:
        """Publish one message, as it was queued, on the target."""
        ident = str(event.data["message_id"]) if event.type == DECIDE else event.id
        known = await self._notes(self._source).get(ident)
        if (
            event.type == SEND
            and known is not None
            and known.fields.get("provider_id")
            and not event.replays
        ):
            # It went out; only its acknowledgement was lost. Its status comes by itself.
            return
        try:
            await self._publish(event)
        except (BrokerError, PublishError) as error:
            # The outage of the target is no failure of the message, whose retries may be few.
            raise Snooze(_AWAY, f"the server is away: {type(error).__name__}") from None

    async def _publish(self, event: Event[Any], delay: float = 0.0) -> None:
        ident = str(event.data["message_id"]) if event.type == DECIDE else event.id
        notes = self._notes(self._source)
        known = await notes.get(ident)
        if known is not None and known.state not in FINAL:
            # Before the message: what is under way with nobody knowing whether it went out must be known there.
            await self._note(known)
        meta = {name: value for name, value in event.meta.items() if name != "expires"}
        attributes: dict[str, Any] = {
            name: meta.pop(name) for name in list(meta) if name in META_NAMES
        }
        if event.expires is not None:
            attributes["expires"] = max(
                0.001, event.expires - self._target.broker.clock.now()
            )
        receipt = await self._target.publish(
            STREAM,
            event.data,
            type=event.type,
            id=event.id,
            priority=event.priority,
            delay=delay,
            dedup_id=f"relay-{event.id}-{event.replays}",
            headers=meta,
            **attributes,
        )
        if not receipt.duplicate:
            self.done.messages += 1
        self._busy = time.monotonic()
        if known is not None and known.state not in FINAL:
            await notes.forget([ident])

    async def _note(self, tracked: Tracked) -> None:
        """Let the target know of a message what was known of it here, and count it there."""
        notes, fields = self._notes(self._target), dict(tracked.fields)
        whose = fields.get("tenant", ""), fields.get("instance", "")
        recipient, now = fields.get("recipient", ""), self._target.broker.clock.now()
        for state in dict.fromkeys(
            (MessageStatus.PENDING, MessageStatus(tracked.state))
        ):
            reason = fields.get("reason", "")
            counts = counts_of(state, *whose, now=now, reason=reason)
            await notes.note(
                tracked.id, state, {"from": "fallback"}, fields=fields, counts=counts
            )
        if fields.get("provider_id"):
            await notes.link(fields["provider_id"], tracked.id)
        if recipient:
            await notes.file(recipient, tracked.id)

    def _notes(self, pipeline: Pipeline) -> Tracking:
        return tracking(pipeline, self._settings.retention)
