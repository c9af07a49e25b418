"""The webhook endpoint as an ASGI application.

It only checks and publishes, so it answers in milliseconds.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streams.common.log_facts import logger_of
from streams.errors import (
    BrokerUnavailable,
    InvalidMessage,
    StreamsError,
    WrongCredentials,
)
from streams.events.event import Event
from streams.pipeline import Pipeline
from streams.producer import Producer, ProducerOptions
from streams.whatsapp.recipient import Recipient
from streams.whatsapp.settings import DAY, WhatsAppSettings
from streams.whatsapp.webhooks.tracker import (
    CONNECTION,
    INBOUND_STREAM,
    RECEIVED,
    STATUS,
    STATUS_STREAM,
)
from streams.whatsapp.webhooks.updates import (
    ConnectionUpdate,
    InboundMessage,
    StatusUpdate,
    Update,
    from_evolution,
    from_meta,
    signed_by_meta,
)
from streams.worker.patience import Recovering

logger = logger_of("whatsapp")
LARGEST = 4 * 1024 * 1024
"""Bytes of a call; Meta's have at most 3 MB."""
REMEMBERED = 7 * DAY
"""Seconds for which repeated updates are dropped; providers retry for that long."""


class WebhookApp:
    """``/meta`` for the Cloud API and ``/evolution`` for Evolution servers.

    Args:
        pipeline: opened while the application runs.
        settings: with ``verify_token`` and ``app_secret`` for Meta, ``webhook_secret`` for
            Evolution; an endpoint without its secret refuses all calls.

    Attributes:
        app: the ASGI application.
    """

    def __init__(self, pipeline: Pipeline, settings: WhatsAppSettings) -> None:
        self._pipeline = pipeline
        pipeline.patience = pipeline.settings.wait
        self._settings = settings
        self._producers: dict[str, Producer] = {}
        self._recovering: Recovering | None = None
        self.app = Starlette(
            routes=[
                Route("/meta", self._verify, methods=["GET"]),
                Route("/meta", self._meta, methods=["POST"]),
                Route("/evolution", self._evolution, methods=["POST"]),
            ],
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Keep the pipeline open. Pass it to the application that mounts this one."""
        async with self._pipeline:
            self._recovering = recovering = Recovering(self._pipeline.broker, "webhook")
            if not self._pipeline.broker.was_reached:
                recovering.start()

            options = ProducerOptions(
                levels=self._pipeline.settings.levels, dedup_window=REMEMBERED
            )
            self._producers = {
                name: Producer(self._pipeline.broker, name, options)
                for name in (STATUS_STREAM, INBOUND_STREAM)
            }

            try:
                yield
            finally:
                await recovering.close()
                self._producers = {}

    async def _verify(self, request: Request) -> Response:
        """Answer Meta's verification of the webhook."""
        query, token = request.query_params, self._settings.verify_token
        given = query.get("hub.verify_token", "")
        if query.get("hub.mode") != "subscribe" or not token or not _same(given, token):
            return PlainTextResponse("the verify token is another one", 403)

        return PlainTextResponse(query.get("hub.challenge", ""))

    async def _meta(self, request: Request) -> Response:
        raw = await _read(request)
        if raw is None:
            return PlainTextResponse("too large", 413)

        secret = self._settings.app_secret
        header = request.headers.get("x-hub-signature-256", "")
        if not secret or not signed_by_meta(raw, header, secret):
            return PlainTextResponse("the signature is not that of the body", 403)

        return await self._take(raw, from_meta)

    async def _evolution(self, request: Request) -> Response:
        secret = self._settings.webhook_secret
        if not secret or not _same(request.headers.get("x-webhook-secret", ""), secret):
            return PlainTextResponse("the header X-Webhook-Secret is another one", 403)

        raw = await _read(request)
        if raw is None:
            return PlainTextResponse("too large", 413)

        return await self._take(raw, from_evolution)

    async def _take(
        self, raw: bytes, read: Callable[[Any], Iterator[Update]]
    ) -> Response:
        try:
            updates = list(read(orjson.loads(raw)))
        except orjson.JSONDecodeError:
            return PlainTextResponse("no JSON", 400)

        # Statuses first: inbound messages are optional and must not delay them.
        updates.sort(key=lambda update: isinstance(update, InboundMessage))
        try:
            for update in updates:
                await self._publish(update)
        except (BrokerUnavailable, WrongCredentials) as error:
            if self._recovering is not None:
                self._recovering.report(error)

            return PlainTextResponse("the server is away: try again", 503)
        except StreamsError as error:
            logger.error("a webhook cannot be stored", extra={"error": str(error)})  # noqa: TRY400
            return PlainTextResponse("try again", 503)

        return PlainTextResponse("ok")

    async def _publish(self, update: Update) -> None:
        stream = STATUS_STREAM

        match update:
            case StatusUpdate():
                received = round(self._pipeline.broker.clock.now(), 3)
                data = {**asdict(update), "received": received}
                key = (update.callback or update.provider_id)[:200]
                event = Event[Any](STATUS, data, key=key, dedup_id=update.dedup_id)
            case ConnectionUpdate():
                key = f"connection {update.instance}"[:200]
                event = Event[Any](CONNECTION, asdict(update), key=key)
            case InboundMessage():
                if not self._settings.inbound:
                    return

                stream, event = INBOUND_STREAM, self._received(update)

        await self._producers[stream].publish(event)

    def _received(self, update: InboundMessage) -> Event[Any]:
        headers = {}
        # An erasure finds the messages of a person by this hash.
        with contextlib.suppress(InvalidMessage):
            sender = Recipient.parse(update.sender)
            headers["recipient"] = sender.hashed(self._settings.lookup_key)

        return Event(
            RECEIVED,
            asdict(update),
            instance=update.instance or "unknown",
            headers=headers,
            dedup_id=update.provider_id[:500],
        )


async def _read(request: Request) -> bytes | None:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            return None

        parts.append(part)

    return b"".join(parts)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
