"""Listings for operators: what waits for its time, what is with whom, and what was done, a page at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from streams.broker.keys import PARKED, WAITING, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import any_place, entry_place
from streams.errors import BrokerError, GroupMissing
from streams.events.names import entry_order

_PEEK_SCHEDULED = Script("peek_scheduled")
_CONSUMERS = 32
_DEEDS = 500
"""So many consumers are asked one by one where what waits stands before what runs."""


_RESTING = {PARKED, WAITING}
"""Consumers that are no workers: theirs is what waits for a retry, a limit or its key."""
_Pending = tuple[str, str, float, int]
"""Entry id, consumer, seconds since it was last heard of, and how often it was given out."""


class Listed(NamedTuple):
    """One entry of a listing.

    Attributes:
        level, place: where it is: its entry id, or what a scheduled event is called.
        due: Unix seconds of its time; None where it waits for none.
        consumer: who holds it; '' for nobody.
        silent: seconds since that was last heard of; None for nobody.
        deliveries: how often it was given out.
        fields: names and values, as stored; empty if it was deleted meanwhile.
    """

    level: int
    place: str
    due: float | None
    consumer: str
    silent: float | None
    deliveries: int
    fields: Sequence[bytes]


class Listing:
    """Pages of one stream. Each page costs the same, whatever there is: one command, and one round trip for the fields.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys

    async def scheduled(self, first: int, most: int) -> list[Listed]:
        """Delayed events, the next one first."""
        reply = await self._link.call(
            "ZRANGE", self._keys.scheduled(), first, first + most - 1, "WITHSCORES"
        )
        names = [reply[i] for i in range(0, len(reply), 2)]
        if not names:
            return []
        keys = (self._keys.scheduled(), self._keys.scheduled_fields())
        rows = await self._link.call(*_PEEK_SCHEDULED.command(keys, *names))
        found = []
        for name, row in zip(names, rows, strict=True):
            if row and (named := any_place(name)):
                found.append(Listed(*named, float(row[0]) / 1000, "", None, 0, row[1]))
        return found

    async def retrying(self, group: str, first: int, most: int) -> list[Listed]:
        """What waits for a retry, a limit or the end of a pause; the next one first."""
        reply = await self._link.call(
            "ZRANGE", self._keys.retry(group), first, first + most - 1, "WITHSCORES"
        )
        rows = ((entry_place(reply[i]), reply[i + 1]) for i in range(0, len(reply), 2))
        places = [(*named, float(due) / 1000) for named, due in rows if named]
        fields = await self._fields(
            [(level, entry_id) for level, entry_id, _ in places]
        )
        return [
            Listed(level, entry_id, due, "", None, 0, its)
            for (level, entry_id, due), its in zip(places, fields, strict=True)
        ]

    async def processing(
        self, group: str, level: int, after: str, most: int, consumer: str = ""
    ) -> list[Listed]:
        """What is with workers, or one of them, on one level, the oldest first, from behind the id ``after``.

        Retries and what is lined up behind a key are pending as well, and may be many: they hide nothing here. Where
        they stand before what runs, the consumers are asked one by one; of more than 32 that hold something, those that
        hold most.
        """
        key = self._keys.level(level)
        try:
            page = await self._pending(key, group, after, most, consumer)
            rows = [row for row in page if row[1] not in _RESTING]
            if len(page) == most and len(rows) < most:
                rows = await self._with_workers(key, group, after, most)
        except GroupMissing:
            return []
        fields = await self._fields([(level, entry_id) for entry_id, *_ in rows])
        return [
            Listed(level, entry_id, None, consumer, silent, count, stored)
            for (entry_id, consumer, silent, count), stored in zip(
                rows, fields, strict=True
            )
        ]

    async def _pending(
        self, key: str, group: str, after: str, most: int, consumer: str
    ) -> list[_Pending]:
        rows = await self._link.call(
            *_pending_command(key, group, after, most, consumer)
        )
        return [
            (row[0].decode(), row[1].decode(), row[2] / 1000, row[3]) for row in rows
        ]

    async def _with_workers(
        self, key: str, group: str, after: str, most: int
    ) -> list[_Pending]:
        summary = await self._link.call("XPENDING", key, group)
        held = {name.decode(): int(count) for name, count in summary[3] or ()}
        busy = sorted(
            (name for name in held if name not in _RESTING),
            key=lambda name: -held[name],
        )[:_CONSUMERS]
        commands = [_pending_command(key, group, after, most, name) for name in busy]
        found: list[_Pending] = []
        for reply in await self._link.batch(commands) if commands else ():
            if isinstance(reply, BrokerError):
                raise reply
            found += [
                (row[0].decode(), row[1].decode(), row[2] / 1000, row[3])
                for row in reply
            ]
        return sorted(found, key=lambda row: entry_order(row[0]))[:most]

    async def stored(self, level: int, after: str, most: int) -> list[Listed]:
        """What is stored on one level, whoever has it, the oldest first, from behind the entry id ``after``."""
        first = f"({after}" if after else "-"
        rows = await self._link.call(
            "XRANGE", self._keys.level(level), first, "+", "COUNT", most
        )
        return [
            Listed(level, entry_id.decode(), None, "", None, 0, fields)
            for entry_id, fields in rows
        ]

    async def newest(self, level: int, most: int) -> list[Listed]:
        """What is stored on one level, whoever has it, the newest first."""
        rows = await self._link.call(
            "XREVRANGE", self._keys.level(level), "+", "-", "COUNT", most
        )
        return [
            Listed(level, entry_id.decode(), None, "", None, 0, fields)
            for entry_id, fields in rows
        ]

    async def audit(self, before: str, most: int) -> list[tuple[str, dict[str, str]]]:
        """What operators did, the latest first, from before the id ``before`` ('' for the end)."""
        if not before.replace("-", "").strip("0") and before:
            return []  # Nothing is before 0-0, and the server refuses to look.
        last = f"({before}" if before else "+"
        rows = await self._link.call(
            "XREVRANGE", self._keys.audit(), last, "-", "COUNT", most
        )
        return [(ident.decode(), _pairs(fields)) for ident, fields in rows]

    async def cancelled(self, names: Collection[str]) -> tuple[str, float] | None:
        """Whether somebody cancelled an event, as the newest 500 deeds tell; None: not that is known of.

        Args:
            names: what the event is called: its id, the id of its entry, ``LEVEL|ENTRY-ID``.

        Returns:
            By whom, and when in Unix seconds.
        """
        for place, facts in await self.audit("", _DEEDS):
            if facts.get("action") != "cancel":
                continue
            for name in f"{facts.get('events', '')} {facts.get('entries', '')}".split():
                if name in names or name.partition("|")[2] in names:
                    return facts.get("by", ""), int(place.partition("-")[0]) / 1000
        return None

    async def write_audit(self, **facts: str) -> None:
        """Write down what an operator did that changed nothing of the stream, e.g. looked at a body."""
        pairs = [part for pair in facts.items() for part in pair]
        await self._link.call(
            "XADD", self._keys.audit(), "MAXLEN", "~", 10000, "*", *pairs
        )

    async def _fields(self, places: Sequence[tuple[int, str]]) -> list[Sequence[bytes]]:
        if not places:
            return []
        commands = [
            ("XRANGE", self._keys.level(level), entry_id, entry_id)
            for level, entry_id in places
        ]
        found: list[Sequence[bytes]] = []
        for reply in await self._link.batch(commands):
            if isinstance(reply, BrokerError):
                raise reply
            found.append(reply[0][1] if reply else ())
        return found


def _pairs(fields: Sequence[Any]) -> dict[str, str]:
    return {
        fields[i].decode("utf-8", "replace"): fields[i + 1].decode("utf-8", "replace")
        for i in range(0, len(fields), 2)
    }


def _pending_command(
    key: str, group: str, after: str, most: int, consumer: str
) -> tuple[str | int, ...]:
    first = f"({after}" if after else "-"
    return ("XPENDING", key, group, first, "+", most, *filter(None, [consumer]))
