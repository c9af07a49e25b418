"""strays: what is left behind of entries that are gone, and entries that lost what would bring them back.

Looking and repairing are the same scripts, so that what is repaired is what was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from streams.broker.entries.ordering import LaneRepair
from streams.broker.keys import PARKED, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.policy.levels import Levels
from streams.policy.ordering import Lanes

_PENDING = Script("stray_pending")
_ROWS = Script("stray_rows")
_SCHEDULED = Script("stray_scheduled")
_UNREADABLE = Script("stray_unreadable")
_ORPHANS = Script("stray_orphans")

SLICE = 200
"""Entries, rows and records that one call looks at, each."""
_MOST_SLICES = 1000
_OF_LANES = frozenset({"heads", "behind", "lane", "ring"})
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
        scheduled_unreadable: delayed events whose fields cannot be read.
        unreadable: rows of groups that say nothing.
        orphaned: entries that were delivered and are with nobody.
        losses: places at which the server has less than it had acknowledged, and an operator was not there yet.
    """

    payloads_gone: int = 0
    due_times_lost: int = 0
    due_times_stray: int = 0
    records_stray: int = 0
    scheduled_empty: int = 0
    scheduled_stranded: int = 0
    scheduled_unreadable: int = 0
    unreadable: int = 0
    orphaned: int = 0
    losses: int = 0

    def add(self, other: Strays) -> None:
        """Add the counts of another part."""
        for each in fields(self):
            setattr(
                self, each.name, getattr(self, each.name) + getattr(other, each.name)
            )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows that say nothing: of which kind of key, how many, and one of them."""

    what: str
    count: int
    example: bytes


def read_unreadable(reply: Sequence[Any]) -> list[Unreadable]:
    """What a look at the rows of a group found."""
    return [
        Unreadable(what.decode(), count, example) for what, count, example in reply[0]
    ]


class Straying:
    """Looks for strays of one stream, and repairs.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
        silence: seconds after which an entry counts as left by its consumer.
    """

    def __init__(
        self,
        broker: Broker,
        keys: Keys,
        levels: Sequence[int],
        silence: float = SILENCE,
    ) -> None:
        self._broker = broker
        self._link = broker.control
        self._keys = keys
        self._levels = levels
        self._silence = round(silence * 1000)

    def pending(self, group: str, level: int, after: str = "", by: str = "") -> Command:
        """Look at a slice of a pending list behind the id ``after``; repair it if ``by`` names somebody."""
        keys = self._keys
        rows = (
            keys.retry(group),
            keys.attempts(group),
            keys.audit(),
            keys.admissions(group),
        )
        places = (keys.level(level), *rows)
        start = f"({after}" if after else "-"
        return _PENDING.command(
            places, group, PARKED, level, self._silence, start, SLICE, by
        )

    def rows(
        self, group: str, rank: int = 0, cursor: str = "0", by: str = ""
    ) -> Command:
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

    def unreadable(
        self, group: str, places: Sequence[str] = (), by: str = ""
    ) -> Command:
        """Look at a slice of every row of a group; repair if ``by`` names somebody.

        ``places``: where to go on, from the reply before; none at first.
        """
        keys, levels = self._keys, self._levels
        lanes = [
            key
            for level in levels
            for key in (keys.lane(group, level), keys.ring(group, level))
        ]
        names = (
            *(
                keys.audit(),
                keys.rules(group),
                keys.sweep(group),
                keys.attempts(group),
                keys.heads(group),
            ),
            *(keys.queues(group), keys.retry(group), keys.behind(group)),
            *(keys.busy_prefix(group), keys.queue_prefix(group)),
        )
        return _UNREADABLE.command(
            (*names, *lanes), group, by, SLICE, *(places or ["0"] * (7 + len(lanes)))
        )

    def orphans(self, group: str, level: int, after: str = "", by: str = "") -> Command:
        """Look at a slice of a level behind the id ``after``; repair it if ``by`` names somebody."""
        keys = self._keys
        places = (keys.level(level), keys.retry(group), keys.config(), keys.audit())
        start = f"({after}" if after else "-"
        return _ORPHANS.command(
            places, group, PARKED, level, self._silence, start, SLICE, by
        )

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
                gone, lost, last = await self._link.call(
                    *self.pending(group, level, after, by)
                )
                found.add(Strays(payloads_gone=gone, due_times_lost=lost))
                after = last.decode() or None
            found.add(await self._walk_orphans(group, level, by))
        for group in sorted({group for group, _ in groups}):
            found.add(
                await self._walk_unreadable(
                    group, [level for its, level in groups if its == group], by
                )
            )
            rank, cursor = 0, "0"
            while rank >= 0 or cursor:
                stray, records, rank, last = await self._link.call(
                    *self.rows(group, rank, cursor, by)
                )
                cursor = last.decode()
                found.add(Strays(due_times_stray=stray, records_stray=records))
        rank, cursor = 0, "0"
        while rank >= 0 or cursor:
            empty, stranded, rank, last, odd, _ = await self._link.call(
                *self.scheduled(rank, cursor, by)
            )
            cursor = last.decode()
            found.add(
                Strays(
                    scheduled_empty=empty,
                    scheduled_stranded=stranded,
                    scheduled_unreadable=odd,
                )
            )
        return found

    async def _walk_orphans(self, group: str, level: int, by: str) -> Strays:
        found, after = Strays(), ""
        while True:
            count, _, last = await self._link.call(
                *self.orphans(group, level, after, by)
            )
            found.orphaned += count
            after = last.decode()
            if not after:
                return found

    async def _walk_unreadable(
        self, group: str, levels: Sequence[int], by: str
    ) -> Strays:
        found, heads = Strays(), False
        places: list[str] = []
        while True:
            reply = await self._link.call(*self.unreadable(group, places, by))
            rows = read_unreadable(reply)
            found.unreadable += sum(row.count for row in rows)
            heads = heads or any(row.what in _OF_LANES for row in rows)
            places = [place.decode() for place in reply[1:]]
            if not any(places):
                break
        if by and heads:
            await self._mend_lanes(group, levels)
        return found

    async def _mend_lanes(self, group: str, levels: Sequence[int]) -> None:
        """Find the heads that were unreadable, and give rows to entries that lost theirs."""
        rules = await self._link.call(
            "HMGET", self._keys.rules(group), "order_by", "fair_by"
        )
        order, fair = (
            tuple(filter(None, (text or b"").decode().split(","))) for text in rules
        )
        mending = LaneRepair(
            self._broker,
            self._keys,
            Levels(tuple(levels)),
            group,
            Lanes(order_by=order, fair_by=fair),
        )
        for _ in range(_MOST_SLICES):
            changed = any(await mending.mend())
            cursor = await self._link.call("HGET", self._keys.rules(group), "cursor")
            if not changed and (cursor or b"0") == b"0":
                return
