"""Drop a group, and trim the entries that no group needs any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import orjson

from streams.broker.admin.watermarks import WatermarkStore
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import pages, pairs, parts

_DROP = Script("drop")
_TRIM = Script("trim")
_SLICE = 200


class Config(NamedTuple):
    """The stored configuration of a stream.

    Attributes:
        retention: '' if none is stored.
        groups: the declared ones, each with its start and the Unix time (s) of its declaration.
        dropped: groups that were dropped and had dead letters then.
    """

    retention: str
    groups: dict[str, tuple[str, float | None]]
    dropped: list[str]


class GroupStore:
    """Drops groups of one stream, and trims it.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Sequence[int]) -> None:
        self._link = broker.control
        self._keys = keys
        self._levels = levels
        self._streams = [keys.level(level) for level in levels]
        self._marking = WatermarkStore(broker, keys)

    async def config(self) -> Config:
        """The stored configuration. One command."""
        rows = pairs(await self._link.call("HGETALL", self._keys.config()))
        groups, dropped = {}, []

        for name, value in sorted(rows.items()):
            kind, _, group = name.partition(":")
            if kind == "group":
                groups[group] = _declaration(value)
            elif kind == "dropped":
                dropped.append(group)

        return Config(rows.get("retention", b"").decode(), groups, dropped)

    async def drop(self, group: str, by: str, alive: float) -> tuple[bool, list[str]]:
        """Drop a group, unless a consumer was heard of within ``alive`` seconds; 0 drops anyway.

        Returns whether it was dropped, and the consumers that are alive; False and none if
        there is no such group.
        """
        keys = self._keys
        lanes: list[str] = []

        for level in self._levels:
            lanes += (keys.lane(group, level), keys.ring(group, level))

        places = (
            keys.config(),
            keys.paused(),
            keys.retry(group),
            keys.attempts(group),
            keys.sweep(group),
            keys.audit(),
            keys.dead(group),
            *self._streams,
            keys.heads(group),
            keys.behind(group),
            keys.rules(group),
            keys.leases(group),
            keys.admissions(group),
            *lanes,
        )

        dropped, names = await self._link.run(
            _DROP, places, group, by, len(self._levels), round(alive * 1000)
        )

        if dropped:
            # Its missing places must not be reported as losses.
            await self._marking.forget(group, self._levels)
            await self._forget_queues(group)

        return bool(dropped), [name.decode() for name in names]

    async def _forget_queues(self, group: str) -> None:
        """Delete the queues for slots, and their list last: an interrupted call can be repeated."""
        queues = self._keys.queues(group)
        prefix = self._keys.queue_prefix(group)
        found: list[str] = []

        async for page in pages(self._link, ("HSCAN", queues), ("COUNT", _SLICE)):
            found += [prefix + name.decode() for name in page[::2]]

        for part in parts(found, _SLICE):
            await self._link.call("UNLINK", *part)

        await self._link.call("UNLINK", queues)

    async def trim(self) -> AsyncIterator[int]:
        """Delete entries that no group needs any more; gives the count of each slice of 200."""
        config = self._keys.config()
        for stream in self._streams:
            last = b"-"
            while last:
                count, last = await self._link.run(
                    _TRIM, (stream, config), last, _SLICE
                )
                yield count


def _declaration(value: bytes) -> tuple[str, float | None]:
    """Start and Unix time (s) of a declaration; '' and None if it has another form."""
    try:
        facts = orjson.loads(value)
        return str(facts["start"]), float(facts["since"])
    except (LookupError, TypeError, ValueError):
        return "", None
