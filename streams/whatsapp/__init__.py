"""A multi-tenant queue for outbound WhatsApp messages.

It has priorities, order per recipient, pacing and statuses.

from streams.whatsapp import get_message_queue, get_message_worker, send_message_via_queue
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streams.errors import InvalidMessage

if TYPE_CHECKING:
    from streams.whatsapp.application import Application
    from streams.whatsapp.content import (
        Audio,
        Buttons,
        Choices,
        Contacts,
        Content,
        Document,
        Image,
        Location,
        Reaction,
        Row,
        Template,
        Text,
        Video,
    )
    from streams.whatsapp.messages import Counts, MessageOptions, Messages, SendOptions
    from streams.whatsapp.queue import (
        MessageQueue,
        MessageWorker,
        get_message_queue,
        get_message_worker,
        send_message_via_queue,
    )
    from streams.whatsapp.recipient import Recipient
    from streams.whatsapp.settings import WhatsAppSettings
    from streams.whatsapp.status import MessageRecord, MessageStatus

__all__ = [
    "Application",
    "Audio",
    "Buttons",
    "Choices",
    "Contacts",
    "Content",
    "Counts",
    "Document",
    "Image",
    "InvalidMessage",
    "Location",
    "MessageOptions",
    "MessageQueue",
    "MessageRecord",
    "MessageStatus",
    "MessageWorker",
    "Messages",
    "Reaction",
    "Recipient",
    "Row",
    "SendOptions",
    "Template",
    "Text",
    "Video",
    "WhatsAppSettings",
    "get_message_queue",
    "get_message_worker",
    "send_message_via_queue",
]

_ON_DEMAND = {
    "Application": "application",
    "Audio": "content",
    "Buttons": "content",
    "Choices": "content",
    "Contacts": "content",
    "Content": "content",
    "Counts": "messages",
    "Document": "content",
    "Image": "content",
    "Location": "content",
    "MessageOptions": "messages",
    "MessageQueue": "queue",
    "MessageRecord": "status",
    "MessageStatus": "status",
    "MessageWorker": "queue",
    "Messages": "messages",
    "Reaction": "content",
    "Recipient": "recipient",
    "Row": "content",
    "SendOptions": "messages",
    "Template": "content",
    "Text": "content",
    "Video": "content",
    "WhatsAppSettings": "settings",
    "get_message_queue": "queue",
    "get_message_worker": "queue",
    "send_message_via_queue": "queue",
}


def __getattr__(name: str) -> Any:
    """Import what is used when it is used: the command line has a list of all commands soon."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    return getattr(
        import_module(f"{__name__}.{_ON_DEMAND[name]}"),
        name,
    )
