"""declare, fetch, follow, repair: entries of a group that are queued by key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery, read_rows
from streams.broker.entries.fetch import DueReply, Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.keys import PARKED, WAITING, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import texts
from streams.policy.levels import Levels, LevelTurns
from streams.policy.ordering import Lanes, unread_key

_FETCH_LANES = Script("fetch_lanes")
_DECLARE = Script("declare_lanes")
_FOLLOW = Script("follow")
_MEND = Script("mend_lanes")
_SKIP_HELD = Script("skip_held")
SLICE = 500
"""Entries that are queued per level and call: some 3 ms of the server's time."""
_PAGE = 500


class LaneKeys(NamedTuple):
    """The keys of a group's lanes, and the levels, as every script of them takes them."""

    keys: tuple[str, ...]
    levels: tuple[int, ...]

    @classmethod
    def of(cls, keys: Keys, levels: Levels | Iterable[int], group: str) -> LaneKeys:
        """Of all levels of a stream."""
        highest_first = (
            levels.descending
            if isinstance(levels, Levels)
            else tuple(sorted(levels, reverse=True))
        )
        per_level = (
            (keys.level(at), keys.lane(group, at), keys.ring(group, at))
            for at in highest_first
        )
        return cls(
            (
                keys.heads(group),
                keys.behind(group),
                keys.rules(group),
                *(key for three in per_level for key in three),
            ),
            highest_first,
        )


class Ways:
    """The orders by which entries of a group may be queued.

    This worker declares one, and other workers may declare others. An entry that was
    queued under another order goes on by that order, whichever worker settles it. The
    scripts tell these orders with every read; reader and settler share this object.

    Args:
        lanes: as this worker declares it.

    Attributes:
        lanes: as given.
        orders: the attributes that may make the order key of an entry.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.orders: tuple[tuple[str, ...], ...] = (
            (lanes.order_by,) if lanes.order_by else ()
        )
        self._text = b""

    @classmethod
    def of(cls, given: Ways | Lanes) -> Ways:
        """``given`` itself, or the ways of lanes that this worker declares."""
        return given if isinstance(given, Ways) else cls(given)

    def learn(self, text: bytes) -> None:
        """Take over what the scripts answered."""
        if not text or text == self._text:
            return
        self._text = text
        ways = text.decode("utf-8", "replace").split(";")
        orders = [tuple(filter(None, way.partition("|")[0].split(","))) for way in ways]
        self.orders = tuple(
            dict.fromkeys(order for order in (self.lanes.order_by, *orders) if order)
        )

    def keys(self, fields: Sequence[bytes]) -> list[str] | list[bytes]:
        """The keys that a stored event may be the head of.

        Or that from which the scripts make them, if only they can.
        """
        if len(self.orders) == 1 and self.orders[0] == self.lanes.order_by:
            key = self.lanes.order_key(fields)
            found = [] if key is None else [key]
        else:
            keys = (Lanes(order).order_key(fields) for order in self.orders)
            found = list(dict.fromkeys(key for key in keys if key is not None))
        if not found and (unread := unread_key(fields)) is not None:
            return [unread]
        return found


def follow(
    place: LaneKeys,
    group: str,
    given: Ways | Lanes,
    done: Iterable[Delivery],
    dead: Iterable[Delivery],
) -> Command | None:
    """The command that lets the keys of settled entries go on; None: none of them has one."""
    ways = Ways.of(given)
    if not ways.orders:
        return None
    arguments: list[Any] = []
    for delivery in done:
        for key in ways.keys(delivery.fields):
            arguments += (key, *delivery.place, "")
    for delivery in dead:
        event_id = _event_id(delivery) if ways.lanes.on_dead == "hold" else ""
        for key in ways.keys(delivery.fields):
            arguments += (key, *delivery.place, event_id)
    if not arguments:
        return None
    return _FOLLOW.command(
        place.keys, group, WAITING, len(place.levels), *place.levels, *arguments
    )


def _event_id(delivery: Delivery) -> bytes:
    named = dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=False))
    return named.get(b"id") or f"{delivery.level}|{delivery.entry_id}".encode()


class _Taken(NamedTuple):
    """The reply to one read; see the script."""

    deliveries: list[Delivery]
    read: int
    fresh: int
    about_retries: list[Any]


class FetchingByKey(Fetching):
    """Reads one stream for one consumer of a group whose events are queued by key.

    Args:
        me, declaring: as ``Fetching``.
        ways: the orders of its entries; it learns those that the scripts know.
    """

    def __init__(
        self, me: GroupConsumer, declaring: Declaring, ways: Ways | Lanes
    ) -> None:
        super().__init__(me, declaring)
        self._ways = Ways.of(ways)
        self._lanes = self._ways.lanes
        self._place = LaneKeys.of(me.keys, me.levels, me.group)
        self._lasts: dict[int, str] = {}
        self._vanished = 0
        self.more = False
        """There are more entries to queue than the last call did."""
        self.idle = False
        """The last call found nothing new."""

    def take_vanished(self) -> int:
        """How many entries had vanished while they were queued, since the last call."""
        vanished, self._vanished = self._vanished, 0
        return vanished

    async def declare(self) -> str:
        """Write down how the group is ordered.

        Returns the order by which entries wait if that is another one, else ''.
        """
        lanes, levels = self._lanes, self._place.levels
        weights = [
            part for value, weight in lanes.weights.items() for part in (value, weight)
        ]
        ways, before = await self._link.call(
            *_DECLARE.command(
                self._place.keys,
                self._group,
                WAITING,
                ",".join(lanes.order_by),
                ",".join(lanes.fair_by),
                lanes.on_dead,
                len(levels),
                *levels,
                *weights,
            )
        )
        self._ways.learn(ways)
        return str(before, "utf-8")

    async def _dissolve(self) -> int:
        """The entries stay queued by key."""
        return 0

    async def take(self, limit: int) -> list[Delivery]:
        """Queue new entries, and take at most ``limit`` of the next; never blocks."""
        return (await self._take(limit, dict.fromkeys(self._open, 0))).deliveries

    async def take_turns(self, turns: LevelTurns, limit: int) -> list[Delivery]:
        """As ``take``, with the places of the levels as ``turns`` plans them."""
        planned = self._planned(turns, limit)
        taken = (await self._take(limit, planned)).deliveries
        turns.took_these(planned, taken, 0)
        return taken

    async def take_alone(self, suspect: str) -> list[Delivery]:
        """As ``Fetching.take_alone``; one that is not first of its key is queued."""
        return (await self._take(1, {}, alone=suspect)).deliveries

    async def take_due(
        self, limit: int, suspects: int, turns: LevelTurns | None = None
    ) -> DueReply:
        """As ``Fetching.take_due``; the entries next by key count as new.

        Without ``turns`` they come in turn, too.

        A retry that is not the first of its key is queued.
        """
        turns = turns or LevelTurns()
        planned = self._planned(turns, limit)
        reply = await self._take(limit, planned, (suspects, turns.retries))
        now, next_due, paused, since, scopes, more, odd, suspect = reply.about_retries
        self._clock.observe(now)
        served = dict(zip(self._place.levels, since, strict=True))
        self._due_from = [served[level] for level in self._levels]
        if reply.deliveries:
            turns.retries = odd
            turns.took_these(planned, reply.deliveries, 0)
        return DueReply(
            reply.deliveries,
            None if next_due < 0 else next_due / 1000,
            self.take_vanished(),
            frozenset(map(int, paused)) & frozenset(self._levels),
            frozenset(scope.decode("utf-8", "replace") for scope in scopes),
            more == 1,
            reply.fresh > 0 or reply.read > 0 or self.more,
            suspect.decode(),
        )

    async def _take(
        self,
        limit: int,
        planned: dict[int, int],
        retries: tuple[int, int] = (-1, 0),
        alone: str = "",
    ) -> _Taken:
        """Queue new entries, and take the next ones.

        Args:
            limit: the most entries.
            planned: the places of each level.
            retries: how many suspects at most, -1 if due retries are not looked at; and
                to which side an odd place goes.
            alone: a suspect to take; with nothing planned, nothing else is.
        """
        levels = self._place.levels
        since = dict(zip(self._levels, self._due_from, strict=True))
        keys, group = self._keys, self._group
        (
            entries,
            read,
            more,
            vanished,
            lasts,
            ways,
            fresh,
            about_retries,
        ) = await self._link.call(
            *_FETCH_LANES.command(
                (
                    *self._place.keys,
                    keys.attempts(group),
                    keys.retry(group),
                    keys.paused(),
                    keys.admissions(group),
                ),
                group,
                self._consumer,
                WAITING,
                limit,
                SLICE,
                ",".join(self._lanes.order_by),
                ",".join(self._lanes.fair_by),
                PARKED,
                *retries,
                alone,
                len(levels),
                *levels,
                *(planned.get(level, -1) for level in levels),
                *(since.get(level, -1) for level in levels),
            )
        )
        self.more = more == 1
        if read >= 0:
            self.idle = read == 0
        self._vanished += vanished
        self._ways.learn(ways)
        if lasts:
            self._lasts = {
                level: last.decode() for level, last in zip(levels, lasts, strict=True)
            }
        return _Taken(read_rows(entries), read, fresh, about_retries)

    async def wait(
        self, count: int, seconds: float, patience: float = 10.0
    ) -> list[Delivery]:
        """Return when something new was published on an open level.

        It returns after ``seconds`` at the latest, and takes nothing.
        """
        del count
        block = max(1, round(seconds * 1000))
        ids = (self._lasts.get(level, "0-0") for level in self._open)
        await self._blocking.call(
            "XREAD",
            "COUNT",
            1,
            "BLOCK",
            block,
            "STREAMS",
            *self._open_streams,
            *ids,
            within=seconds + patience,
        )
        return []


class LaneRepair:
    """Looks after the lanes of a group, a slice at a time.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
        group: its name.
        ways: the orders of its entries; it learns those that the scripts know.
    """

    def __init__(
        self, broker: Broker, keys: Keys, levels: Levels, group: str, ways: Ways | Lanes
    ) -> None:
        self._link = broker.control
        self._group = group
        self._ways = Ways.of(ways)
        self._place = LaneKeys.of(keys, levels, group)

    async def mend(self) -> tuple[int, int]:
        """Look at one slice.

        Returns how many heads had ended unnoticed, and how many rows were restored.
        """
        lanes, levels = self._ways.lanes, self._place.levels
        order, fair = ",".join(lanes.order_by), ",".join(lanes.fair_by)
        followed, restored, ways = await self._link.call(
            *_MEND.command(
                self._place.keys,
                self._group,
                WAITING,
                order,
                fair,
                SLICE,
                len(levels),
                *levels,
            )
        )
        self._ways.learn(ways)
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

    def __init__(
        self, broker: Broker, keys: Keys, levels: Sequence[int], group: str
    ) -> None:
        self._link = broker.control
        self._keys = keys
        self._group = group
        self._place = LaneKeys.of(keys, Levels(levels), group)

    async def rules(self) -> dict[str, str]:
        """The declared rules; empty if the group is not ordered by key."""
        return texts(await self._link.call("HGETALL", self._keys.rules(self._group)))

    async def all(self, *, held: bool) -> AsyncIterator[HeldKey]:
        """Every key with work, or only those that are held; page by page, in no order."""
        cursor = b"0"
        while True:
            cursor, rows = await self._link.call(
                "HSCAN", self._keys.heads(self._group), cursor, "COUNT", _PAGE
            )
            found = [
                (rows[i], rows[i + 1].decode("utf-8", "replace"))
                for i in range(0, len(rows), 2)
                if not held or rows[i + 1].startswith(b"held ")
            ]
            behind = self._keys.behind(self._group)
            commands: list[Command] = [
                (
                    "ZRANGEBYLEX",
                    behind,
                    b"[" + key + b"\1",
                    b"(" + key + b"\2",
                    "LIMIT",
                    0,
                    1000,
                )
                for key, _ in found
            ]
            for (key, head), waiting in zip(
                found, await self._link.batch(commands), strict=True
            ):
                yield HeldKey(
                    key.decode("utf-8", "replace"),
                    head,
                    len(waiting) if isinstance(waiting, list) else 0,
                )
            if cursor == b"0":
                return

    async def get(self, key: str) -> str | None:
        """The head of a key, as stored; None: the key is idle."""
        reply = await self._link.call("HGET", self._keys.heads(self._group), key)
        return None if reply is None else reply.decode("utf-8", "replace")

    async def skip(self, key: str, head: str, by: str) -> bool:
        """End the hold of a key, if ``head`` still says it: the next may start.

        Written to the audit stream.
        """
        levels = self._place.levels
        keys = (*self._place.keys, self._keys.audit())
        command = _SKIP_HELD.command(
            keys, self._group, key, head, by, WAITING, len(levels), *levels
        )
        return bool(await self._link.call(*command))
