"""Time travel and queries of a test's own server. No worker uses this."""

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
    """The unfinished entries of one group, and the scheduled ones of its stream.

    ``processing`` are with the asking consumer, and ``elsewhere`` with others. ``paused``
    would be waiting or due without their pause. ``next_in`` is in seconds. At most 1,000
    waiting entries are counted per level.
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
        """The work of a group from the view of ``consumer``, with one command."""
        ordered = sorted(levels, key=lambda level: level in paused)
        names = [keys.retry(group), keys.scheduled()]
        names += [keys.level(level) for level in ordered]
        names += [keys.lane(group, level) for level in ordered]
        open_levels = sum(level not in paused for level in levels)
        command = _UNFINISHED.command(
            names, group, PARKED, consumer, open_levels, len(ordered), *ordered
        )
        *counts, next_in = await self._link.call(*command)
        return Work._make((*counts, None if next_in < 0 else next_in / 1000))

    async def advance(self, keys: Keys, groups: Sequence[str], seconds: float) -> int:
        """Bring every due time of a stream closer; returns their number."""
        names = (keys.scheduled(), *map(keys.retry, groups))
        command = _ADVANCE.command(names, round(seconds * 1000))
        moved: int = await self._link.call(*command)
        return moved

    async def age_leases(
        self, keys: Keys, levels: Sequence[int], group: str, seconds: float
    ) -> int:
        """Let the leases of a group look older; returns the number of entries."""
        names = [keys.level(level) for level in levels]
        milliseconds = round(seconds * 1000)
        command = _AGE_LEASES.command(names, group, PARKED, milliseconds)
        aged: int = await self._link.call(*command)
        return aged

    async def age_keys(self, seconds: float) -> int:
        """Let expiring keys expire earlier (dedup ids, locks); returns the expired ones."""
        gone = 0
        milliseconds = round(seconds * 1000)
        async for link, names in self._keys():
            gone += await link.call(*_AGE_KEYS.command(names, milliseconds))

        return gone

    async def erase(self) -> None:
        """Delete every key of the namespace."""
        async for link, names in self._keys():
            await link.call("UNLINK", *names)

    async def _keys(self) -> AsyncIterator[tuple[Link, list[str]]]:
        """Every key of the namespace with its server, grouped by hash tag."""
        options = ("MATCH", f"{self._broker.namespace}:*", "COUNT", _PAGE)
        for link in (await self._broker.primaries()).values():
            cursor = ""
            while cursor != "0":
                reply = await link.call("SCAN", cursor or "0", *options)
                cursor = reply[0].decode()
                names = sorted((name.decode() for name in reply[1]), key=_tag)
                for _, group in itertools.groupby(names, _tag):
                    yield link, list(group)


def _tag(key: str) -> str:
    return key.partition("{")[2].partition("}")[0]
