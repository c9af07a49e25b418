"""The states of tracked events, their counters, and the names under which they are found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import flat, pages, parts, texts, whole
from streams.errors import BrokerError

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_TRACK = Script("track")
_FILE = Script("file_tracked")
FILED = 1000
"""Events that are kept under one name of a file, at most; the latest ones."""
ROWS = 50
"""Notes that are kept of one event, at most; the latest ones."""
_PAGE = 500


class Count(NamedTuple):
    """A counter that grows with a state.

    Attributes:
        name: of the counters.
        field: of this one among them.
        amount: by which it grows.
        keep: seconds for which it is kept.
        first: it grows with the first note of an event, whatever its state, and with no other.
    """

    name: str
    field: str
    amount: int
    keep: float
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedState:
    """A state that an event has reached, to be written down.

    Attributes:
        state: its name.
        rank: a state of a lower rank than the current one is noted, and does not replace it.
        retention: seconds for which the event's states are kept.
        facts: further members of the note, as JSON text behind a comma.
        fields: facts about the event; an empty text removes one.
        counts: the counters that grow if the state changes.
        is_anew: the state replaces the current one whatever its rank.
    """

    state: str
    rank: int
    retention: float
    facts: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    counts: Sequence[Count] = ()
    is_anew: bool = False


class TrackStore:
    """Tracked events of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._broker = broker
        self._keys = keys

    @property
    def _link(self) -> Link:
        # Not kept: a broker that is opened again has another connection.
        return self._broker.control

    async def track(self, ident: str, reached: TrackedState) -> tuple[bool, str]:
        """Write a state down; returns whether it became the current one, and the state before."""
        index_of: dict[str, int] = {}
        rows: list[str | int] = []

        for count in reached.counts:
            key = self._keys.counts(count.name)
            # The first two keys are the event's own and the totals.
            index = index_of.setdefault(key, len(index_of) + 3)
            rows += (index, count.field, count.amount)
            rows += (_milliseconds(count.keep), int(count.first))

        moved, before = await self._link.run(
            _TRACK,
            (self._keys.message(ident), self._keys.tracked(), *index_of),
            reached.state,
            reached.rank,
            _milliseconds(reached.retention),
            reached.facts,
            ROWS,
            int(reached.is_anew),
            len(reached.counts),
            *rows,
            *flat(reached.fields),
        )
        return bool(moved), before.decode()

    async def counted(self, names: Sequence[str]) -> list[dict[str, int]]:
        """The counters of each name; empty where nothing was counted. One round trip."""
        commands = [("HGETALL", self._keys.counts(name)) for name in names]
        found = []

        for reply in await self._link.batch(commands):
            if isinstance(reply, BrokerError):
                raise reply

            found.append(_numbers(reply))

        return found

    async def get(self, ident: str) -> dict[str, str]:
        """Everything that is stored of an event; empty if nothing is."""
        return texts(await self._link.call("HGETALL", self._keys.message(ident)))

    async def totals(self) -> dict[str, int]:
        """How often each state was reached, over all time."""
        return _numbers(await self._link.call("HGETALL", self._keys.tracked()))

    async def link(self, name: str, ident: str, retention: float) -> None:
        """Make an event found by another name, for ``retention`` seconds."""
        key, expiry = self._keys.alias(name), _milliseconds(retention)
        await self._link.call("SET", key, ident, "PX", expiry)

    async def linked(self, name: str) -> str | None:
        """The event of that name; None if there is none."""
        found = await self._link.call("GET", self._keys.alias(name))
        return None if found is None else found.decode()

    async def file(self, name: str, ident: str, retention: float) -> None:
        """File an event under a name that several events share, for ``retention`` seconds."""
        keys = (self._keys.filed(name),)
        await self._link.run(_FILE, keys, ident, _milliseconds(retention), FILED)

    async def filed(self, name: str, most: int) -> list[str]:
        """The events filed under a name, the latest first."""
        key = self._keys.filed(name)
        found = await self._link.call("ZRANGE", key, 0, most - 1, "REV")
        return [ident.decode() for ident in found]

    async def known(self) -> AsyncIterator[list[str]]:
        """Ids of the tracked events, a page at a time."""
        prefix = self._keys.message("")
        options = ("MATCH", f"{prefix}*", "COUNT", _PAGE)
        async for page in pages(self._link, ("SCAN",), options):
            if page:
                yield [key.decode().removeprefix(prefix) for key in page]

    async def forget(
        self, idents: Sequence[str], links: Sequence[str], files: Sequence[str]
    ) -> int:
        """Delete events with their states, other names and files; returns how many keys existed."""
        keys = [
            *map(self._keys.message, idents),
            *map(self._keys.alias, links),
            *map(self._keys.filed, files),
        ]
        gone = 0
        for part in parts(keys, _PAGE):
            gone += await self._link.call("UNLINK", *part)

        return gone


def _numbers(reply: Sequence[bytes]) -> dict[str, int]:
    return {name: whole(count) for name, count in texts(reply).items()}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
