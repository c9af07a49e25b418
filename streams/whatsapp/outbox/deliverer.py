"""The deliverer: the handler that calls the tenants' endpoints."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from streams.common.log_facts import logger_of
from streams.errors import ConfigurationError, Reject
from streams.events.event import Event
from streams.pipeline import Pipeline
from streams.policy.limit import Limit
from streams.policy.retry import Retry
from streams.whatsapp.outbox.endpoints import TOLD, Endpoint, Endpoints, Subscriptions
from streams.whatsapp.outbox.signing import signed
from streams.whatsapp.providers.base import retry_after
from streams.whatsapp.settings import DAY, WhatsAppSettings
from streams.whatsapp.status import MessageStatus

logger = logger_of("whatsapp")

WEBHOOK_STREAM = "whatsapp-webhooks"
TELL = "webhook.call"
SCHEDULE = (
    5.0,
    300.0,
    1800.0,
    7200.0,
    18_000.0,
    36_000.0,
    50_400.0,
    72_000.0,
    86_400.0,
)
"""Seconds before each retry, from the Standard Webhooks specification: three days in all."""
_PATIENCE = 5 * DAY
"""Seconds of failures after which an endpoint is disabled."""
_TIMEOUT = 20.0
_LARGEST = 64 * 1024


class NotDelivered(Exception):  # noqa: N818 - an outcome, told in the field's words
    """An endpoint refused a call, which is tried again after ``retry_after`` seconds."""

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(reason)
        self.retry_after = after


class Deliverer:
    """Reports the states of messages to tenants. Declares its handler on the pipeline.

    Args:
        pipeline: without handlers on the stream ``whatsapp-webhooks``.
        settings: of the application.
    """

    def __init__(self, pipeline: Pipeline, settings: WhatsAppSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._endpoints = Endpoints(pipeline, settings)
        self._subscriptions = Subscriptions(self._endpoints)
        handler = pipeline.handler(
            WEBHOOK_STREAM,
            group="deliverer",
            types=[TELL],
            retry=Retry(max_retries=len(SCHEDULE), jitter=0.1),
            fair_by="tenant",
            limits=[Limit("key", concurrency=5, name="endpoint")],
            timeout=_TIMEOUT + 10,
        )
        handler(self.deliver)

    async def tell(
        self, message_id: str, tenant: str, status: MessageStatus, facts: dict[str, Any]
    ) -> None:
        """Queue a call for each endpoint that subscribed; it holds no content, no number."""
        if status not in TOLD or not self._settings.webhook_key or not tenant:
            return

        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        body = {
            "type": f"message.{status}",
            "timestamp": at.replace("+00:00", "Z"),
            "data": {
                "message_id": message_id,
                "status": str(status),
                "tenant": tenant,
                **facts,
            },
        }
        attempt = facts.get("attempt", "")

        for endpoint in await self._subscriptions.of(tenant, status):
            await self._pipeline.publish(
                WEBHOOK_STREAM,
                {"endpoint": endpoint.id, "body": body},
                type=TELL,
                tenant=tenant,
                key=endpoint.id,
                # A state is reported again when an answer was lost.
                dedup_id=f"{message_id}:{status}:{attempt}:{endpoint.id}",
            )

    async def deliver(self, event: Event[Any]) -> None:
        """Call an endpoint once."""
        endpoints = self._endpoints
        endpoint = await endpoints.get(event.data["endpoint"])
        if endpoint is None:
            return  # Removed meanwhile.

        if endpoint.disabled:
            raise Reject(f"the endpoint is disabled: {endpoint.disabled}")

        raw = orjson.dumps(event.data["body"])
        ident = f"msg_{event.id.replace('.', '-').replace('|', '-')}"
        headers = signed(ident, int(time.time()), raw, endpoints.secrets(endpoint))

        try:
            response = await self._call(endpoint, raw, headers)
        except ConfigurationError as error:
            await endpoints.disable(endpoint.id, str(error))
            raise Reject(str(error)) from None
        except (OSError, httpx.HTTPError) as error:
            await self._not_taken(event, endpoint, type(error).__name__, None)
        else:
            if response.is_success:
                await endpoints.worked(endpoint)
            elif response.status_code == httpx.codes.GONE:
                await endpoints.disable(endpoint.id, "the endpoint answered 410")
                raise Reject("the endpoint answered 410")
            else:
                reason = f"status {response.status_code}"
                after = retry_after(response)
                await self._not_taken(event, endpoint, reason, after)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _not_taken(
        self, event: Event[Any], endpoint: Endpoint, reason: str, after: float | None
    ) -> None:
        if await self._endpoints.failed(endpoint.id, _PATIENCE):
            await self._endpoints.disable(endpoint.id, "it failed for five days")
            logger.error(
                "an endpoint is disabled",
                extra={"endpoint": endpoint.id, "error": reason},
            )

        planned = SCHEDULE[min(event.attempt, len(SCHEDULE)) - 1]
        raise NotDelivered(reason, max(planned, after or 0.0))

    async def _call(
        self, endpoint: Endpoint, raw: bytes, headers: dict[str, str]
    ) -> httpx.Response:
        """Call the address that was checked, without following redirects."""
        target = await self._endpoints.guard.target(endpoint.url)
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT,
                follow_redirects=False,
                trust_env=False,
                verify=ssl.create_default_context(),
            )

        head = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": "streams/1.0",
            **headers,
        }
        request = self._client.build_request(
            "POST",
            target.url,
            content=raw,
            headers=head,
            extensions={"sni_hostname": target.host},
        )
        response = await self._client.send(request, stream=True)

        try:
            size = 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > _LARGEST:
                    break  # Only the status counts.
        finally:
            await response.aclose()

        return response
