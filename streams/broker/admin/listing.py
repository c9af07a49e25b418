"""Listings for operators, a page at a time: entries by state, and the audit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from streams.broker.admin.replies import (
    RESTING,
    PendingReply,
    after_id,
    before_id,
    pending_command,
    pending_of,
    replies_of,
)
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import any_place, entry_place, flat, texts
from streams.errors import GroupMissing
from streams.events.names import entry_order

_PEEK_SCHEDULED = Script("peek_scheduled")
_MOST_CONSUMERS = 32
"""Consumers that are asked one by one where resting entries come before those being handled."""
_MOST_ACTIONS = 500
_MOST_AUDIT_ROWS = 10_000


class Listed(NamedTuple):
    """One entry of a listing.

    Attributes:
        level: its level.
        place: its entry id; of a scheduled event, its name.
        due: Unix time (s) at which it starts; None if it waits for no time.
        consumer: that it is pending with; '' for none.
        silent: seconds since that consumer was heard of; None for none.
        deliveries: how often it was delivered.
        fields: names and values, as stored; empty if it was deleted meanwhile.
    """

    level: int
    place: str
    due: float | None = None
    consumer: str = ""
    silent: float | None = None
    deliveries: int = 0
    fields: Sequence[bytes] = ()


class Listing:
    """Pages of one stream.

    Each page costs the same, however many entries there are: one command, and one round trip
    for the fields.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys

    async def scheduled(self, first: int, most: int) -> list[Listed]:
        """Delayed events, the next one first."""
        names = list(await self._due_times(self._keys.scheduled(), first, most))
        if not names:
            return []

        keys = (self._keys.scheduled(), self._keys.scheduled_fields())
        rows = await self._link.run(_PEEK_SCHEDULED, keys, *names)
        found = []

        for name, row in zip(names, rows, strict=True):
            place = any_place(name)
            if row and place:
                due, fields = row
                found.append(Listed(*place, due=float(due) / 1000, fields=fields))

        return found

    async def retrying(self, group: str, first: int, most: int) -> list[Listed]:
        """Entries that wait for a retry, a limit or the end of a pause; the next one first."""
        due_times = await self._due_times(self._keys.retry(group), first, most)
        found = []

        for row, due in due_times.items():
            if place := entry_place(row):
                found.append(Listed(*place, due=due))

        return await self._with_fields(found)

    async def processing(
        self, group: str, level: int, after: str, most: int, consumer: str = ""
    ) -> list[Listed]:
        """Entries of one level that workers handle, the oldest first, with ids above ``after``.

        Entries that wait for a retry or for their key are pending too, and may be many. Where
        they fill the page, the consumers are asked one by one instead: the 32 that have most.

        Args:
            group: its name.
            level: of the stream.
            after: an entry id; '' for the beginning.
            most: entries on the page, at most.
            consumer: only its entries; '' for those of all.
        """
        key = self._keys.level(level)
        command = pending_command(
            key,
            group,
            after,
            most,
            consumer,
        )

        try:
            page = pending_of(await self._link.call(*command))
            rows = [row for row in page if row.consumer not in RESTING]
            if len(page) == most and len(rows) < most:
                rows = await self._by_consumer(
                    key,
                    group,
                    after,
                    most,
                )
        except GroupMissing:
            return []

        return await self._with_fields(
            [
                Listed(
                    level,
                    row.entry_id,
                    consumer=row.consumer,
                    silent=row.silent,
                    deliveries=row.deliveries,
                )
                for row in rows
            ]
        )

    async def _by_consumer(
        self, key: str, group: str, after: str, most: int
    ) -> list[PendingReply]:
        """Pending entries of the workers that have most."""
        _, _, _, counts = await self._link.call("XPENDING", key, group)
        pending = {name.decode(): int(count) for name, count in counts or ()}
        workers = [name for name in pending if name not in RESTING]
        workers.sort(key=lambda name: -pending[name])
        commands = [
            pending_command(
                key,
                group,
                after,
                most,
                name,
            )
            for name in workers[:_MOST_CONSUMERS]
        ]

        found: list[PendingReply] = []

        for reply in await replies_of(self._link, commands):
            found += pending_of(reply)

        found.sort(key=lambda row: entry_order(row.entry_id))

        return found[:most]

    async def stored(self, level: int, after: str, most: int) -> list[Listed]:
        """Every stored entry of one level, the oldest first, with ids above ``after``."""
        key = self._keys.level(level)
        first = after_id(after)
        rows = await self._link.call(
            "XRANGE",
            key,
            first,
            "+",
            "COUNT",
            most,
        )

        return [Listed(level, ident.decode(), fields=fields) for ident, fields in rows]

    async def newest(self, level: int, most: int) -> list[Listed]:
        """Every stored entry of one level, the newest first."""
        key = self._keys.level(level)
        rows = await self._link.call(
            "XREVRANGE",
            key,
            "+",
            "-",
            "COUNT",
            most,
        )

        return [Listed(level, ident.decode(), fields=fields) for ident, fields in rows]

    async def audit(self, before: str, most: int) -> list[tuple[str, dict[str, str]]]:
        """Actions of operators, the latest first, with ids below ``before`` ('' for the end)."""
        if before and not before.replace("-", "").strip("0"):
            return []  # Nothing is below 0-0, and the server refuses such a range.

        key, last = self._keys.audit(), before_id(before)
        rows = await self._link.call(
            "XREVRANGE",
            key,
            last,
            "-",
            "COUNT",
            most,
        )

        return [(ident.decode(), texts(fields)) for ident, fields in rows]

    async def cancelled(self, names: Collection[str]) -> tuple[str, float] | None:
        """The operator who cancelled an event, and the Unix time (s) of it.

        None if the newest 500 rows of the audit do not name the event.

        Args:
            names: of the event: its id, the id of its entry, ``LEVEL|ENTRY-ID``.
        """
        for place, facts in await self.audit("", _MOST_ACTIONS):
            if facts.get("action") != "cancel":
                continue

            cancelled = f"{facts.get('events', '')} {facts.get('entries', '')}".split()
            for name in cancelled:
                if name in names or name.partition("|")[2] in names:
                    at = int(place.partition("-")[0]) / 1000
                    return facts.get("by", ""), at

        return None

    async def write_audit(self, **facts: str) -> None:
        """Record an action that changed nothing of the stream, e.g. that a body was shown."""
        key, trimmed = self._keys.audit(), ("MAXLEN", "~", _MOST_AUDIT_ROWS)
        await self._link.call(
            "XADD",
            key,
            *trimmed,
            "*",
            *flat(facts),
        )

    async def _due_times(self, key: str, first: int, most: int) -> dict[bytes, float]:
        """Member to due time in Unix seconds, the first one first."""
        last = first + most - 1
        reply = await self._link.call(
            "ZRANGE",
            key,
            first,
            last,
            "WITHSCORES",
        )
        rows = zip(reply[::2], reply[1::2], strict=True)

        return {member: float(due) / 1000 for member, due in rows}

    async def _with_fields(self, rows: Iterable[Listed]) -> list[Listed]:
        """The same rows, with the fields of their entries."""
        rows = list(rows)
        commands: list[Command] = [
            ("XRANGE", self._keys.level(row.level), row.place, row.place)
            for row in rows
        ]

        found = []

        for row, reply in zip(
            rows, await replies_of(self._link, commands), strict=True
        ):
            fields = reply[0][1] if reply else ()
            found.append(row._replace(fields=fields))

        return found
