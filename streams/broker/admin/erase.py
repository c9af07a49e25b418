"""Erase entries and scheduled events of a stream, which the caller finds by their metadata."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import pages, parts

_ERASE = Script("erase")
_PEEK_SCHEDULED = Script("peek_scheduled")
_PAGE = 500


class EraseStore:
    """Reads scheduled events and deletes entries of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys
        self._row = ""

    async def scheduled(self) -> AsyncIterator[list[tuple[str, Sequence[bytes]]]]:
        """Members and fields of the scheduled events, a page at a time.

        An event that is added meanwhile may be missed.
        """
        fields = self._keys.scheduled_fields()
        keys = (self._keys.scheduled(), fields)

        async for page in pages(self._link, ("HSCAN", fields), ("COUNT", _PAGE)):
            members = [name.decode() for name in page[::2]]
            if not members:
                continue

            rows = await self._link.run(_PEEK_SCHEDULED, keys, *members)
            named = zip(members, rows, strict=True)
            yield [(name, row[1]) for name, row in named if row]

    async def erase(self, level: int, entry_ids: Sequence[str], by: str) -> int:
        """Delete entries of a level; returns how many were there.

        All that one store erases has one audit row.
        """
        keys = (self._keys.level(level), self._keys.audit())
        erased = 0

        for part in parts(entry_ids, _PAGE):
            count, row = await self._link.run(
                _ERASE,
                keys,
                by,
                self._row,
                *part,
            )
            erased += int(count)
            self._row = row.decode()

        return erased
