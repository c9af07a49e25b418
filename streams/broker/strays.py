"""strays: what is left behind of entries that are gone, and entries that lost what would bring them back.

Looking and repairing are the same scripts, so that what is repaired is what was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from streams.broker.connection import Broker
from streams.broker.scripts import Command, Script
from streams.keys import PARKED, Keys

_PENDING = Script("stray_pending")
_ROWS = Script("stray_rows")
_SCHEDULED = Script("stray_scheduled")

SLICE = 200
"""Entries, rows and records that one call looks at, each."""
SILENCE = 90.0
"""Seconds for which a consumer must have been silent before its entries are touched."""


@dataclass(slots=True)
class Strays:
    """Counts; what they were counted over is the caller's to know.

    Attributes:
        payloads_gone: pending entries that were deleted from the stream.
        due_times_lost: entries that wait for a retry and have no due time.
        due_times_stray: due times of retries whose entry is not pending.
        records_stray: attempt records whose entry is not pending.
        scheduled_empty: due times of delayed events whose fields are gone.
        scheduled_stranded: fields of delayed events that have no due time.
        losses: places at which the server has less than it had acknowledged, and an operator was not there yet.
    """

    payloads_gone: int = 0
    due_times_lost: int = 0
    due_times_stray: int = 0
    records_stray: int = 0
    scheduled_empty: int = 0
    scheduled_stranded: int = 0
    losses: int = 0

    def add(self, other: Strays) -> None:
        """Add the counts of another part."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class Straying:
    """Looks for strays of one stream, and repairs.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
        silence: seconds after which an entry counts as left by its consumer.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Sequence[int], silence: float = SILENCE) -> None:
        self._link = broker.control
        self._keys = keys
        self._levels = levels
        self._silence = round(silence * 1000)

    def pending(self, group: str, level: int, after: str = "", by: str = "") -> Command:
        """Look at a slice of a pending list behind the id ``after``; repair it if ``by`` names somebody."""
        keys = self._keys
        places = (keys.level(level), keys.retry(group), keys.attempts(group), keys.audit())
        start = f"({after}" if after else "-"
        return _PENDING.command(places, group, PARKED, level, self._silence, start, SLICE, by)

    def rows(self, group: str, rank: int = 0, cursor: str = "0", by: str = "") -> Command:
        """Look at a slice of the due times and attempt records of a group; repair it if ``by`` names somebody."""
        keys = self._keys
        streams = (keys.level(level) for level in self._levels)
        places = (keys.retry(group), keys.attempts(group), keys.audit(), *streams)
        return _ROWS.command(places, group, rank, cursor, SLICE, by, *self._levels)

    def scheduled(self, rank: int = 0, cursor: str = "0", by: str = "") -> Command:
        """Look at a slice of the delayed events; repair it if ``by`` names somebody."""
        keys = self._keys
        places = (keys.scheduled(), keys.scheduled_fields(), keys.audit())
        return _SCHEDULED.command(places, rank, cursor, SLICE, by)

    async def walk(self, groups: Sequence[tuple[str, int]], by: str = "") -> Strays:
        """Go through everything, a slice per command, and repair if ``by`` names somebody.

        Args:
            groups: group and level of each place that is read.
            by: who repairs, for the audit record; '' only looks.

        Raises:
            AccessDenied: the user may not.
            WrongKeyType: a key holds another kind of value; nothing was written to it.
        """
        found = Strays()
        for group, level in groups:
            after: str | None = ""
            while after is not None:
                gone, lost, last = await self._link.call(*self.pending(group, level, after, by))
                found.add(Strays(payloads_gone=gone, due_times_lost=lost))
                after = last.decode() or None
        for group in sorted({group for group, _ in groups}):
            rank, cursor = 0, "0"
            while rank >= 0 or cursor:
                stray, records, rank, last = await self._link.call(*self.rows(group, rank, cursor, by))
                cursor = last.decode()
                found.add(Strays(due_times_stray=stray, records_stray=records))
        rank, cursor = 0, "0"
        while rank >= 0 or cursor:
            empty, stranded, rank, last = await self._link.call(*self.scheduled(rank, cursor, by))
            cursor = last.decode()
            found.add(Strays(scheduled_empty=empty, scheduled_stranded=stranded))
        return found
