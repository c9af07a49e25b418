"""Entries that come back from a pause or a limit, and circuit breakers' counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.policy.admission import Admission

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_HASTEN = Script("hasten")
_BREAKER = Script("breaker")
_PAGE = 500
_OLD = (b'"held"', b'"reserved"')
"""Fields of an older version's records, whose entries wait for a pause or a limit."""
CLOSED, IS_OPEN, OPENED, CLOSES = 0, 1, 2, 3


async def bring_back(
    link: Link, keys: Keys, group: str, wanted: Callable[[Admission], bool]
) -> int:
    """Let the ``wanted`` of the waiting entries be looked at now; returns how many.

    It walks through all that wait.
    """
    found = 0
    async for members in _waiting(link, keys, group, wanted):
        found += await link.call(*_HASTEN.command((keys.retry(group),), *members))
    return found


async def held_by_scope(link: Link, keys: Keys, group: str) -> dict[str, int]:
    """How many entries of a group wait for which pause. Walks through what waits."""
    counts: Counter[str] = Counter()

    def count(admission: Admission) -> bool:
        counts[admission.scope] += 1
        return False

    async for _ in _waiting(link, keys, group, count):
        pass
    counts.pop("", None)
    return dict(counts)


async def _waiting(
    link: Link, keys: Keys, group: str, wanted: Callable[[Admission], bool]
) -> AsyncIterator[list[bytes]]:
    """The ``wanted`` of the entries that wait for a limit or a pause.

    Last come those that an older version wrote into attempt records.
    """
    async for page in _pages(link, keys.admissions(group)):
        rows = ((member, Admission.stored(row)) for member, row in page)
        if members := [
            member
            for member, admission in rows
            if admission is not None and wanted(admission)
        ]:
            yield members
    async for page in _pages(link, keys.attempts(group)):
        records = (
            (member, record)
            for member, record in page
            if any(mark in record for mark in _OLD)
        )
        rows = ((member, Admission.stored(None, record)) for member, record in records)
        if members := [
            member
            for member, admission in rows
            if admission is not None and wanted(admission)
        ]:
            yield members


async def _pages(link: Link, place: str) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """The rows of a hash, in parts that a script can take."""
    cursor = b"0"
    while True:
        cursor, rows = await link.call("HSCAN", place, cursor, "COUNT", _PAGE)
        found = list(zip(rows[::2], rows[1::2], strict=True))
        for at in range(0, len(found), _PAGE):
            yield found[at : at + _PAGE]
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
        self,
        scope: str,
        key: str,
        member: str,
        outcome: str,
        well: int,
        rule: tuple[int, int, float, int, str],
    ) -> tuple[int, float]:
        """Count an attempt.

        Returns one of CLOSED, IS_OPEN, OPENED, CLOSES, and the seconds to the probe.
        """
        window_ms, minimum, share, every_ms, name = rule
        places = (
            self._keys.paused(),
            self._keys.audit(),
            self._keys.breaker(self._group, key),
        )
        state, wait = await self._link.call(
            *_BREAKER.command(
                places,
                scope,
                member,
                outcome,
                well,
                window_ms,
                minimum,
                share,
                every_ms,
                name,
            )
        )
        return state, wait / 1000

    async def bring_back(self, scope: str) -> int:
        """Let what waits for this scope be looked at now."""
        return await bring_back(
            self._link,
            self._keys,
            self._group,
            lambda admission: admission.scope == scope,
        )

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()
