"""fetch, confirm, follow, mend: entries of a group lined up by key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

from streams.broker.connection import Broker
from streams.broker.declare import Declaring
from streams.broker.fetch import Delivery, DueReply, Fetching
from streams.broker.scripts import Command, Script
from streams.keys import WAITING, Keys
from streams.lanes import Lanes
from streams.priority import Levels, Turns

_FETCH_LANES = Script("fetch_lanes")
_CONFIRM = Script("confirm")
_FOLLOW = Script("follow")
_MEND = Script("mend_lanes")
_SKIP_HELD = Script("skip_held")
SLICE = 500
"""Entries that are lined up per level and call: some 3 ms of the server's time."""
_PAGE = 500


class Place(NamedTuple):
    """The keys of a group's lanes, and the levels, as every script of them takes them."""

    keys: tuple[str, ...]
    levels: tuple[int, ...]

    @classmethod
    def of(cls, keys: Keys, levels: Levels, group: str) -> Place:
        """Of all levels of a stream."""
        per_level = ((keys.level(at), keys.lane(group, at), keys.ring(group, at)) for at in levels.descending)
        return cls(
            (keys.heads(group), keys.behind(group), keys.rules(group), *(key for three in per_level for key in three)),
            levels.descending,
        )


def follow(
    place: Place, group: str, lanes: Lanes, done: Iterable[Delivery], dead: Iterable[Delivery]
) -> Command | None:
    """The command that lets the keys of settled entries go on; None: none of them has one."""
    if not lanes.order_by:
        return None
    arguments: list[Any] = []
    for delivery in done:
        key = lanes.order_key(delivery.fields)
        if key is not None:
            arguments += (key, *delivery.place, "")
    for delivery in dead:
        key = lanes.order_key(delivery.fields)
        if key is not None:
            arguments += (key, *delivery.place, _event_id(delivery) if lanes.on_dead == "hold" else "")
    if not arguments:
        return None
    return _FOLLOW.command(place.keys, group, len(place.levels), *place.levels, *arguments)


def _event_id(delivery: Delivery) -> bytes:
    named = dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=False))
    return named.get(b"id") or f"{delivery.level}|{delivery.entry_id}".encode()


class FetchingByKey(Fetching):
    """Reads one stream for one consumer of a group whose events are lined up by key.

    Args:
        broker, keys, levels, group, consumer, declaring: as ``Fetching``.
        lanes: how they are lined up.
        known: all levels of the stream; ``levels`` are those that are read.
    """

    def __init__(  # noqa: PLR0913 - as its base, and how the events are lined up
        self,
        broker: Broker,
        keys: Keys,
        levels: Levels,
        group: str,
        consumer: str,
        declaring: Declaring,
        lanes: Lanes,
        known: Levels,
    ) -> None:
        super().__init__(broker, keys, levels, group, consumer, declaring)
        self._lanes = lanes
        self._place = Place.of(keys, known, group)
        self._lasts: dict[int, str] = {}
        self.vanished = 0
        """How many entries had vanished while they were lined up."""
        self.more = False
        """There is more to line up than the last call did."""
        self.idle = False
        """The last call found nothing new."""

    async def declare(self) -> None:
        """Write down how the group is lined up."""
        lanes, rules = self._lanes, self._keys.rules(self._group)
        wanted = {"order_by": ",".join(lanes.order_by), "fair_by": ",".join(lanes.fair_by), "on_dead": lanes.on_dead}
        wanted |= {f"weight:{key}": str(weight) for key, weight in lanes.weights.items()}
        reply = await self._link.call("HGETALL", rules)
        stored = {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}
        gone = [name for name in stored if name.startswith("weight:") and name not in wanted]
        if gone:
            await self._link.call("HDEL", rules, *gone)
        # What stands there already is not written: a worker must be able to start on a server without memory.
        fields = [part for name, value in wanted.items() if stored.get(name) != value for part in (name, value)]
        if fields:
            await self._link.call("HSET", rules, *fields)

    async def _dissolve(self) -> None:
        """What is lined up stays so."""

    async def take(self, limit: int) -> list[Delivery]:
        """Line up what is new, and take at most ``limit`` of what is next; never blocks."""
        return await self._take(limit, dict.fromkeys(self._open, 0))

    async def take_turns(self, turns: Turns, limit: int) -> list[Delivery]:
        """As ``take``, with the places of the levels as ``turns`` plans them."""
        planned = turns.plan(self._open, limit)
        taken = await self._take(limit, dict(zip(self._open, planned, strict=True)))
        counts = dict.fromkeys(self._open, 0)
        for delivery in taken:
            counts[delivery.level] += 1
        turns.took(self._open, planned, counts, 0)
        return taken

    async def _take(self, limit: int, planned: dict[int, int]) -> list[Delivery]:
        levels = self._place.levels
        entries, read, more, vanished, lasts = await self._link.call(
            *_FETCH_LANES.command(
                (*self._place.keys, self._keys.attempts(self._group)),
                self._group,
                self._consumer,
                WAITING,
                limit,
                SLICE,
                ",".join(self._lanes.order_by),
                ",".join(self._lanes.fair_by),
                len(levels),
                *levels,
                *(planned.get(level, -1) for level in levels),
            )
        )
        self.more, self.idle = more == 1, read == 0
        self.vanished += vanished
        if lasts:
            self._lasts = {level: last.decode() for level, last in zip(levels, lasts, strict=True)}
        return [
            Delivery(int(level), entry_id.decode(), fields, count, record)
            for level, entry_id, count, record, fields in entries
        ]

    async def wait(self, count: int, seconds: float, patience: float = 10.0) -> list[Delivery]:
        """Return when something new was published on an open level, after ``seconds`` at the latest; takes nothing."""
        del count
        block = max(1, round(seconds * 1000))
        ids = (self._lasts.get(level, "0-0") for level in self._open)
        await self._blocking.call(
            "XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *self._open_streams, *ids, within=seconds + patience
        )
        return []

    async def take_due(self, limit: int, suspects: int) -> DueReply:
        """As ``Fetching.take_due``; those that are not the first of their key are lined up instead."""
        reply = await super().take_due(limit, suspects)
        ordered = [
            (key, delivery)
            for delivery in reply.deliveries
            if (key := self._lanes.order_key(delivery.fields)) is not None
        ]
        if not ordered:
            return reply
        levels = self._place.levels
        arguments = [part for key, delivery in ordered for part in (key, *delivery.place)]
        confirmed = await self._link.call(
            *_CONFIRM.command(
                self._place.keys, self._group, WAITING, ",".join(self._lanes.fair_by), len(levels), *levels, *arguments
            )
        )
        behind = {delivery.place for (_, delivery), goes in zip(ordered, confirmed, strict=True) if not goes}
        return reply._replace(deliveries=[d for d in reply.deliveries if d.place not in behind])


class Mending:
    """Looks after the lanes of a group, a slice at a time.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
        group: its name.
        lanes: how it is lined up.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Levels, group: str, lanes: Lanes) -> None:
        self._link = broker.control
        self._group = group
        self._lanes = lanes
        self._place = Place.of(keys, levels, group)

    async def mend(self) -> tuple[int, int]:
        """Look at one slice; returns how many heads had ended unnoticed, and how many rows were restored."""
        lanes, levels = self._lanes, self._place.levels
        order, fair = ",".join(lanes.order_by), ",".join(lanes.fair_by)
        followed, restored = await self._link.call(
            *_MEND.command(self._place.keys, self._group, WAITING, order, fair, SLICE, len(levels), *levels)
        )
        return followed, restored


class HeldKey(NamedTuple):
    """A key with its head as stored; ``waiting`` counts what is behind it, at most 1,000."""

    key: str
    head: str
    waiting: int


class Heads:
    """The order keys of a group that have work, for operators.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
        group: its name.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Sequence[int], group: str) -> None:
        self._link = broker.control
        self._keys = keys
        self._group = group
        self._place = Place.of(keys, Levels(levels), group)

    async def rules(self) -> dict[str, str]:
        """What is declared; empty if the group is not lined up by key."""
        reply = await self._link.call("HGETALL", self._keys.rules(self._group))
        return {reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)}

    async def all(self, *, held: bool) -> AsyncIterator[HeldKey]:
        """Every key with work, or only those that are held; page by page, in no order."""
        cursor = b"0"
        while True:
            cursor, rows = await self._link.call("HSCAN", self._keys.heads(self._group), cursor, "COUNT", _PAGE)
            found = [
                (rows[i].decode(), rows[i + 1].decode())
                for i in range(0, len(rows), 2)
                if not held or rows[i + 1].startswith(b"held ")
            ]
            behind = self._keys.behind(self._group)
            commands: list[Command] = [
                ("ZRANGEBYLEX", behind, f"[{key}\1", f"({key}\2", "LIMIT", 0, 1000) for key, _ in found
            ]
            for (key, head), waiting in zip(found, await self._link.batch(commands), strict=True):
                yield HeldKey(key, head, len(waiting) if isinstance(waiting, list) else 0)
            if cursor == b"0":
                return

    async def get(self, key: str) -> str | None:
        """The head of a key, as stored; None: the key is idle."""
        reply = await self._link.call("HGET", self._keys.heads(self._group), key)
        return None if reply is None else reply.decode()

    async def skip(self, key: str, head: str, by: str) -> bool:
        """End the hold of a key, if ``head`` still says it: the next of it may start. Written to the audit stream."""
        levels = self._place.levels
        keys = (*self._place.keys, self._keys.audit())
        return bool(await self._link.call(*_SKIP_HELD.command(keys, self._group, key, head, by, len(levels), *levels)))
