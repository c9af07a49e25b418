"""Cancel scheduled and retrying events, or make them start before their time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streams.broker.entries.ordering import LaneKeys
from streams.broker.keys import PARKED, WAITING, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import entry_place

_CANCEL = Script("cancel")
_CANCEL_SCHEDULED = Script("cancel_scheduled")
_RUN_NOW = Script("run_now")
_FIND_RETRYING = Script("find_retrying")

MOST = 500
"""Events that one call may name."""
_PAGE = 1000


class CancelStore:
    """Cancels events of one stream."""

    def __init__(self, broker: Broker, keys: Keys, levels: Sequence[int]) -> None:
        self._link = broker.control
        self._keys = keys
        self._levels = levels

    async def scheduled(self, members: Sequence[str], by: str) -> list[bool]:
        """Cancel scheduled events, at most ``MOST``; False for one that is not there (any more)."""
        keys = self._keys
        places = (keys.scheduled(), keys.scheduled_fields(), keys.audit())
        reply = await self._link.run(
            _CANCEL_SCHEDULED,
            places,
            by,
            *members,
        )

        return list(map(bool, reply))

    async def retrying(
        self, group: str, level: int, entry_ids: Sequence[str], by: str
    ) -> list[bool]:
        """Cancel entries of one level that wait for a retry, at most ``MOST``.

        Returns False for an entry that does not wait (any more).
        """
        keys = (
            self._keys.level(level),
            self._keys.retry(group),
            self._keys.attempts(group),
            self._keys.audit(),
            self._keys.config(),
        )

        place = LaneKeys.of(self._keys, self._levels, group)

        places = (*keys, *place.keys, self._keys.admissions(group))
        asked: Command = (group, PARKED, by, level)
        levels: Command = (WAITING, len(place.levels), *place.levels)

        reply = await self._link.run(
            _CANCEL,
            places,
            *asked,
            *levels,
            *entry_ids,
        )

        return list(map(bool, reply))

    async def run_now(self, group: str, name: str, by: str) -> bool:
        """Make one event due; False if it does not wait any more.

        Args:
            group: in which it waits for a retry; '' for a scheduled event.
            name: the member of its row.
            by: the operator.
        """
        waits = self._keys.retry(group) if group else self._keys.scheduled()
        keys = (waits, self._keys.audit())
        is_due = await self._link.run(
            _RUN_NOW,
            keys,
            group,
            by,
            name,
        )

        return bool(is_due)

    async def find_retrying(
        self, group: str, event_ids: Iterable[str]
    ) -> list[tuple[str, int, str]]:
        """Event id, level and entry id of events that wait for a retry.

        One command per 1,000 entries that wait.

        Args:
            group: its name.
            event_ids: the wanted events, at most ``MOST``.
        """
        levels: Command = (len(self._levels), *self._levels)
        wanted = tuple(event_ids)
        keys = (self._keys.retry(group), *map(self._keys.level, self._levels))
        names: dict[bytes, str] = {}
        first, size = 0, _PAGE

        while size == _PAGE:
            last = first + _PAGE - 1
            size, rows = await self._link.run(
                _FIND_RETRYING, keys, first, last, *levels, *wanted
            )
            names |= {row: event_id.decode() for event_id, row in rows}
            first += size

        found = []

        for row, event_id in names.items():
            if place := entry_place(row):
                found.append((event_id, *place))

        return found
