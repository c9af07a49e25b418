"""One outbound message: its recipient and its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.errors import InvalidMessage
from streams.whatsapp.content import Content, StoredContent
from streams.whatsapp.recipient import Recipient

KINDS = frozenset(
    {
        "text",
        "template",
        "image",
        "document",
        "audio",
        "video",
        "location",
        "contacts",
        "reaction",
        "interactive",
    }
)


@dataclass(frozen=True, slots=True)
class Message:
    """One outbound message.

    Attributes:
        to: the recipient.
        content: its text, file or other kind.
        reply_to: the provider's id of the message that it answers; '' if none.
    """

    to: Recipient
    content: Content
    reply_to: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.to, Recipient) or not isinstance(self.content, Content):
            raise InvalidMessage(
                "a message has a Recipient and a content such as Text('...')"
            )

        if not isinstance(self.reply_to, str) or len(self.reply_to) > 256:
            raise InvalidMessage(
                "reply_to is the id of a message, a text of at most 256 characters"
            )

    @property
    def kind(self) -> str:
        """Meta's word for the kind of content: ``text``, ``template``, ``image``, ..."""
        return (
            self.content.name
            if isinstance(self.content, StoredContent)
            else self.content.kind
        )

    def as_data(self) -> dict[str, Any]:
        """The body of its event: a Cloud API request without the sender's fields."""
        data: dict[str, Any] = {
            "to": self.to.text,
            "type": self.kind,
            self.kind: self.content.body(),
        }
        return data | (
            {"context": {"message_id": self.reply_to}} if self.reply_to else {}
        )

    @classmethod
    def from_data(cls, data: Any) -> Message:
        """Undo ``as_data``.

        Raises:
            InvalidMessage: the data is not in that form.
        """
        if not isinstance(data, Mapping):
            raise InvalidMessage(
                "a message is a JSON object with to, type and a field of that name"
            )

        kind = data.get("type")
        if kind not in KINDS or not isinstance(data.get(kind), (Mapping, list)):
            kinds = ", ".join(sorted(KINDS))
            raise InvalidMessage(
                f"type is one of {kinds}, and a field of that name has the content"
            )

        context = data.get("context")
        reply_to = context.get("message_id", "") if isinstance(context, Mapping) else ""
        return cls(
            Recipient.parse(data.get("to", "")),
            StoredContent(kind, data[kind]),
            reply_to,
        )
