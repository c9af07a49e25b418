"""travel, unfinished, erase: what tests of users do with a server of their own. No role uses this."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streams.broker.keys import PARKED, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_ADVANCE = Script("advance")
_AGE_LEASES = Script("age_leases")
_AGE_KEYS = Script("age_keys")
_UNFINISHED = Script("unfinished")
_PAGE = 500


class Work(NamedTuple):
    """What one group still has to do. ``scheduled`` belongs to the stream; ``next_in`` is in seconds.

    ``processing``: with the consumer that asks; ``elsewhere``: with others; ``paused``: would be waiting or due. At
    most 1,000 waiting entries are counted per level.
    """

    waiting: int
    processing: int
    elsewhere: int
    retries_due: int
    retries_later: int
    scheduled_due: int
    scheduled_later: int
    paused: int
    next_in: float | None


class Rehearsing:
    """Queries and time travel on a broker whose namespace belongs to one test."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._link = broker.control

    async def unfinished(
        self,
        keys: Keys,
        levels: Sequence[int],
        group: str,
        consumer: str,
        *,
        paused: Collection[int] = (),
    ) -> Work:
        """What a group has to do, as ``consumer`` sees it; ``paused`` levels hold theirs back. One command."""
        ordered = sorted(levels, key=lambda level: level in paused)
        lanes = (keys.lane(group, level) for level in ordered)
        names = (keys.retry(group), keys.scheduled(), *map(keys.level, ordered), *lanes)
        open_levels = sum(level not in paused for level in levels)
        command = _UNFINISHED.command(
            names, group, PARKED, consumer, open_levels, len(ordered), *ordered
        )
        *counts, next_in = await self._link.call(*command)
        return Work._make((*counts, None if next_in < 0 else next_in / 1000))

    async def advance(self, keys: Keys, groups: Sequence[str], seconds: float) -> int:
        """Bring every due time of a stream closer; returns how many."""
        names = (keys.scheduled(), *map(keys.retry, groups))
        moved: int = await self._link.call(
            *_ADVANCE.command(names, round(seconds * 1000))
        )
        return moved

    async def age_leases(
        self, keys: Keys, levels: Sequence[int], group: str, seconds: float
    ) -> int:
        """Make what consumers hold look silent for longer; returns how many entries."""
        names = [keys.level(level) for level in levels]
        aged: int = await self._link.call(
            *_AGE_LEASES.command(names, group, PARKED, round(seconds * 1000))
        )
        return aged

    async def age_keys(self, seconds: float) -> int:
        """Let every expiring key of the namespace expire earlier (dedup ids, locks); returns how many are gone."""
        gone = 0
        async for link, names in self._keys():
            gone += await link.call(*_AGE_KEYS.command(names, round(seconds * 1000)))
        return gone

    async def erase(self) -> None:
        """Delete every key of the namespace."""
        async for link, names in self._keys():
            await link.call("UNLINK", *names)

    async def _keys(self) -> AsyncIterator[tuple[Link, list[str]]]:
        """Every key of the namespace and the server that has it; those that come together are of one stream."""
        for link in (await self._broker.primaries()).values():
            cursor = "0"
            while True:
                reply = await link.call(
                    "SCAN",
                    cursor,
                    "MATCH",
                    f"{self._broker.namespace}:*",
                    "COUNT",
                    _PAGE,
                )
                cursor = reply[0].decode()
                names = sorted((name.decode() for name in reply[1]), key=_tag)
                for _, group in itertools.groupby(names, _tag):
                    yield link, list(group)
                if cursor == "0":
                    break


def _tag(key: str) -> str:
    return key.partition("{")[2].partition("}")[0]
