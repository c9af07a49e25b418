"""Strays: rows of entries that are gone, and entries that lost the row which would bring them back.

The same scripts look and repair, so that a repair does exactly what a look has told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from streams.broker.admin.replies import after_id
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
"""Entries, rows and records that one call looks at, of each."""
_MOST_SLICES = 1000
_KINDS_OF_ROWS = 7
"""Kinds of rows that a group has beside those of each level; see ``stray_unreadable.lua``."""
_OF_LANES = frozenset({"heads", "behind", "lane", "ring"})
SILENCE = 90.0
"""Seconds for which a consumer must have been silent before its entries are touched."""


@dataclass(slots=True)
class Strays:
    """Counts of orphaned rows and entries, over the part that the caller looked at.

    Attributes:
        payloads_gone: pending entries that were deleted from the stream.
        due_times_lost: entries that wait for a retry and have no due time.
        due_times_stray: due times of retries whose entry is not pending.
        records_stray: attempt records whose entry is not pending.
        scheduled_empty: due times of delayed events whose fields are gone.
        scheduled_stranded: fields of delayed events that have no due time.
        scheduled_unreadable: delayed events whose fields cannot be read.
        unreadable: rows of groups that cannot be read.
        orphaned: entries that were delivered and are pending with no consumer.
        losses: places at which the server has less than it had acknowledged, and that no
            operator has dismissed.
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
        for count in fields(self):
            both = getattr(self, count.name) + getattr(other, count.name)
            setattr(self, count.name, both)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows that cannot be read.

    Attributes:
        what: the kind of their key.
        count: how many there are.
        example: one of them.
    """

    what: str
    count: int
    example: bytes


def read_unreadable(reply: Sequence[Any]) -> list[Unreadable]:
    """The unreadable rows in a reply to ``StrayStore.unreadable``."""
    found = []
    for what, count, example in reply[0]:
        found.append(Unreadable(what.decode(), count, example))

    return found


class StrayStore:
    """Looks for orphaned rows and entries of one stream, and repairs them.

    Each look is one slice of bounded size. ``by`` names the operator who repairs; with
    '' the store only looks.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
        silence: seconds of silence after which a consumer's entries are touched.
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
        """A slice of a pending list, with ids above ``after``."""
        keys = self._keys
        places = (
            keys.level(level),
            keys.retry(group),
            keys.attempts(group),
            keys.audit(),
            keys.admissions(group),
        )

        return _PENDING.command(
            places,
            *self._slice(
                group,
                level,
                after,
                by,
            ),
        )

    def rows(
        self, group: str, rank: int = 0, cursor: str = "0", by: str = ""
    ) -> Command:
        """A slice of the due times and attempt records of a group."""
        keys = self._keys
        streams = map(keys.level, self._levels)
        places = (keys.retry(group), keys.attempts(group), keys.audit(), *streams)

        return _ROWS.command(
            places,
            group,
            rank,
            cursor,
            SLICE,
            by,
            *self._levels,
        )

    def scheduled(self, rank: int = 0, cursor: str = "0", by: str = "") -> Command:
        """A slice of the delayed events."""
        keys = self._keys
        places = (keys.scheduled(), keys.scheduled_fields(), keys.audit())

        return _SCHEDULED.command(
            places,
            rank,
            cursor,
            SLICE,
            by,
        )

    def unreadable(
        self, group: str, places: Sequence[str] = (), by: str = ""
    ) -> Command:
        """A slice of every kind of rows of a group.

        Args:
            group: its name.
            places: where to go on, from the reply before; none at first.
            by: the operator.
        """
        keys = self._keys
        lanes: list[str] = []

        for level in self._levels:
            lanes += (keys.lane(group, level), keys.ring(group, level))

        names = (
            keys.audit(),
            keys.rules(group),
            keys.sweep(group),
            keys.attempts(group),
            keys.heads(group),
            keys.queues(group),
            keys.retry(group),
            keys.behind(group),
            keys.busy_prefix(group),
            keys.queue_prefix(group),
            *lanes,
        )

        starts = places or ["0"] * (_KINDS_OF_ROWS + len(lanes))

        return _UNREADABLE.command(
            names,
            group,
            by,
            SLICE,
            *starts,
        )

    def orphans(self, group: str, level: int, after: str = "", by: str = "") -> Command:
        """A slice of the entries of a level, with ids above ``after``."""
        keys = self._keys
        places = (keys.level(level), keys.retry(group), keys.config(), keys.audit())

        return _ORPHANS.command(
            places,
            *self._slice(
                group,
                level,
                after,
                by,
            ),
        )

    def _slice(self, group: str, level: int, after: str, by: str) -> Command:
        return (group, PARKED, level, self._silence, after_id(after), SLICE, by)

    async def walk(self, groups: Sequence[tuple[str, int]], by: str = "") -> Strays:
        """Go through everything, a slice per command.

        Args:
            groups: group and level of each place that is read.
            by: the operator who repairs, for the audit record; '' only looks.

        Raises:
            AccessDenied: the user may not.
            WrongKeyType: a key holds another kind of value; nothing was written to it.
        """
        found = Strays()
        levels_of: dict[str, list[int]] = {}

        for group, level in groups:
            levels_of.setdefault(group, []).append(level)
            async for gone, lost in self._by_id(
                self.pending,
                group,
                level,
                by,
            ):
                found.payloads_gone += gone
                found.due_times_lost += lost

            async for count, _ in self._by_id(
                self.orphans,
                group,
                level,
                by,
            ):
                found.orphaned += count

        for group, levels in sorted(levels_of.items()):
            await self._walk_unreadable(
                found,
                group,
                levels,
                by,
            )
            async for stray, records, *_ in self._by_rank(
                partial(self.rows, group), by
            ):
                found.due_times_stray += stray
                found.records_stray += records

        async for empty, stranded, _, _, broken, _ in self._by_rank(self.scheduled, by):
            found.scheduled_empty += empty
            found.scheduled_stranded += stranded
            found.scheduled_unreadable += broken

        return found

    async def _by_id(
        self,
        ask: Callable[[str, int, str, str], Command],
        group: str,
        level: int,
        by: str,
    ) -> AsyncIterator[Sequence[Any]]:
        """The replies to a question that goes on behind the last id of each reply."""
        after: str | None = ""
        while after is not None:
            *counts, last = await self._link.call(
                *ask(
                    group,
                    level,
                    after,
                    by,
                )
            )
            yield counts
            after = last.decode() or None

    async def _by_rank(
        self, ask: Callable[[int, str, str], Command], by: str
    ) -> AsyncIterator[Sequence[Any]]:
        """The replies to a question that goes on at the rank and cursor of each reply."""
        rank, cursor = 0, "0"
        while rank >= 0 or cursor:
            reply = await self._link.call(*ask(rank, cursor, by))
            yield reply
            rank, cursor = reply[2], reply[3].decode()

    async def _walk_unreadable(
        self, found: Strays, group: str, levels: Sequence[int], by: str
    ) -> None:
        is_of_lanes = False
        places: list[str] = []

        while True:
            reply = await self._link.call(*self.unreadable(group, places, by))
            for row in read_unreadable(reply):
                found.unreadable += row.count
                is_of_lanes |= row.what in _OF_LANES

            places = [place.decode() for place in reply[1:]]
            if not any(places):
                break

        if by and is_of_lanes:
            await self._mend_lanes(group, levels)

    async def _mend_lanes(self, group: str, levels: Sequence[int]) -> None:
        """Restore the next entry of each order key, and missing rows of the order."""
        rules = self._keys.rules(group)
        declared = await self._link.call(
            "HMGET",
            rules,
            "order_by",
            "fair_by",
        )
        order, fair = (_listed(text) for text in declared)
        lanes = Lanes(order_by=order, fair_by=fair)
        mending = LaneRepair(
            self._broker, self._keys, Levels(tuple(levels)), group, lanes
        )

        for _ in range(_MOST_SLICES):
            changed = any(await mending.mend())
            cursor = await self._link.call("HGET", rules, "cursor")
            if not changed and cursor in (None, b"0", b""):
                return


def _listed(text: bytes | None) -> tuple[str, ...]:
    return tuple(filter(None, (text or b"").decode().split(",")))
