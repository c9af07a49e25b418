"""What webhooks say, read: statuses and inbound messages, in one form for every provider. Pure, no I/O."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streams.whatsapp.providers.base import Connection
from streams.whatsapp.providers.meta_errors import TABLE
from streams.whatsapp.status import MessageStatus

_META = {
    "sent": MessageStatus.SENT,
    "delivered": MessageStatus.DELIVERED,
    "read": MessageStatus.READ,
    "played": MessageStatus.READ,
    "failed": MessageStatus.FAILED,
}
_CONNECTION = {"open": Connection.OPEN, "connecting": Connection.CONNECTING}
_EVOLUTION = {
    "SERVER_ACK": MessageStatus.SENT,
    "DELIVERY_ACK": MessageStatus.DELIVERED,
    "READ": MessageStatus.READ,
    "PLAYED": MessageStatus.READ,
    "ERROR": MessageStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """One status of one message.

    Attributes:
        provider_id: how the provider names the message.
        status: what became of it.
        at: when, Unix seconds as the provider says; 0 if it does not.
        callback: the message's own id, if the provider carries it; else ''.
        code, reason: of a failure; '' otherwise.
    """

    provider_id: str
    status: MessageStatus
    at: int
    callback: str = ""
    code: str = ""
    reason: str = ""

    @property
    def dedup_id(self) -> str:
        """The same for every delivery of this update."""
        return hashlib.sha256(
            f"{self.provider_id}\n{self.status}\n{self.at}".encode()
        ).hexdigest()


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message that somebody sent to an instance.

    Attributes:
        provider_id: how the provider names the message.
        instance: what the provider calls the instance (phone number id, session).
        sender: phone number or business-scoped id of who wrote it.
        kind: the provider's word for what it is; ``text`` has a ``text``.
        text: of a text message, or the title of the button or row that was chosen.
        message: the whole, as the provider sent it.
    """

    provider_id: str
    instance: str
    sender: str
    kind: str
    text: str
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ConnectionUpdate:
    """What became of the connection of an instance.

    Attributes:
        instance: what the provider calls the instance.
        state: whether it can send now.
        reason: the provider's number for why it cannot; '' if it can, or does not say.
    """

    instance: str
    state: Connection
    reason: str = ""


Update = StatusUpdate | InboundMessage | ConnectionUpdate


def signed_by_meta(raw: bytes, header: str, app_secret: str) -> bool:
    """Whether ``X-Hub-Signature-256`` is that of the body's bytes. Compared in constant time."""
    wanted = hmac.new(app_secret.encode(), raw, hashlib.sha256).hexdigest()
    return hmac.compare_digest(
        f"sha256={wanted}".encode(), header.encode("utf-8", "replace")
    )


def from_meta(body: Any) -> Iterator[Update]:
    """The updates in a call of Meta's; what is none of ours is passed over."""
    for value in _values(body):
        metadata = _object(value.get("metadata"))
        for row in _objects(value.get("statuses")):
            update = _meta_status(row)
            if update is not None:
                yield update
        for row in _objects(value.get("messages")):
            if isinstance(row.get("id"), str):
                sender = row.get("from") or row.get("from_user_id") or ""
                kind = str(row.get("type", ""))
                yield InboundMessage(
                    row["id"],
                    str(metadata.get("phone_number_id", "")),
                    str(sender),
                    kind,
                    _text(row, kind),
                    row,
                )


def _meta_status(row: Mapping[str, Any]) -> StatusUpdate | None:
    status = _META.get(str(row.get("status")))
    if status is None or not isinstance(row.get("id"), str):
        return None
    code = reason = ""
    for error in _objects(row.get("errors"))[:1]:
        code = str(error.get("code", ""))
        reason = (
            TABLE[int(code)].reason
            if code.isdigit() and int(code) in TABLE
            else "unlisted"
        )
    callback = row.get("biz_opaque_callback_data")
    at = str(row.get("timestamp", ""))
    return StatusUpdate(
        row["id"],
        status,
        int(at) if at.isdigit() and len(at) < 12 else 0,
        callback if isinstance(callback, str) else "",
        code,
        reason,
    )


def from_evolution(body: Any) -> Iterator[Update]:
    """The updates in a call of an Evolution server."""
    whole = _object(body)
    instance = str(whole.get("instance", ""))
    rows = whole.get("data")
    for row in _objects(rows if isinstance(rows, list) else [rows]):
        if whole.get("event") == "messages.update":
            status = _EVOLUTION.get(str(row.get("status")))
            ident = row.get("keyId")
            if (
                status is not None
                and isinstance(ident, str)
                and row.get("fromMe", True)
            ):
                failed = status is MessageStatus.FAILED
                yield StatusUpdate(
                    ident, status, 0, reason="provider_error" if failed else ""
                )
        elif whole.get("event") == "connection.update" and instance:
            state = _CONNECTION.get(str(row.get("state")), Connection.CLOSED)
            code = row.get("statusReason")
            yield ConnectionUpdate(
                instance,
                state,
                str(code) if state is not Connection.OPEN and code else "",
            )
        elif whole.get("event") == "messages.upsert":
            key = _object(row.get("key"))
            if isinstance(key.get("id"), str) and not key.get("fromMe"):
                message = _object(row.get("message"))
                extended = _object(message.get("extendedTextMessage"))
                text = message.get("conversation") or extended.get("text") or ""
                sender = str(key.get("remoteJid", "")).partition("@")[0]
                kind = "text" if text else str(row.get("messageType", ""))
                yield InboundMessage(key["id"], instance, sender, kind, str(text), row)


def _values(body: Any) -> Iterator[Mapping[str, Any]]:
    for entry in _objects(_object(body).get("entry")):
        for change in _objects(entry.get("changes")):
            if change.get("field") == "messages":
                yield _object(change.get("value"))


def _text(row: Mapping[str, Any], kind: str) -> str:
    content = _object(row.get(kind))
    if kind == "interactive":
        content = _object(content.get("button_reply") or content.get("list_reply"))
    found = content.get("body") or content.get("title") or content.get("text") or ""
    return found if isinstance(found, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return (
        [row for row in value if isinstance(row, Mapping)]
        if isinstance(value, list)
        else []
    )
