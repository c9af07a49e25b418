"""The WhatsApp Cloud API of Meta."""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Again, Blocked, Hopeless, Outcome, Throttled
from streams.whatsapp.providers.base import (
    Connection,
    HttpProvider,
    Instance,
    accepted,
    answer,
    as_object,
    as_objects,
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
_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND)


class CloudProvider(HttpProvider):
    """Sends through the Cloud API.

    Args:
        version: of the Graph API.
        timeout: seconds for one request.
        client: HTTP client to use; None creates one.
    """

    def __init__(
        self,
        version: str = VERSION,
        timeout: float = 20.0,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(timeout, client)
        self._version = version

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Send once; each status webhook of the message repeats ``message_id``."""
        url = f"{self._root(instance)}/messages"
        body = request(message, message_id)
        return await self._post(url, body, _headers(instance), read)

    async def connection(self, instance: Instance) -> Connection:
        """Ask for the health status of the phone number."""
        fields = {"fields": "health_status"}
        response = await self._get(self._root(instance), _headers(instance), fields)
        if response is None:
            return Connection.UNKNOWN

        found = answer(response)
        if response.status_code == httpx.codes.OK:
            state = as_object(found.get("health_status")).get("can_send_message")
            return _STATES.get(str(state), Connection.UNKNOWN)

        error = read_error(found.get("error"))
        if error is not None and isinstance(
            decide(error[0], subcode=error[1]), Blocked
        ):
            return Connection.CLOSED

        return Connection.UNKNOWN

    def _root(self, instance: Instance) -> str:
        base_url = (instance.base_url or BASE_URL).rstrip("/")
        return f"{base_url}/{self._version}/{instance.called}"


def request(message: Message, message_id: str) -> dict[str, Any]:
    """The body of a request for ``/messages``."""
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "type": message.kind,
        message.kind: message.content.body(),
    }

    if message.to.bsuid:
        body["recipient"] = message.to.bsuid
    else:
        body["to"] = message.to.phone

    if message.reply_to:
        body["context"] = {"message_id": message.reply_to}

    if message_id:
        body["biz_opaque_callback_data"] = message_id

    return body


def read(response: httpx.Response) -> Outcome:
    """The outcome that a response stands for."""
    found = answer(response)
    if response.is_success:
        first = next(iter(as_objects(found.get("messages"))), {})
        return accepted(first.get("id"), str(first.get("message_status", "accepted")))

    after = retry_after(response)
    error = read_error(found.get("error"))
    if error is not None:
        code, subcode, trace = error
        wait = _regain(response) or after
        return decide(code, subcode=subcode, trace=trace, after=wait)

    return _by_status(response, after)


def _by_status(response: httpx.Response, after: float | None) -> Outcome:
    """The outcome of an answer without an error object, as gateways give it."""
    status = str(response.status_code)
    if response.is_server_error:
        return Again(status, "server_error", after=after)

    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        wait = after or 30.0
        return Throttled(status, "too_many_requests", scope="instance", after=wait)

    if response.status_code in _REFUSED:
        return Blocked(status, "refused")

    if response.is_redirect:
        return Blocked(status, "redirected")

    return Hopeless(status, "refused")


def _regain(response: httpx.Response) -> float | None:
    """Seconds until access is regained; the usage header gives them in minutes."""
    try:
        usage = orjson.loads(response.headers.get("x-business-use-case-usage", ""))
        longest = max(
            float(row["estimated_time_to_regain_access"])
            for rows in usage.values()
            for row in rows
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

    return min(longest * 60, 86_400.0) or None


def _headers(instance: Instance) -> dict[str, str]:
    return {"Authorization": f"Bearer {instance.token}"}
