"""cancel and run_now: events that are scheduled, or wait for a retry, are taken out, or start before their time."""

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
"""Events that one call may carry."""


class Cancelling:
    """Cancels events of one stream."""

    def __init__(self, broker: Broker, keys: Keys, levels: Sequence[int]) -> None:
        self._link = broker.control
        self._keys = keys
        self._levels = levels

    async def scheduled(self, members: Sequence[str], by: str) -> list[bool]:
        """Cancel scheduled events, at most ``MOST``; False where there is none (any more)."""
        keys = (
            self._keys.scheduled(),
            self._keys.scheduled_fields(),
            self._keys.audit(),
        )
        return list(
            map(
                bool,
                await self._link.call(*_CANCEL_SCHEDULED.command(keys, by, *members)),
            )
        )

    async def retrying(
        self, group: str, level: int, entry_ids: Sequence[str], by: str
    ) -> list[bool]:
        """Cancel entries of one level that wait for a retry, at most ``MOST``; False where one does not (any more)."""
        keys = (
            self._keys.level(level),
            self._keys.retry(group),
            self._keys.attempts(group),
            self._keys.audit(),
            self._keys.config(),
        )
        place, admissions = (
            LaneKeys.of(self._keys, self._levels, group),
            self._keys.admissions(group),
        )
        levels: Command = (WAITING, len(place.levels), *place.levels)
        command = _CANCEL.command(
            (*keys, *place.keys, admissions),
            group,
            PARKED,
            by,
            level,
            *levels,
            *entry_ids,
        )
        return list(map(bool, await self._link.call(*command)))

    async def run_now(self, group: str, name: str, by: str) -> bool:
        """Make one event due, which waits for a retry in a group, or ('') is scheduled; False if it waits no more."""
        waits = self._keys.retry(group) if group else self._keys.scheduled()
        return bool(
            await self._link.call(
                *_RUN_NOW.command((waits, self._keys.audit()), group, by, name)
            )
        )

    async def find_retrying(
        self, group: str, event_ids: Iterable[str]
    ) -> list[tuple[str, int, str]]:
        """Event id, level and entry id of what waits for a retry; at most ``MOST`` event ids.

        One command per 1,000 entries that wait.
        """
        wanted = tuple(event_ids)
        keys = (
            self._keys.retry(group),
            *(self._keys.level(level) for level in self._levels),
        )
        found: dict[bytes, str] = {}
        first, size = 0, 1000
        while size == 1000:
            size, rows = await self._link.call(
                *_FIND_RETRYING.command(
                    keys, first, first + 999, len(self._levels), *self._levels, *wanted
                )
            )
            found.update((place, event_id.decode()) for event_id, place in rows)
            first += size
        return [
            (event_id, *named)
            for row, event_id in found.items()
            if (named := entry_place(row))
        ]
