"""The relay: moves messages from the embedded server to the real one after an outage.

It is a worker of the embedded queue, so a message is either sent from there or moved, never both.
Statuses and idempotency keys of sent messages move too: they can be looked up on the real server,
and a repeated key sends nothing again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass
from typing import Any

from streams.admin.tracking import Tracked
from streams.broker.admin.cancel import CancelStore
from streams.broker.admin.erase import EraseStore
from streams.broker.admin.inspect import StatusStore
from streams.common.log_facts import logger_of
from streams.errors import BrokerError, NotFound, PublishError, Snooze
from streams.events.codec import decode
from streams.events.event import META_NAMES, Event
from streams.events.names import parse_member
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.whatsapp.idempotency import dedup_ids
from streams.whatsapp.journal import StatusLog
from streams.whatsapp.sender import DECIDE, SEND
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import FINAL, GROUP, STREAM, MessageStatus

logger = logger_of("whatsapp")
_LOOK = 0.5
QUIET = 10.0
"""Seconds of idleness before the relay ends: callers may still be storing a message."""
_AWAY = 5.0


@dataclass(slots=True)
class HandedOver:
    """Counts of a relay: waiting messages, and statuses of finished ones."""

    messages: int = 0
    statuses: int = 0


class Relay:
    """Empties an embedded queue.

    Args:
        source: the embedded server.
        target: the real server.
        settings: of the application.

    Attributes:
        done: counts so far.
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
        """Hand over until the queue stayed empty for ``QUIET`` seconds, or ``stop``."""
        self._busy = time.monotonic()

        async with self._source, self._target:
            await self._end_pauses()
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
                "handed over what the embedded server took", extra=asdict(self.done)
            )

    async def _end_pauses(self) -> None:
        """Resume held instances here: the target decides itself which ones it holds."""
        pauses = self._source.pauses(STREAM, by="relay")

        for pause in await pauses.list():
            scope = {pause.attribute: pause.value} if pause.attribute else {}

            with contextlib.suppress(NotFound):
                await pauses.resume(group=pause.group, level=pause.level, **scope)

    def stop(self) -> None:
        """End ``run`` from any thread; the next relay hands over the rest."""
        self._stopping = True

    async def _look(self) -> None:
        """Hand over idempotency keys, statuses and scheduled events: no worker gets them."""
        rows = await dedup_ids(self._source).all()
        await dedup_ids(self._target).take(rows)
        await self._scheduled()
        await self._statuses()
        status = self._source.status()

        if await status.levels(STREAM):
            left = await status.stream(STREAM)

            if left.stored or left.scheduled:
                self._busy = time.monotonic()

    async def _scheduled(self) -> None:
        source = self._source.broker
        keys = source.keys(STREAM)
        now = source.clock.now()
        levels = await self._source.status().levels(STREAM)
        cancelling = CancelStore(source, keys, levels)

        async for page in EraseStore(source, keys).scheduled():
            names = [name for name, _ in page]
            found = await StatusStore(source).scheduled_many(STREAM, names)

            for name, later in found.items():
                event = decode(later.fields)
                event.priority = parse_member(name)[0]
                delay = max(0.0, (later.due or now) - now)
                await self._publish(event, delay=delay)
                # If it became due meanwhile, a worker hands it over under the same dedup id.
                await cancelling.scheduled([name], "relay")

    async def _statuses(self) -> None:
        """Hand over final statuses; the others move with their messages."""
        notes = self._log(self._source).tracking

        async for idents in notes.known():
            for ident in idents:
                tracked = await notes.get(ident)

                if tracked is None or tracked.state not in FINAL:
                    continue

                await self._note(tracked)
                provider_id = tracked.fields.get("provider_id")
                links = [provider_id] if provider_id else []
                await notes.forget([ident], links=links)
                self.done.statuses += 1
                self._busy = time.monotonic()

    async def _hand_over(self, event: Event[Any]) -> None:
        """Publish one message, as it was queued, on the target."""
        known = await self._log(self._source).tracking.get(_message_id(event))
        was_sent = known is not None and known.fields.get("provider_id")

        if event.type == SEND and was_sent and not event.replays:
            # Only the acknowledgement was lost. The status is handed over by itself.
            return

        try:
            await self._publish(event)
        except (BrokerError, PublishError) as error:
            # An outage of the target must not use up the retries of the message.
            raise Snooze(_AWAY, f"the server is away: {type(error).__name__}") from None

    async def _publish(self, event: Event[Any], delay: float = 0.0) -> None:
        ident = _message_id(event)
        notes = self._log(self._source).tracking
        known = await notes.get(ident)
        is_open = known is not None and known.state not in FINAL

        if known is not None and is_open:
            # Before the message: the target must know of a try with an unknown outcome.
            await self._note(known)

        meta = {name: value for name, value in event.meta.items() if name != "expires"}
        attributes: dict[str, Any] = {
            name: meta.pop(name) for name in META_NAMES if name in meta
        }

        if event.expires is not None:
            left = event.expires - self._target.broker.clock.now()
            attributes["expires"] = max(0.001, left)

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

        if is_open:
            await notes.forget([ident])

    async def _note(self, tracked: Tracked) -> None:
        """Store and count a status on the target, as queued first."""
        log = self._log(self._target)
        state = MessageStatus(tracked.state)
        fields = dict(tracked.fields)
        facts = {"from": "fallback"}

        if state is not MessageStatus.PENDING:
            owner = {name: fields.get(name, "") for name in ("tenant", "instance")}
            await log.note(tracked.id, MessageStatus.PENDING, facts, fields=owner)
            facts["reason"] = fields.get("reason", "")

        await log.note(tracked.id, state, facts, fields=fields)

    def _log(self, pipeline: Pipeline) -> StatusLog:
        return StatusLog(pipeline, self._settings)


def _message_id(event: Event[Any]) -> str:
    return str(event.data["message_id"]) if event.type == DECIDE else event.id
