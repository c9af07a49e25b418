"""Dedup ids outside of publishing: reserved for what goes past the stream, and carried to another server."""

from __future__ import annotations

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker

_PAGE = 500
_ELSEWHERE = "elsewhere"
"""What stands for the entry id of an event that never was in the stream."""


class DedupIds:
    """The dedup ids of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys

    async def reserve(self, dedup_id: str, event_id: str, window: float) -> str:
        """Let nothing else be published with a dedup id for ``window`` seconds; returns the event id that has it now.

        That is another one than ``event_id`` if the dedup id was used before.
        """
        value = f"{len(event_id.encode())} {event_id} 0 {_ELSEWHERE}"
        key = self._keys.dedup(dedup_id)
        if await self._link.call(
            "SET", key, value, "NX", "PX", max(1, round(window * 1000))
        ):
            return event_id
        found: bytes | None = await self._link.call("GET", key)
        return event_id if found is None else event_of(found)

    async def all(self) -> list[tuple[str, bytes, int]]:
        """Every dedup id, what is stored of it, and the milliseconds that it has left; reads all keys of the server."""
        prefix, found, cursor = self._keys.dedup(""), [], "0"
        # A hash tag has no character that means something to MATCH.
        while True:
            reply = await self._link.call(
                "SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", _PAGE
            )
            cursor = reply[0].decode()
            for key in reply[1]:
                value, left = (
                    await self._link.call("GET", key),
                    await self._link.call("PTTL", key),
                )
                if value is not None and left > 0:
                    found.append((key.decode().removeprefix(prefix), value, left))
            if cursor == "0":
                return found

    async def take(self, rows: list[tuple[str, bytes, int]]) -> None:
        """Write down what another server knew; what is known here stays."""
        for dedup_id, value, left in rows:
            await self._link.call(
                "SET", self._keys.dedup(dedup_id), value, "NX", "PX", left
            )


def event_of(value: bytes) -> str:
    """The event id in what is stored of a dedup id."""
    length, _, rest = value.partition(b" ")
    return rest[: int(length)].decode()
