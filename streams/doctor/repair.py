"""Repair findings that need no decision of an operator."""

from __future__ import annotations

from streams.admin.status import Status
from streams.broker import Broker
from streams.broker.admin.inspect import StatusStore
from streams.broker.admin.strays import SILENCE, Strays, StrayStore
from streams.broker.admin.watermarks import WatermarkStore
from streams.broker.server.shards import Away, each
from streams.errors import AccessDenied

__all__ = ["Repair", "Strays"]


class Repair:
    """Mends streams. It never deletes an event that can be read.

    It ends pending entries without a payload. It makes retries without a due time, and entries
    that are pending with no consumer, due now. It removes due times and attempt records without an
    entry, and unreadable rows. It dismisses losses of the server.

    Args:
        broker: an open broker.
        by: the operator, for the audit record.
        silence: seconds of silence after which a consumer's entries are touched.

    Attributes:
        away: the shards of a cluster that were away the last time.
    """

    def __init__(self, broker: Broker, by: str, silence: float = SILENCE) -> None:
        self._broker = broker
        self._by = by
        self._silence = silence
        self.away: list[Away] = []

    async def look(self, stream: str = "") -> dict[str, Strays]:
        """The strays that ``mend`` would repair, per stream.

        Commands: one per 200 entries, rows and records.

        Args:
            stream: only this one; '' for all.

        Raises:
            NotFound: there is no such stream.
            AccessDenied: the user may not.
        """
        return await self._walk(stream, "")

    async def mend(self, stream: str = "") -> dict[str, Strays]:
        """Repair the strays; returns them per stream. Can be repeated after an interruption.

        Args:
            stream: only this one; '' for all.

        Raises:
            NotFound: there is no such stream.
            AccessDenied: the user may not.
            OutOfMemory: the server has no memory for due times; earlier repairs stay.
        """
        return await self._walk(stream, self._by)

    async def _walk(self, only: str, by: str) -> dict[str, Strays]:
        status = Status(self._broker)
        if only:
            streams = await status.streams_of(only)
        else:
            streams = await status.streams()

        rows, self.away = await each(
            self._broker, streams, lambda name: self._walk_one(name, streams[name], by)
        )
        return dict(rows)

    async def _walk_one(
        self, name: str, levels: list[int], by: str
    ) -> tuple[str, Strays]:
        status = await StatusStore(self._broker).stream(name, levels)
        places = []
        for group in status.groups:
            places += [(group.group, row.level) for row in group.levels]

        keys = self._broker.keys(name)
        straying = StrayStore(self._broker, keys, levels, self._silence)
        strays = await straying.walk(places, by)
        strays.losses = await self._losses(name, by)

        return name, strays

    async def _losses(self, name: str, by: str) -> int:
        """Count the losses of a stream, and dismiss them if ``by`` names an operator.

        Without the permission to read them, the count is 0: the other repairs go on, and the
        doctor names the missing permission.
        """
        marking = WatermarkStore(self._broker, self._broker.keys(name))
        try:
            if by:
                return await marking.dismiss(by)

            return len(await marking.losses())
        except AccessDenied:
            return 0
