"""Small records by name that belong to a stream: what an application must remember beside its events."""

from __future__ import annotations

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script

_WRITE_RECORD = Script("write_record")


class RecordStore:
    """The records of one kind.

    Args:
        broker: an open broker.
        keys: of the stream.
        kind: what they are.
    """

    def __init__(self, broker: Broker, keys: Keys, kind: str) -> None:
        self._broker = broker
        self._key = keys.records(kind)

    async def all(self) -> dict[str, bytes]:
        """Every record by its name. One command."""
        reply = await self._broker.control.call("HGETALL", self._key)
        return {reply[i].decode(): reply[i + 1] for i in range(0, len(reply), 2)}

    async def get(self, name: str) -> bytes | None:
        """One record; None if there is none."""
        found: bytes | None = await self._broker.control.call("HGET", self._key, name)
        return found

    async def write(self, name: str, before: bytes | None, after: bytes | None) -> bool:
        """Put ``after`` in the place of ``before`` (None: no record); False if somebody else was faster."""
        command = _WRITE_RECORD.command((self._key,), name, before or b"", after or b"")
        return bool(await self._broker.control.call(*command))
