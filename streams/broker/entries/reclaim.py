"""reclaim: takes over what silent consumers hold."""

from __future__ import annotations

from typing import NamedTuple

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.leave import leave
from streams.broker.keys import PARKED, WAITING
from streams.broker.server.scripts import Script

_SWEEP = Script("sweep")


class Stalled(NamedTuple):
    """An entry that now belongs to the reclaimer.

    ``kind`` and ``meta`` are its wire fields ``type`` and ``meta``.
    """

    delivery: Delivery
    previous: str
    kind: bytes
    meta: bytes


class Sweep(NamedTuple):
    """Outcome of one call. ``mine`` is False if another sweeper holds the lock."""

    mine: bool
    stalled: list[Stalled]
    vanished: int
    consumers_removed: int
    rows_restored: int
    more: bool


class Reclaiming:
    """Sweeps one group of one stream, under the reclaimer's own consumer name."""

    def __init__(self, me: GroupConsumer) -> None:
        keys, group = me.keys, me.group
        self._clock = me.broker.clock
        self.link = self._link = me.broker.shared
        self._levels = me.levels.descending
        self._group = group
        self._consumer = me.name
        self._has_taken = False
        self._streams = tuple(keys.level(level) for level in self._levels)
        self._leases = keys.leases(group)
        places = (
            keys.sweep(group),
            keys.retry(group),
            keys.attempts(group),
            self._leases,
            keys.workers(group),
        )
        self._keys = (*places, keys.admissions(group), *self._streams)

    async def sweep(
        self, *, lease: float, lock: float, silence: float, most: int
    ) -> Sweep:
        """Take over at most ``most`` stalled entries per level.

        Args:
            lease: seconds; of entries that no consumer holds. The entries of a consumer
                are judged by the lease that it announced.
            lock: seconds for which this reclaimer stays the only one.
            silence: seconds after which a consumer with nothing pending is removed.
            most: slice size.
        """
        milliseconds = (
            round(lease * 1000),
            round(lock * 1000),
            most,
            round(silence * 1000),
        )
        command = _SWEEP.command(
            self._keys,
            self._group,
            self._consumer,
            PARKED,
            *milliseconds,
            WAITING,
            *self._levels,
        )
        now, mine, vanished, removed, restored, more, found = await self._link.call(
            *command
        )
        self._clock.observe(now)
        self._has_taken = self._has_taken or vanished > 0 or bool(found)
        stalled = [
            Stalled(
                Delivery(
                    int(level),
                    entry_id.decode(),
                    (b"type", kind, b"id", event, b"meta", meta),
                    count,
                    record,
                ),
                previous.decode(),
                kind,
                meta,
            )
            for level, entry_id, count, previous, record, kind, meta, event in found
        ]
        return Sweep(mine == 1, stalled, vanished, removed, restored, more == 1)

    async def leave(self) -> None:
        """Take its name off the group, if it ever took something over. One command at most."""
        if self._has_taken:
            await leave(
                self._link, self._leases, self._streams, self._group, self._consumer
            )
