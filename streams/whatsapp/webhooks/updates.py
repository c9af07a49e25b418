"""Statuses, inbound messages and connections in webhooks, in one form for all providers.

Pure: no I/O.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streams.whatsapp.providers.base import Connection, as_object, as_objects
from streams.whatsapp.providers.meta_errors import rule_of
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
        provider_id: the provider's name for the message.
        status: the state that it reached.
        at: Unix seconds, as the provider says; 0 if it does not.
        callback: the message's own id, if the provider repeats it; else ''.
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
        parts = f"{self.provider_id}\n{self.status}\n{self.at}"
        return hashlib.sha256(parts.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message that a person sent to an instance.

    Attributes:
        provider_id: the provider's name for the message.
        instance: the provider's name for the instance (phone number id, session).
        sender: phone number or business-scoped id of its author.
        kind: the provider's word for its type; ``text`` has a ``text``.
        text: of a text message, or the title of the button or row that was chosen.
        message: the whole message, as the provider sent it.
    """

    provider_id: str
    instance: str
    sender: str
    kind: str
    text: str
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ConnectionUpdate:
    """A change in the connection of an instance.

    Attributes:
        instance: the provider's name for the instance.
        state: whether it can send now.
        reason: the provider's number for why it cannot; '' if it can, or gives none.
    """

    instance: str
    state: Connection
    reason: str = ""


Update = StatusUpdate | InboundMessage | ConnectionUpdate


def signed_by_meta(raw: bytes, header: str, app_secret: str) -> bool:
    """Check ``X-Hub-Signature-256`` against the bytes of a body, in constant time."""
    wanted = hmac.new(
        app_secret.encode(),
        raw,
        hashlib.sha256,
    ).hexdigest()
    given = header.encode("utf-8", "replace")
    return hmac.compare_digest(f"sha256={wanted}".encode(), given)


def from_meta(body: Any) -> Iterator[Update]:
    """The updates in a call of Meta's; rows of other kinds are skipped."""
    for value in _values(body):
        metadata = as_object(value.get("metadata"))
        instance = str(metadata.get("phone_number_id", ""))
        for row in as_objects(value.get("statuses")):
            status = _meta_status(row)
            if status is not None:
                yield status

        for row in as_objects(value.get("messages")):
            message = _meta_message(row, instance)
            if message is not None:
                yield message


def _values(body: Any) -> Iterator[Mapping[str, Any]]:
    for entry in as_objects(as_object(body).get("entry")):
        for change in as_objects(entry.get("changes")):
            if change.get("field") == "messages":
                yield as_object(change.get("value"))


def _meta_status(row: Mapping[str, Any]) -> StatusUpdate | None:
    status = _META.get(str(row.get("status")))
    provider_id = row.get("id")
    if status is None or not isinstance(provider_id, str):
        return None

    errors = as_objects(row.get("errors"))
    code = str(errors[0].get("code", "")) if errors else ""
    reason = rule_of(code).reason if errors else ""
    callback = row.get("biz_opaque_callback_data")
    at = str(row.get("timestamp", ""))

    return StatusUpdate(
        provider_id=provider_id,
        status=status,
        at=int(at) if at.isdigit() and len(at) < 12 else 0,
        callback=callback if isinstance(callback, str) else "",
        code=code,
        reason=reason,
    )


def _meta_message(row: Mapping[str, Any], instance: str) -> InboundMessage | None:
    provider_id = row.get("id")
    if not isinstance(provider_id, str):
        return None

    kind = str(row.get("type", ""))
    sender = row.get("from") or row.get("from_user_id") or ""
    return InboundMessage(
        provider_id=provider_id,
        instance=instance,
        sender=str(sender),
        kind=kind,
        text=_meta_text(row, kind),
        message=row,
    )


def _meta_text(row: Mapping[str, Any], kind: str) -> str:
    content = as_object(row.get(kind))
    if kind == "interactive":
        chosen = content.get("button_reply") or content.get("list_reply")
        content = as_object(chosen)

    named = [content.get(name) for name in ("body", "title", "text")]
    found = next(filter(None, named), "")
    return found if isinstance(found, str) else ""


def from_evolution(body: Any) -> Iterator[Update]:
    """The updates in a call of an Evolution server; other events are skipped."""
    whole = as_object(body)
    read = _EVOLUTION_EVENTS.get(str(whole.get("event")))
    if read is None:
        return

    instance = str(whole.get("instance", ""))
    data = whole.get("data")
    rows = data if isinstance(data, list) else [data]

    for row in as_objects(rows):
        update = read(row, instance)
        if update is not None:
            yield update


def _evolution_status(row: Mapping[str, Any], _: str) -> StatusUpdate | None:
    status = _EVOLUTION.get(str(row.get("status")))
    ident = row.get("keyId")
    is_ours = row.get("fromMe", True)

    if status is None or not isinstance(ident, str) or not is_ours:
        return None

    reason = "provider_error" if status is MessageStatus.FAILED else ""
    return StatusUpdate(ident, status, 0, reason=reason)


def _evolution_connection(
    row: Mapping[str, Any], instance: str
) -> ConnectionUpdate | None:
    if not instance:
        return None

    state = _CONNECTION.get(
        str(row.get("state")),
        Connection.CLOSED,
    )
    code = row.get("statusReason")
    is_open = state is Connection.OPEN

    return ConnectionUpdate(
        instance=instance,
        state=state,
        reason=str(code) if code and not is_open else "",
    )


def _evolution_message(row: Mapping[str, Any], instance: str) -> InboundMessage | None:
    key = as_object(row.get("key"))
    provider_id = key.get("id")
    if not isinstance(provider_id, str) or key.get("fromMe"):
        return None

    message = as_object(row.get("message"))
    extended = as_object(message.get("extendedTextMessage"))
    text = message.get("conversation") or extended.get("text") or ""
    kind = "text" if text else str(row.get("messageType", ""))
    sender, _, _ = str(key.get("remoteJid", "")).partition("@")

    return InboundMessage(
        provider_id=provider_id,
        instance=instance,
        sender=sender,
        kind=kind,
        text=str(text),
        message=row,
    )


_EVOLUTION_EVENTS = {
    "messages.update": _evolution_status,
    "connection.update": _evolution_connection,
    "messages.upsert": _evolution_message,
}
