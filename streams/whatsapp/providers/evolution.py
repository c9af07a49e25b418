"""Evolution API, version 2: sessions of WhatsApp Web behind an HTTP server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Again, Blocked, Hopeless, Outcome, Unknown
from streams.whatsapp.providers.base import (
    Connection,
    HttpProvider,
    Instance,
    accepted,
    answer,
    as_object,
)

_STATES = {
    "open": Connection.OPEN,
    "connecting": Connection.CONNECTING,
    "close": Connection.CLOSED,
}
_BROKEN = ("connection closed", "reading 'textmessage'")
"""Parts of error texts, in lower case, that show that the session lost its socket."""
_BLOCKED = {
    httpx.codes.UNAUTHORIZED: "api_key",
    httpx.codes.FORBIDDEN: "forbidden",
    httpx.codes.NOT_FOUND: "instance_missing",
}
_PATHS = {
    "text": "sendText",
    "image": "sendMedia",
    "video": "sendMedia",
    "document": "sendMedia",
    "audio": "sendWhatsAppAudio",
    "location": "sendLocation",
    "reaction": "sendReaction",
}


class EvolutionProvider(HttpProvider):
    """Sends through an Evolution server.

    Args:
        timeout: seconds for one request.
        client: HTTP client to use; None creates one.
    """

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Send once. The server cannot carry ``message_id``; webhooks name its own id."""
        del message_id
        made = request(message)
        if made is None:
            return Hopeless(reason=f"this provider cannot send {message.kind}")

        path, body = made
        url = _url(instance, f"message/{path}")
        return await self._post(url, body, _headers(instance), read)

    async def connection(self, instance: Instance) -> Connection:
        """Ask for the state of the session; any word but ``open`` means not connected."""
        url = _url(instance, "instance/connectionState")
        response = await self._get(url, _headers(instance))
        if response is None:
            return Connection.UNKNOWN

        found = answer(response)
        if response.is_client_error:
            return Connection.CLOSED

        if not response.is_success or not found:
            return Connection.UNKNOWN

        state = as_object(found.get("instance")).get("state")
        return _STATES.get(str(state), Connection.CLOSED)


def request(message: Message) -> tuple[str, dict[str, Any]] | None:
    """Path and body of a request; None if this server cannot send such a message."""
    number = message.to.phone.removeprefix("+")
    if not number or message.kind not in _PATHS:
        return None  # The server knows numbers only, no user ids.

    path = _PATHS[message.kind]
    body: Mapping[str, Any] = message.content.body()
    if message.kind == "reaction":
        key = {
            "remoteJid": f"{number}@s.whatsapp.net",
            "fromMe": False,
            "id": body["message_id"],
        }
        return path, {"key": key, "reaction": body["emoji"]}

    fields = _fields(message.kind, body)
    if fields is None:
        return None

    if message.reply_to:
        fields["quoted"] = {"key": {"id": message.reply_to}}

    return path, {"number": number, **fields}


def _fields(kind: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a kind beside the number; None for a file without a link."""
    if kind == "text":
        preview = bool(body.get("preview_url"))
        return {"text": body["body"], "linkPreview": preview}

    if kind == "location":
        return {
            "name": body.get("name", ""),
            "address": body.get("address", ""),
            "latitude": body["latitude"],
            "longitude": body["longitude"],
        }

    link = body.get("link")
    if not link:
        return None

    if kind == "audio":
        return {"audio": link}

    caption = body.get("caption", "")
    media = {"mediatype": kind, "media": link, "caption": caption}
    if body.get("filename"):
        media["fileName"] = body["filename"]

    return media


def read(response: httpx.Response) -> Outcome:
    """The outcome of a response, by the error table in ``docs/whatsapp/errors.md``."""
    found = answer(response)
    if response.is_success:
        return accepted(as_object(found.get("key")).get("id"))

    code = str(response.status_code)
    reason = _blocked(response.status_code, found)
    if reason:
        return Blocked(code, reason)

    if any(as_object(row).get("exists") is False for row in _messages(found)):
        return Hopeless(code, "undeliverable")

    is_partial = any("error:" in text for text in _texts(found))
    if response.status_code == httpx.codes.BAD_REQUEST and is_partial:
        return Unknown(code, "failed after partial work")

    if response.is_server_error:
        return Again(code, "server_error")

    return Hopeless(code, "refused")


def _blocked(status: int, found: Mapping[str, Any]) -> str:
    """Why the whole instance cannot send; '' if the error is of this message."""
    if found.get("code") == "LICENSE_REQUIRED":
        return "license_required"

    if status in _BLOCKED:
        return _BLOCKED[httpx.codes(status)]

    is_broken = any(part in text for text in _texts(found) for part in _BROKEN)
    return "disconnected" if is_broken else ""


def _messages(found: Mapping[str, Any]) -> Iterator[Any]:
    return _flat(as_object(found.get("response")).get("message"))


def _texts(found: Mapping[str, Any]) -> Iterator[str]:
    return (text.lower() for text in _messages(found) if isinstance(text, str))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _url(instance: Instance, path: str) -> str:
    name = quote(instance.called, safe="")
    return f"{instance.base_url.rstrip('/')}/{path}/{name}"


def _headers(instance: Instance) -> dict[str, str]:
    return {"apikey": instance.token}
