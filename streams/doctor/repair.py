"""Repairing what can be mended without a decision."""

from __future__ import annotations

from streams.admin.status import Status
from streams.broker import Broker
from streams.broker.admin.inspect import Inspecting
from streams.broker.admin.strays import SILENCE, Straying, Strays
from streams.broker.admin.watermarks import Marking
from streams.broker.server.shards import Away, each
from streams.errors import AccessDenied

__all__ = ["Repair", "Strays"]


class Repair:
    """Mends streams.

    Ends pending entries whose payload is gone, makes retries without a due time and entries that nobody has due now,
    and removes due times and attempt records of entries that are gone, and rows that say nothing; takes losses of the
    server off the list, which an operator has seen by then. Never deletes an event that can be read.

    Args:
        broker: an open broker.
        by: who acts, for the audit record.
        silence: seconds for which a consumer must have been silent before its entries are touched.

    Attributes:
        away: the shards of a cluster that could not be looked at the last time.
    """

    def __init__(self, broker: Broker, by: str, silence: float = SILENCE) -> None:
        self._broker = broker
        self._by = by
        self._silence = silence
        self.away: list[Away] = []

    async def look(self, stream: str = "") -> dict[str, Strays]:
        """What ``mend`` would do, per stream. Commands: one per 200 entries, rows and records.

        Args:
            stream: only this one; '': all.

        Raises:
            NotFound: there is no such stream.
            AccessDenied: the user may not.
        """
        return await self._walk(stream, "")

    async def mend(self, stream: str = "") -> dict[str, Strays]:
        """Mend, and tell what was mended, per stream. Can be repeated after an interruption.

        Args:
            stream: only this one; '': all.

        Raises:
            NotFound: there is no such stream.
            AccessDenied: the user may not.
            OutOfMemory: the server has no memory for the due times; what was mended before stays.
        """
        return await self._walk(stream, self._by)

    async def _walk(self, only: str, by: str) -> dict[str, Strays]:
        status = Status(self._broker)
        streams = await (status.streams_of(only) if only else status.streams())
        rows, self.away = await each(
            self._broker, streams, lambda name: self._walk_one(name, streams[name], by)
        )
        return dict(rows)

    async def _walk_one(
        self, name: str, levels: list[int], by: str
    ) -> tuple[str, Strays]:
        status = await Inspecting(self._broker).stream(name, levels)
        places = [
            (group.group, row.level) for group in status.groups for row in group.levels
        ]
        straying = Straying(
            self._broker, self._broker.keys(name), levels, self._silence
        )
        strays = await straying.walk(places, by)
        strays.losses = await self._losses(name, by)
        return name, strays

    async def _losses(self, name: str, by: str) -> int:
        """Take the losses of a stream off the list, if ``by`` names somebody; how many there are.

        A user that may not look at them mends the rest; the doctor says what it may not.
        """
        marking = Marking(self._broker, self._broker.keys(name))
        try:
            return await marking.dismiss(by) if by else len(await marking.losses())
        except AccessDenied:
            return 0
