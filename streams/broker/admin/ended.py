"""Sessions of dashboards that somebody ended: known to every process that serves one on this server."""

from __future__ import annotations

from streams.broker.keys import ended_session_key
from streams.broker.server.connection import Broker


class EndedSessions:
    """Remembers which sessions are over, for as long as their cookies would last.

    Args:
        broker: an open broker.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def end(self, ident: str, seconds: float) -> None:
        """Remember that a session is over, for ``seconds``. One command."""
        key = ended_session_key(self._broker.namespace, ident)
        await self._broker.control.call(
            "SET", key, 1, "PX", max(1, int(seconds * 1000))
        )

    async def is_over(self, ident: str) -> bool:
        """Whether a session was ended. One command."""
        return bool(
            await self._broker.control.call(
                "EXISTS", ended_session_key(self._broker.namespace, ident)
            )
        )
