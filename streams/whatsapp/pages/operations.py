"""Operations of the API: queue a message, and look at one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from streams.dashboard.answers import record, schema_of
from streams.dashboard.calls import ident_of
from streams.dashboard.operations import (
    DELAY,
    EXPIRES,
    PRINTABLE,
    PRIORITY,
    TEXT,
    Operation,
    Schema,
    Told,
)
from streams.errors import NotFound
from streams.pipeline import Pipeline
from streams.whatsapp.content import Text
from streams.whatsapp.messages import Messages
from streams.whatsapp.pages.queries import MessageQueries
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import STREAM, MessageRecord

_PHONE = r"\+?[1-9]([ ().-]*[0-9]){7,14}"
_USER_ID = r"[A-Z]{2}\.[A-Za-z0-9]{1,100}"
MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "to": {
            "type": "string",
            "pattern": f"^({_PHONE}|{_USER_ID})$",
            "maxLength": 200,
            "description": "a phone number with country code, 8 to 15 digits,"
            " or a user id such as BR.1502",
        },
        "text": {"type": "string", "minLength": 1, "maxLength": 4096},
        "tenant": {**PRINTABLE, "maxLength": 90},
        "instance": TEXT,
        "priority": PRIORITY,
        "delay": DELAY,
        "expires": EXPIRES,
    },
    "required": ["to", "text"],
    "additionalProperties": False,
}


class MessageOperations:
    """The operations on messages.

    Args:
        pipeline: open while it is used.
        queries: ask for messages.
    """

    def __init__(self, pipeline: Pipeline, queries: MessageQueries) -> None:
        self._pipeline = pipeline
        self._queries = queries

    def all(self) -> list[Operation]:
        """Each of them; both are about the stream of messages."""
        queued = Told(
            "messages",
            "201 when it is queued, 200 if it was before.",
            record(message_id=str),
        )
        known = Told(
            "messages", "By its id, or the provider's.", schema_of(MessageRecord)
        )
        return [
            Operation(
                "POST",
                "/messages",
                "sendMessage",
                "Queue a WhatsApp message.",
                self.send,
                publishes=True,
                body=MESSAGE,
                status=201,
                stream=STREAM,
                told=queued,
            ),
            Operation(
                "GET",
                "/messages/{id}",
                "getMessage",
                "A message with its timeline.",
                self.message,
                stream=STREAM,
                told=known,
            ),
        ]

    async def send(self, request: Request, given: Mapping[str, Any]) -> tuple[int, Any]:
        """Queue a message."""
        options: dict[str, Any] = {
            name: value for name, value in given.items() if name not in ("to", "text")
        }
        if key := request.headers.get("idempotency-key", ""):
            options["idempotency_key"] = key
        messages = Messages(self._pipeline, WhatsAppSettings.from_env())
        ident, is_new = await messages.add_once(
            given["to"], Text(given["text"]), **options
        )
        return 201 if is_new else 200, {"message_id": ident}

    async def message(self, request: Request, _: Mapping[str, Any]) -> tuple[int, Any]:
        """A message."""
        found = await self._queries.message(ident_of(request))
        if found is None:
            raise NotFound("no such message")
        return 200, asdict(found)
