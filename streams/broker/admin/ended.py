"""Ended dashboard sessions, as every process that serves a dashboard must know them."""

from __future__ import annotations

from streams.broker.keys import ended_session_key
from streams.broker.server.connection import Broker


class EndedSessions:
    """Remembers ended sessions for as long as their cookies would last.

    Args:
        broker: an open broker.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def end(self, ident: str, seconds: float) -> None:
        """Remember for ``seconds`` that a session is over. One command."""
        key = ended_session_key(self._broker.namespace, ident)
        await self._broker.control.call(
            "SET", key, 1, "PX", max(1, int(seconds * 1000))
        )

    async def is_over(self, ident: str) -> bool:
        """Whether a session was ended. One command."""
        key = ended_session_key(self._broker.namespace, ident)

        return bool(await self._broker.control.call("EXISTS", key))
