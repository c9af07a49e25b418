"""hold, and what comes back when a pause of an attribute ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.connection import Broker
from streams.broker.fetch import Delivery
from streams.broker.places import GivingBack
from streams.broker.scripts import Script
from streams.keys import PARKED, Keys
from streams.priority import Levels
from streams.retry import AttemptRecord

if TYPE_CHECKING:
    from streams.broker.link import Link

_HOLD = Script("hold")
_HASTEN = Script("hasten")
_BREAKER = Script("breaker")
_PAGE = 500
MAY_START, PROBES, HELD, LOST = 1, 2, 0, -1
CLOSED, IS_OPEN, OPENED, CLOSES = 0, 1, 2, 3


class Hold(NamedTuple):
    """An entry that a pause covers; ``record`` says so in its attempt record."""

    delivery: Delivery
    scope: str
    record: bytes


class Holding:
    """What a consumer puts aside for pauses of attributes.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream, all of them.
        group, consumer: names.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Levels, group: str, consumer: str) -> None:
        self._broker = broker
        self._group = group
        self._consumer = consumer
        self._levels = levels.descending
        self._giving_back = GivingBack(keys, levels, group, consumer)
        self._keys = (
            keys.paused(),
            keys.retry(group),
            keys.attempts(group),
            keys.config(),
            *map(keys.level, self._levels),
        )

    async def hold(self, rows: Sequence[Hold]) -> list[int]:
        """Put entries aside until their pauses end; per entry MAY_START if that is over, PROBES, HELD, or LOST."""
        slots: dict[str, int] = {}
        arguments: list[Any] = []
        for delivery, scope, record in rows:
            arguments += (*delivery.place, delivery.count, scope, record, len(delivery.slots))
            arguments += self._giving_back.indexes(delivery, slots, 1 + len(self._keys))
        command = _HOLD.command(
            (*self._keys, *slots), self._group, self._consumer, PARKED, len(self._levels), *self._levels, *arguments
        )
        return list(await self._broker.control.call(*command))


async def bring_back(link: Link, keys: Keys, group: str, wanted: Callable[[AttemptRecord], bool], mark: bytes) -> int:
    """Let waiting entries whose record is ``wanted`` be looked at now; ``mark`` is a text that such records have.

    Returns how many. Walks through what waits.
    """
    found = 0
    async for members in _marked(link, keys, group, wanted, mark):
        found += await link.call(*_HASTEN.command((keys.retry(group),), *members))
    return found


async def held_by_scope(link: Link, keys: Keys, group: str) -> dict[str, int]:
    """How many entries of a group wait for which pause. Walks through what waits."""
    counts: dict[str, int] = {}

    def count(record: AttemptRecord) -> bool:
        counts[record.held] = counts.get(record.held, 0) + bool(record.held)
        return False

    async for _ in _marked(link, keys, group, count, b'"held"'):
        pass
    counts.pop("", None)
    return counts


async def _marked(
    link: Link, keys: Keys, group: str, wanted: Callable[[AttemptRecord], bool], mark: bytes
) -> AsyncIterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, rows = await link.call("HSCAN", keys.attempts(group), cursor, "COUNT", _PAGE)
        members = [
            member
            for member, record in zip(rows[::2], rows[1::2], strict=True)
            if mark in record and wanted(AttemptRecord.from_json(record))
        ]
        for at in range(0, len(members), _PAGE):
            yield members[at : at + _PAGE]
        if cursor == b"0":
            return


class Breaking:
    """The counts of circuit breakers of one group.

    Args:
        broker: an open broker.
        stream, group: names.
    """

    def __init__(self, broker: Broker, stream: str, group: str) -> None:
        self._link = broker.link()
        self._keys = broker.keys(stream)
        self._group = group

    async def ended(
        self, scope: str, key: str, member: str, outcome: str, well: int, rule: tuple[int, int, float, int, str]
    ) -> tuple[int, float]:
        """Count an attempt; returns one of CLOSED, IS_OPEN, OPENED, CLOSES, and the seconds to the probe."""
        window_ms, minimum, share, every_ms, name = rule
        places = (self._keys.paused(), self._keys.audit(), self._keys.breaker(self._group, key))
        state, wait = await self._link.call(
            *_BREAKER.command(places, scope, member, outcome, well, window_ms, minimum, share, every_ms, name)
        )
        return state, wait / 1000

    async def bring_back(self, scope: str) -> int:
        """Let what waits for this scope be looked at now."""
        return await bring_back(self._link, self._keys, self._group, lambda record: record.held == scope, b'"held"')

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()
