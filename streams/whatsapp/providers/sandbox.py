"""The provider of the sandbox: accepts every message and sends none."""

from __future__ import annotations

import uuid
from collections import deque

from streams.common.log_facts import logger_of
from streams.whatsapp.message import Message
from streams.whatsapp.outcome import Outcome, Sent
from streams.whatsapp.providers.base import Connection, Instance

logger = logger_of("whatsapp")
_KEPT = 1000


class SandboxProvider:
    """Accepts messages without sending them; keeps the last thousand for inspection.

    The first one logs a warning.

    Attributes:
        taken: tuples of instance id, message id and message, oldest first.
    """

    def __init__(self) -> None:
        self.taken: deque[tuple[str, str, Message]] = deque(maxlen=_KEPT)
        self._has_warned = False

    async def send(
        self, instance: Instance, message: Message, message_id: str
    ) -> Outcome:
        """Accept the message."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "no provider is configured: the sandbox takes the messages and"
                " NOTHING IS SENT; set STREAMS_WHATSAPP_PROVIDER to cloud or evolution"
            )

        self.taken.append((instance.id, message_id, message))
        return Sent(reason="sandbox", provider_id=f"sandbox.{uuid.uuid4().hex}")

    async def connection(self, instance: Instance) -> Connection:
        """Always open."""
        del instance
        return Connection.OPEN

    async def close(self) -> None:
        """Nothing to close."""
