"""erase: entries of a stream are found by what their metadata say, and deleted wherever they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script

_ERASE = Script("erase")
_PEEK_SCHEDULED = Script("peek_scheduled")
_PAGE = 500


class ErasingStore:
    """Reads and deletes what is stored of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys
        self._row = ""

    async def scheduled(self) -> AsyncIterator[list[tuple[str, Sequence[bytes]]]]:
        """Members and fields of the scheduled events, a page at a time; one that is added meanwhile may be missed."""
        cursor = "0"
        while True:
            reply = await self._link.call(
                "HSCAN", self._keys.scheduled_fields(), cursor, "COUNT", _PAGE
            )
            cursor = reply[0].decode()
            members = [name.decode() for name in reply[1][::2]]
            if members:
                keys = (self._keys.scheduled(), self._keys.scheduled_fields())
                rows = await self._link.call(*_PEEK_SCHEDULED.command(keys, *members))
                yield [
                    (name, row[1])
                    for name, row in zip(members, rows, strict=True)
                    if row
                ]
            if cursor == "0":
                return

    async def erase(self, level: int, entry_ids: Sequence[str], by: str) -> int:
        """Delete entries of a level; returns how many were there. All that one store erases has one audit row."""
        erased = 0
        for at in range(0, len(entry_ids), _PAGE):
            keys = (self._keys.level(level), self._keys.audit())
            count, written = await self._link.call(
                *_ERASE.command(keys, by, self._row, *entry_ids[at : at + _PAGE])
            )
            erased, self._row = erased + int(count), written.decode()
        return erased
