"""A multi-tenant queue for outbound WhatsApp messages.

It has priorities, order per recipient, pacing and statuses.

from streams.whatsapp import get_message_queue, get_message_worker, send_message_via_queue
"""

from streams.errors import InvalidMessage
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
