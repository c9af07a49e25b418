"""Reserve dedup ids for events that bypass the stream, and copy them to another server."""

from __future__ import annotations

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.stored import pages

_PAGE = 500
_ELSEWHERE = "elsewhere"
"""In the place of the entry id of an event that never was in the stream."""


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
        """Reserve a dedup id for an event, for ``window`` seconds.

        Returns the event id that has it: another one than ``event_id`` if it was used before.
        """
        value = f"{len(event_id.encode())} {event_id} 0 {_ELSEWHERE}"
        key = self._keys.dedup(dedup_id)
        expiry = max(1, round(window * 1000))
        if await self._link.call(
            "SET",
            key,
            value,
            "NX",
            "PX",
            expiry,
        ):
            return event_id

        found: bytes | None = await self._link.call("GET", key)

        return event_id if found is None else event_of(found)

    async def all(self) -> list[tuple[str, bytes, int]]:
        """Every dedup id with its value and the milliseconds until it expires.

        Reads all keys of the server.
        """
        prefix, found = self._keys.dedup(""), []
        # A hash tag has no character that means something to MATCH.
        options = ("MATCH", f"{prefix}*", "COUNT", _PAGE)

        async for page in pages(self._link, ("SCAN",), options):
            for key in page:
                value = await self._link.call("GET", key)
                left = await self._link.call("PTTL", key)
                if value is not None and left > 0:
                    found.append((key.decode().removeprefix(prefix), value, left))

        return found

    async def take(self, rows: list[tuple[str, bytes, int]]) -> None:
        """Store the dedup ids of another server; existing ones stay."""
        for dedup_id, value, left in rows:
            key = self._keys.dedup(dedup_id)
            await self._link.call(
                "SET",
                key,
                value,
                "NX",
                "PX",
                left,
            )


def event_of(value: bytes) -> str:
    """The event id in the value of a dedup id."""
    length, _, rest = value.partition(b" ")

    return rest[: int(length)].decode()
