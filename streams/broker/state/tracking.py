"""track: what became of events that somebody follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import whole
from streams.errors import BrokerError

_TRACK = Script("track")
_FILE = Script("file_tracked")
FILED = 1000
ROWS = 50


class Count(NamedTuple):
    """A counter that grows with a state: its name and field, by how much, and for how many seconds it is kept.

    ``first``: it grows with the first note of an event, whatever its state, and with no other.
    """

    name: str
    field: str
    amount: int
    keep: float
    first: bool = False


class TrackStore:
    """Tracked events of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._broker = broker
        self._keys = keys

    async def track(  # noqa: PLR0913 - what the script takes
        self,
        ident: str,
        state: str,
        rank: int,
        retention: float,
        facts: str,
        fields: Mapping[str, str],
        counts: Sequence[Count],
        *,
        anew: bool,
    ) -> tuple[bool, str]:
        """Write a state down; returns whether it moved, and the state before."""
        places: dict[str, int] = {}
        rows: list[str | int] = []
        for name, field, amount, keep, first in counts:
            index = places.setdefault(self._keys.counts(name), len(places) + 3)
            rows += (index, field, amount, round(keep * 1000), int(first))
        pairs = [part for pair in fields.items() for part in pair]
        moved, before = await self._broker.control.call(
            *_TRACK.command(
                (self._keys.message(ident), self._keys.tracked(), *places),
                *(state, rank, round(retention * 1000), facts, ROWS, int(anew)),
                len(counts),
                *rows,
                *pairs,
            )
        )
        return bool(moved), before.decode()

    async def counted(self, names: Sequence[str]) -> list[dict[str, int]]:
        """The counters of each name; empty where nothing was counted. One round trip."""
        commands = [("HGETALL", self._keys.counts(name)) for name in names]
        found = []
        for reply in await self._broker.control.batch(commands):
            if isinstance(reply, BrokerError):
                raise reply
            found.append(
                {field: whole(value) for field, value in _pairs(reply).items()}
            )
        return found

    async def get(self, ident: str) -> dict[str, str]:
        """Everything that is stored of an event; empty if nothing is."""
        return _pairs(
            await self._broker.control.call("HGETALL", self._keys.message(ident))
        )

    async def totals(self) -> dict[str, int]:
        """How often which state was reached, since ever."""
        found = _pairs(await self._broker.control.call("HGETALL", self._keys.tracked()))
        return {state: whole(count) for state, count in found.items()}

    async def link(self, name: str, ident: str, retention: float) -> None:
        """Let an event be found by another name."""
        await self._broker.control.call(
            "SET", self._keys.alias(name), ident, "PX", round(retention * 1000)
        )

    async def linked(self, name: str) -> str | None:
        """The event of that name."""
        found = await self._broker.control.call("GET", self._keys.alias(name))
        return None if found is None else found.decode()

    async def file(self, name: str, ident: str, retention: float) -> None:
        """Let an event be found with others that have something in common."""
        command = _FILE.command(
            (self._keys.filed(name),), ident, round(retention * 1000), FILED
        )
        await self._broker.control.call(*command)

    async def filed(self, name: str, most: int) -> list[str]:
        """The events filed under a name, the latest first."""
        found = await self._broker.control.call(
            "ZRANGE", self._keys.filed(name), 0, most - 1, "REV"
        )
        return [ident.decode() for ident in found]

    async def known(self) -> AsyncIterator[list[str]]:
        """Ids of the tracked events, a page at a time."""
        prefix, cursor = self._keys.message(""), "0"
        while True:
            reply = await self._broker.control.call(
                "SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 500
            )
            cursor = reply[0].decode()
            if reply[1]:
                yield [key.decode().removeprefix(prefix) for key in reply[1]]
            if cursor == "0":
                return

    async def forget(
        self, idents: Sequence[str], links: Sequence[str], files: Sequence[str]
    ) -> int:
        """Delete what is known of events, their other names, and what they were filed under; returns how many keys."""
        keys = [
            *map(self._keys.message, idents),
            *map(self._keys.alias, links),
            *map(self._keys.filed, files),
        ]
        gone = 0
        for at in range(0, len(keys), 500):
            gone += await self._broker.control.call("UNLINK", *keys[at : at + 500])
        return gone


def _pairs(reply: list[Any]) -> dict[str, str]:
    return {
        reply[i].decode(): reply[i + 1].decode("utf-8", "replace")
        for i in range(0, len(reply), 2)
    }
