"""Evolution API, version 2: sessions of WhatsApp Web behind an HTTP server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Again, Blocked, Hopeless, Outcome, Sent, Unknown
from streams.whatsapp.providers.base import Connection, Instance, answer, post

_STATES = {
    "open": Connection.OPEN,
    "connecting": Connection.CONNECTING,
    "close": Connection.CLOSED,
}
_BROKEN = ("connection closed", "reading 'textmessage'")
"""Parts of error texts, in lower case, of a session whose socket is gone."""


class EvolutionProvider:
    """Sends through an Evolution server.

    Args:
        timeout: seconds for one request.
        client: of the library for HTTP; None: one of its own.
    """

    def __init__(
        self, timeout: float = 30.0, client: httpx.AsyncClient | None = None
    ) -> None:
        self._client = client or httpx.AsyncClient(
            timeout=timeout, follow_redirects=False
        )

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Send once. The server has no place for ``message_id``: its own id is what status webhooks carry."""
        del message_id
        made = request(message)
        if made is None:
            return Hopeless(reason=f"this provider cannot send {message.kind}")
        path, body = made
        url = f"{instance.base_url.rstrip('/')}/message/{path}/{quote(instance.called, safe='')}"
        reply = await post(self._client, url, body, _headers(instance))
        return reply if isinstance(reply, (Again, Unknown)) else read(reply)

    async def connection(self, instance: Instance) -> Connection:
        """What the server says of the session; anything but ``open`` counts as not connected."""
        url = f"{instance.base_url.rstrip('/')}/instance/connectionState/{quote(instance.called, safe='')}"
        try:
            reply = await self._client.get(url, headers=_headers(instance))
        except (httpx.HTTPError, httpx.InvalidURL):
            return Connection.UNKNOWN
        found = answer(reply)
        if not reply.is_success or not isinstance(found, Mapping):
            return Connection.CLOSED if reply.is_client_error else Connection.UNKNOWN
        state = found.get("instance")
        return (
            _STATES.get(str(state.get("state")), Connection.CLOSED)
            if isinstance(state, Mapping)
            else Connection.CLOSED
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def request(message: Message) -> tuple[str, dict[str, Any]] | None:
    """Path and body of a request; None: this server cannot send such a message."""
    body: Any = message.content.body()
    number = message.to.phone.removeprefix("+")
    if not number:
        return None  # It knows numbers only.
    made: tuple[str, dict[str, Any]] | None = None
    if message.kind == "text":
        made = (
            "sendText",
            {
                "number": number,
                "text": body["body"],
                "linkPreview": bool(body.get("preview_url")),
            },
        )
    elif message.kind in ("image", "video", "document") and body.get("link"):
        media = {
            "number": number,
            "mediatype": message.kind,
            "media": body["link"],
            "caption": body.get("caption", ""),
        }
        made = (
            "sendMedia",
            media | ({"fileName": body["filename"]} if body.get("filename") else {}),
        )
    elif message.kind == "audio" and body.get("link"):
        made = "sendWhatsAppAudio", {"number": number, "audio": body["link"]}
    elif message.kind == "location":
        place = {name: body.get(name, "") for name in ("name", "address")}
        made = (
            "sendLocation",
            {
                "number": number,
                **place,
                **{k: body[k] for k in ("latitude", "longitude")},
            },
        )
    elif message.kind == "reaction":
        key = {
            "remoteJid": f"{number}@s.whatsapp.net",
            "fromMe": False,
            "id": body["message_id"],
        }
        return "sendReaction", {"key": key, "reaction": body["emoji"]}
    if made is not None and message.reply_to:
        made[1]["quoted"] = {"key": {"id": message.reply_to}}
    return made


def read(response: httpx.Response) -> Outcome:
    """What a response means; see the error table in ``docs/whatsapp/errors.md``."""
    found = answer(response)
    if response.is_success:
        key = found.get("key") if isinstance(found, Mapping) else None
        ident = key.get("id") if isinstance(key, Mapping) else None
        if isinstance(ident, str) and ident:
            return Sent(reason="accepted", provider_id=ident)
        return Unknown(reason="accepted without an id")
    code = str(response.status_code)
    said = found.get("response") if isinstance(found, Mapping) else None
    messages = list(_flat(said.get("message") if isinstance(said, Mapping) else None))
    texts = [text.lower() for text in messages if isinstance(text, str)]
    if isinstance(found, Mapping) and found.get("code") == "LICENSE_REQUIRED":
        outcome: Outcome = Blocked(code, "license_required")
    elif response.status_code in (
        httpx.codes.UNAUTHORIZED,
        httpx.codes.FORBIDDEN,
        httpx.codes.NOT_FOUND,
    ):
        outcome = Blocked(
            code,
            {401: "api_key", 403: "forbidden", 404: "instance_missing"}[
                response.status_code
            ],
        )
    elif any(part in text for text in texts for part in _BROKEN):
        outcome = Blocked(code, "disconnected")
    elif any(
        isinstance(row, Mapping) and row.get("exists") is False for row in messages
    ):
        outcome = Hopeless(code, "undeliverable")
    elif response.status_code == httpx.codes.BAD_REQUEST and any(
        "error:" in text for text in texts
    ):
        outcome = Unknown(code, "failed after partial work")
    elif response.is_server_error:
        outcome = Again(code, "server_error")
    else:
        outcome = Hopeless(code, "refused")
    return outcome


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _headers(instance: Instance) -> dict[str, str]:
    return {"apikey": instance.token}
