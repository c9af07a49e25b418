"""Small named records of a stream, which an application keeps beside its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import pairs

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_WRITE_RECORD = Script("write_record")


class RecordStore:
    """The records of one kind.

    Args:
        broker: an open broker.
        keys: of the stream.
        kind: of the records.
    """

    def __init__(self, broker: Broker, keys: Keys, kind: str) -> None:
        self._broker = broker
        self._key = keys.records(kind)

    @property
    def _link(self) -> Link:
        # Not kept: a broker that is opened again has another connection.
        return self._broker.control

    async def all(self) -> dict[str, bytes]:
        """Every record by its name. One command."""
        return pairs(await self._link.call("HGETALL", self._key))

    async def get(self, name: str) -> bytes | None:
        """One record; None if there is none."""
        found: bytes | None = await self._link.call("HGET", self._key, name)
        return found

    async def write(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """Replace the record ``before`` with ``after``; None is no record.

        Returns False, and writes nothing, if another writer was faster.
        """
        texts = (before or b"", after or b"")
        return bool(await self._link.run(_WRITE_RECORD, (self._key,), name, *texts))
