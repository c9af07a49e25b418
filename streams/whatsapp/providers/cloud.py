"""The WhatsApp Cloud API of Meta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from streams.whatsapp.message import Message
from streams.whatsapp.outcome import (
    Again,
    Blocked,
    Hopeless,
    Outcome,
    Sent,
    Throttled,
    Unknown,
)
from streams.whatsapp.providers.base import (
    Connection,
    Instance,
    answer,
    post,
    retry_after,
)
from streams.whatsapp.providers.meta_errors import decide, read_error

BASE_URL = "https://graph.facebook.com"
VERSION = "v25.0"
_STATES = {
    "AVAILABLE": Connection.OPEN,
    "LIMITED": Connection.OPEN,
    "BLOCKED": Connection.CLOSED,
}


class CloudProvider:
    """Sends through the Cloud API.

    Args:
        version: of the Graph API.
        timeout: seconds for one request.
        client: of the library for HTTP; None: one of its own.
    """

    def __init__(
        self,
        version: str = VERSION,
        timeout: float = 20.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._version = version
        self._client = client or httpx.AsyncClient(
            timeout=timeout, follow_redirects=False
        )

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Send once; ``message_id`` comes back with every status webhook of the message."""
        reply = await post(
            self._client,
            f"{self._root(instance)}/messages",
            request(message, message_id),
            _headers(instance),
        )
        return reply if isinstance(reply, (Again, Unknown)) else read(reply)

    async def connection(self, instance: Instance) -> Connection:
        """What the health status of the phone number says."""
        try:
            reply = await self._client.get(
                self._root(instance),
                params={"fields": "health_status"},
                headers=_headers(instance),
            )
        except httpx.HTTPError:
            return Connection.UNKNOWN
        found = answer(reply)
        if reply.status_code != httpx.codes.OK or not isinstance(found, Mapping):
            error = (
                read_error(found.get("error")) if isinstance(found, Mapping) else None
            )
            blocked = error is not None and isinstance(
                decide(error[0], subcode=error[1]), Blocked
            )
            return Connection.CLOSED if blocked else Connection.UNKNOWN
        health = found.get("health_status")
        state = health.get("can_send_message") if isinstance(health, Mapping) else None
        return _STATES.get(str(state), Connection.UNKNOWN)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _root(self, instance: Instance) -> str:
        return f"{(instance.base_url or BASE_URL).rstrip('/')}/{self._version}/{instance.called}"


def request(message: Message, message_id: str) -> dict[str, Any]:
    """The body of a request for ``/messages``."""
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
    }
    body |= (
        {"recipient": message.to.bsuid}
        if message.to.bsuid
        else {"to": message.to.phone}
    )
    body |= {"type": message.kind, message.kind: message.content.body()}
    if message.reply_to:
        body["context"] = {"message_id": message.reply_to}
    if message_id:
        body["biz_opaque_callback_data"] = message_id
    return body


def read(response: httpx.Response) -> Outcome:
    """What a response means."""
    found = answer(response)
    if response.is_success:
        messages = found.get("messages") if isinstance(found, Mapping) else None
        first = messages[0] if isinstance(messages, list) and messages else None
        if (
            isinstance(first, Mapping)
            and isinstance(first.get("id"), str)
            and first["id"]
        ):
            return Sent(
                reason=str(first.get("message_status", "accepted")),
                provider_id=first["id"],
            )
        return Unknown(reason="accepted without an id")
    after = retry_after(response)
    error = read_error(found.get("error")) if isinstance(found, Mapping) else None
    if error is not None:
        code, subcode, trace = error
        return decide(
            code, subcode=subcode, trace=trace, after=_regain(response) or after
        )
    status = str(response.status_code)
    if response.is_server_error:
        return Again(status, "server_error", after=after)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return Throttled(
            status, "too_many_requests", scope="instance", after=after or 30.0
        )
    if response.status_code in (
        httpx.codes.UNAUTHORIZED,
        httpx.codes.FORBIDDEN,
        httpx.codes.NOT_FOUND,
    ):
        return Blocked(status, "refused")
    if response.is_redirect:
        return Blocked(status, "redirected")
    return Hopeless(status, "refused")


def _regain(response: httpx.Response) -> float | None:
    """Seconds until access is regained, from the usage header, whose figure is in minutes."""
    try:
        usage = orjson.loads(response.headers.get("x-business-use-case-usage", ""))
        minutes = [
            row["estimated_time_to_regain_access"]
            for rows in usage.values()
            for row in rows
        ]
        longest = max(float(value) for value in minutes)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return min(longest * 60, 86_400.0) or None


def _headers(instance: Instance) -> dict[str, str]:
    return {"Authorization": f"Bearer {instance.token}"}
