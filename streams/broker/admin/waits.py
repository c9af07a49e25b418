"""waits: what is known of why an entry waits, for whoever judges it. Read only, and bounded whatever is stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from streams.broker.admin.inspect import Found
from streams.broker.admin.pauses import Stored, stored_pauses
from streams.broker.keys import PARKED, RECLAIMER_SUFFIX, WAITING, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import entry_place, real, said_by_workers, whole
from streams.errors import BrokerError, CommandRefused, GroupMissing
from streams.policy.ordering import Lanes

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_AHEAD = Script("ahead")
MOST_COUNTED = 1000
"""Entries ahead of one that are counted at most."""
MOST_QUEUES = 200
"""Queues of a group that are looked at."""
_MOST_HOLDERS = 10
HEARD = 35.0
"""Seconds after which a worker that said nothing counts as gone: three of its notes are missing."""
LEASE = 30.0
"""Seconds of a lease at least, where nothing is known of it; as the scripts have it (``leases.inc.lua``)."""
_ANNOUNCED = re.compile(r"([0-9]{1,12}) [0-9]{1,20}")
_ATTRIBUTES = ("type", "tenant", "instance", "key", "subject", "source")


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker of a group, by what it wrote down and by what the server knows of its consumer.

    Attributes:
        name: of its consumer.
        is_alive: it was heard of lately.
        levels: those that it reads.
        free: how many more handlers could start; None where it does not say.
        in_hand: entries that are pending with it.
        concurrency: how many handlers it runs at once; None where it does not say.
        lease: seconds of its leases.
        said_at: when it wrote that down; Unix seconds, 0.0 for never.
        runs: ``level|entry id`` of what runs longest with it, to since when at the latest (Unix seconds).
        runs_all: ``runs`` is all that ran then.
        heard: seconds since it was heard of.
        kept_for: the suspect that runs alone in its process: stream/group and ``level|entry id``; '' for none.
    """

    name: str
    is_alive: bool
    levels: frozenset[int]
    free: int | None
    in_hand: int
    concurrency: int | None = None
    lease: float = LEASE
    said_at: float = 0.0
    runs: Mapping[str, float] = field(default_factory=dict)
    runs_all: bool = False
    heard: float = 0.0
    kept_for: str = ""

    @property
    def is_full(self) -> bool:
        """Nothing can start with it now, as far as is known."""
        if self.free is None or self.concurrency is None:
            # One that does not say how many it runs: it has something to do.
            return self.in_hand > 0
        return self.free <= 0 or self.in_hand >= self.concurrency


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """One level for one group: what was read last, how much was not read, and how much is lined up by key.

    ``unread`` is None where the server cannot tell.
    """

    last_read: str
    unread: int | None
    lined_up: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What is the same for every entry of one group.

    Attributes:
        stream, group: names.
        now: the server's Unix time.
        pauses: all of the stream.
        workers: of the group.
        levels: those that the group has.
        order_by, fair_by: the attributes by which it lines events up; () for none.
        orders: the orders by which events may be lined up: the declared one, and those of before a deploy.
        ranked: the levels that ranks in such rows stand for.
        limits: names of its limits.
        queues: ``name=key`` to the concurrency, of queues for a slot; 200 of them at most.
        all_levels: those of the stream, highest first.
        is_only: no other group reads the stream, and what is handled is deleted.
        swept_at: when a reclaimer swept last (Unix seconds; 0.0: not for a minute or so).
    """

    stream: str
    group: str
    now: float
    pauses: Sequence[Stored]
    workers: Sequence[WorkerFacts]
    levels: Mapping[int, LevelFacts]
    order_by: tuple[str, ...]
    fair_by: tuple[str, ...]
    limits: tuple[str, ...]
    queues: Mapping[str, int]
    all_levels: tuple[int, ...]
    is_only: bool
    orders: tuple[tuple[str, ...], ...] = ()
    ranked: tuple[str, ...] = ()
    swept_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a slot: the entry, since when (Unix seconds), with which consumer, and how long that is silent."""

    entry: str
    since: float
    consumer: str
    silent: float


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue for a slot that an entry stands in since ``joined`` (Unix seconds), behind ``rank`` others."""

    name: str
    rank: int
    concurrency: int
    taken: int
    holders: Sequence[Holder] = ()
    joined: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """What is known of one entry.

    Attributes:
        found: where it stands.
        order_key: the key whose order is kept, as it is stored; None: it has none.
        head: the head of that key, as it is stored.
        behind: how many are before it behind that head; 1,000 are counted at most.
        ahead: how many of its level start before it; 1,000 are counted at most.
        turns: how many other keys take turns with its own.
        queue: that it stands in.
        has_slot: a slot was given to it.
        throttled: limits whose key is throttled, ``name=key``, to until when (Unix seconds).
    """

    found: Found
    order_key: str | None = None
    head: str | None = None
    behind: int = 0
    ahead: int = 0
    turns: int = 0
    queue: Queue | None = None
    has_slot: bool = False
    throttled: Mapping[str, float] = field(default_factory=dict)

    @property
    def member(self) -> str:
        """``level|entry id``."""
        return f"{self.found.level}|{self.found.entry_id}"


class Waits:
    """Asks what is known of entries that wait.

    Args:
        broker: an open broker.
        stream: its name; of a stream with partitions that of one of them.
        levels: of the stream.
    """

    def __init__(self, broker: Broker, stream: str, levels: Sequence[int]) -> None:
        self._broker = broker
        self._link = broker.control
        self._keys: Keys = broker.keys(stream)
        self._levels = tuple(sorted(levels, reverse=True))

    async def groups(self) -> dict[str, dict[int, dict[str, Any]]]:
        """What the server says of each group, by level. One command per level, in one round trip."""
        replies = await self._replies(
            [("XINFO", "GROUPS", self._keys.level(level)) for level in self._levels]
        )
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for level, rows in zip(self._levels, replies, strict=True):
            for info in map(_pairs, rows or ()):
                found.setdefault(info["name"].decode(), {})[level] = info
        return found

    async def scene(
        self, group: str, groups: Mapping[str, Mapping[int, Mapping[str, Any]]]
    ) -> Scene:
        """What is the same for every entry of a group. Eight commands and three per level, in one round trip."""
        keys = self._keys
        commands: list[Command] = [
            ("HGETALL", keys.paused()),
            ("HGET", keys.config(), "retention"),
            ("HGETALL", keys.rules(group)),
            ("HGETALL", keys.workers(group)),
            ("HGETALL", keys.leases(group)),
            ("HGETALL", keys.limits(group)),
            ("HSCAN", keys.queues(group), 0, "COUNT", MOST_QUEUES),
            ("HGET", keys.sweep(group), "seen"),
        ]
        for level in self._levels:
            commands += [
                ("XINFO", "CONSUMERS", keys.level(level), group),
                ("ZCARD", keys.lane(group, level)),
            ]
        replies = await self._replies(commands)
        paused, retention, rules, said, leases, limits, queues, swept = replies[:8]
        rows = {
            level: replies[8 + 2 * i : 10 + 2 * i]
            for i, level in enumerate(self._levels)
        }
        now = self._broker.clock.now()
        ruled = texts_of(rules)
        return Scene(
            keys.stream,
            group,
            now,
            stored_pauses(paused or []),
            _workers(
                said_by_workers(said or ()),
                {level: row[0] or () for level, row in rows.items()},
                leases_of(leases or ()),
                now,
            ),
            {
                level: LevelFacts(
                    info["last-delivered-id"].decode(),
                    info.get("lag"),
                    rows[level][1] or 0,
                )
                for level, info in groups.get(group, {}).items()
            },
            tuple(filter(None, ruled.get("order_by", "").split(","))),
            tuple(filter(None, ruled.get("fair_by", "").split(","))),
            tuple(
                dict.fromkeys(
                    name.partition(":")[0].partition("=")[0]
                    for name in texts_of(limits)
                )
            ),
            {
                name: most
                for name, text in texts_of(queues[1] if queues else ()).items()
                if (most := whole(text))
            },
            self._levels,
            len(groups) == 1 and retention != b"fanout",
            _orders(ruled),
            tuple(filter(None, ruled.get("levels", "").split(","))),
            real(swept) / 1000,
        )

    async def wait(self, scene: Scene, found: Found) -> Wait:
        """What is known of one entry. One round trip, and two more for one that waits in a queue for a slot."""
        if (
            not found.fields
            or found.level is None
            or found.state not in ("pending", "retrying")
        ):
            return Wait(found)
        place, keys, group = f"{found.level}|{found.entry_id}", self._keys, scene.group
        orders = _order_keys(scene, found)
        names = _candidates(scene, found)
        commands: list[Command] = [self._ahead(scene, found), self._turns(scene, found)]
        for order in orders:
            commands += self._before(found, scene.group, order)
        first = len(commands)
        for name in names:
            commands += [
                ("ZRANK", keys.queue_prefix(group) + name, place),
                ("ZSCORE", keys.busy_prefix(group) + name, place),
                ("GET", keys.limit_prefix(group) + name),
            ]
        replies = await self._replies(commands)
        ahead, turns = replies[:2]
        order, head, behind = _line(scene, found, orders, replies[2:first])
        per_name = {
            name: replies[first + 3 * i : first + 3 + 3 * i]
            for i, name in enumerate(names)
        }
        rank = next(
            ((name, row[0]) for name, row in per_name.items() if row[0] is not None),
            None,
        )
        throttled = {
            name: until
            for name, row in per_name.items()
            if (until := _throttled(row[2])) > scene.now
        }
        return Wait(
            found,
            order,
            head,
            behind,
            len(ahead) if isinstance(ahead, list) else ahead or 0,
            max(0, (turns or 0) - 1),
            await self._queue(scene, *rank, place) if rank else None,
            any(row[1] is not None for row in per_name.values()),
            throttled,
        )

    def _ahead(self, scene: Scene, found: Found) -> Command:
        """How many of its level start before an entry: of its own key, if it is lined up."""
        assert found.level is not None  # noqa: S101 - for the type checker; ``wait`` looked
        if _is_lined_up(found):
            fair = (
                ""
                if _is_elsewhere(scene, found)
                else Lanes(order_by=scene.fair_by).order_key(found.fields) or ""
            )
            row = f"{fair}\1{_sortable(found.entry_id)}"
            lane = self._keys.lane(scene.group, found.level)
            return (
                "ZRANGEBYLEX",
                lane,
                f"[{fair}\1",
                f"({row}",
                "LIMIT",
                0,
                MOST_COUNTED,
            )
        level = scene.levels.get(found.level)
        last = level.last_read if level and found.state == "pending" else found.entry_id
        return _AHEAD.command(
            (self._keys.level(found.level),), last, found.entry_id, MOST_COUNTED
        )

    def _turns(self, scene: Scene, found: Found) -> Command:
        assert found.level is not None  # noqa: S101 - as above
        return ("ZCARD", self._keys.ring(scene.group, found.level))

    def _before(
        self, found: Found, group: str, order: str | None
    ) -> tuple[Command, Command]:
        """The head of a key that may be its own, and who is behind that."""
        key, behind = order or "", self._keys.behind(group)
        return (
            ("HGET", self._keys.heads(group), key),
            ("ZRANGEBYLEX", behind, f"[{key}\1", f"({key}\2", "LIMIT", 0, MOST_COUNTED),
        )

    async def _queue(self, scene: Scene, name: str, rank: int, place: str) -> Queue:
        busy = self._keys.busy_prefix(scene.group) + name
        rows, taken, most, joined = await self._replies(
            [
                ("ZRANGE", busy, 0, _MOST_HOLDERS - 1, "WITHSCORES"),
                ("ZCARD", busy),
                ("HGET", self._keys.queues(scene.group), name),
                ("ZSCORE", self._keys.queue_prefix(scene.group) + name, place),
            ]
        )
        held = zip((rows or ())[::2], (rows or ())[1::2], strict=True)
        slots = [
            (named, real(at) / 1e6) for row, at in held if (named := entry_place(row))
        ]
        return Queue(
            name,
            rank,
            whole(most),
            taken or 0,
            await self._holders(scene, slots),
            real(joined) / 1e6,
        )

    async def _holders(
        self, scene: Scene, slots: Sequence[tuple[tuple[int, str], float]]
    ) -> list[Holder]:
        replies = await self._replies(
            [
                ("XPENDING", self._keys.level(level), scene.group, ident, ident, 1)
                for (level, ident), _ in slots
            ]
        )
        return [
            Holder(
                f"{level}|{ident}",
                since,
                row[0][1].decode() if row else "",
                row[0][2] / 1000 if row else 0.0,
            )
            for ((level, ident), since), row in zip(slots, replies, strict=True)
        ]

    async def _replies(self, commands: Sequence[Command]) -> list[Any]:
        return await replies_of(self._link, commands)


async def replies_of(link: Link, commands: Sequence[Command]) -> list[Any]:
    """Replies of a batch; None where a group or a level is gone meanwhile."""
    if not commands:
        return []
    replies = await link.batch(commands)
    for i, reply in enumerate(replies):
        if isinstance(reply, (GroupMissing, CommandRefused)):
            replies[i] = None
        elif isinstance(reply, BrokerError):
            raise reply
    return replies


def attributes(fields: Sequence[bytes]) -> dict[str, str]:
    """Type and text metadata of a stored event; what cannot be read is left out."""
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        meta = orjson.loads(named.get(b"meta") or b"{}")
    except orjson.JSONDecodeError:
        meta = {}
    values = (
        {name: value for name, value in meta.items() if isinstance(value, str)}
        if isinstance(meta, dict)
        else {}
    )
    return values | {"type": named.get(b"type", b"").decode("utf-8", "replace")}


def _orders(ruled: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """The declared order first, then those by which events were lined up before."""
    texts = [ruled.get("order_by", "")]
    texts += [way.partition("|")[0] for way in ruled.get("ways", "").split(";")]
    return tuple(dict.fromkeys(tuple(filter(None, text.split(","))) for text in texts))


def _order_keys(scene: Scene, found: Found) -> list[str | None]:
    """The keys behind whose heads an entry may be; what was not lined up yet will be as is declared now."""
    if _is_elsewhere(scene, found):
        return [None]
    orders = scene.orders if _is_lined_up(found) else (scene.order_by,)
    keys = (Lanes(order_by=order).order_key(found.fields) for order in orders or ((),))
    return list(dict.fromkeys(keys))


def _line(
    scene: Scene, found: Found, orders: Sequence[str | None], replies: Sequence[Any]
) -> tuple[str | None, str | None, int]:
    """The key of an entry, its head, and how many are before the entry behind that."""
    for i, order in enumerate(orders):
        rows = replies[2 * i + 1] or ()
        head = replies[2 * i].decode("utf-8", "replace") if replies[2 * i] else None
        if not _is_lined_up(found):
            # What was not read yet goes behind all that was.
            return order, head, len(rows)
        own = f"{_rank(scene, found)}{_sortable(found.entry_id)}\1".encode()
        ahead = next((at for at, row in enumerate(rows) if own in row), None)
        if ahead is not None or len(rows) == MOST_COUNTED:
            return order, head, len(rows) if ahead is None else ahead
    return orders[0], None, 0


def _rank(scene: Scene, found: Found) -> str:
    """How rows behind the heads say the level of an entry; see ``lanes.inc.lua``."""
    level = str(found.level)
    return (
        f"\1{scene.ranked.index(level) + 1:02d}"
        if level in scene.ranked
        else f":{level}:"
    )


def _is_lined_up(found: Found) -> bool:
    """It was read and waits in a lane, or behind the head of its key."""
    return found.state == "pending" and found.deliveries > 0


def _is_elsewhere(scene: Scene, found: Found) -> bool:
    """It is a replay for another group: this one passes it by, whatever its key."""
    named = dict(zip(found.fields[::2], found.fields[1::2], strict=False))
    return named.get(b"group", b"").decode("utf-8", "replace") not in ("", scene.group)


def _candidates(scene: Scene, found: Found) -> list[str]:
    """``name=key`` of the limits that an event may be under.

    First those that its admission names; then by its attributes, and of each queue that is known, for what an older
    version put aside.
    """
    said = found.admission
    named = (
        [*said.slots, *(name for name in said.places if "=" in name)]
        if said is not None
        else []
    )
    if not scene.limits and not scene.queues:
        return named
    values = attributes(found.fields)
    keys = [values[name] for name in _ATTRIBUTES if values.get(name)]
    by_attribute = [f"{limit}={key}" for limit in scene.limits[:8] for key in keys]
    return list(dict.fromkeys([*named, *by_attribute, *scene.queues]))[
        : MOST_QUEUES + 48
    ]


def _throttled(text: bytes | None) -> float:
    """Until when a key is throttled, of a limit's state: its fourth time."""
    parts = (text or b"").split()
    return real(parts[3]) / 1e6 if len(parts) == 5 else 0.0


def _workers(
    said: Mapping[str, Mapping[str, Any]],
    consumers: Mapping[int, Iterable[Any]],
    leases: Mapping[str, float],
    now: float,
) -> list[WorkerFacts]:
    read: dict[str, dict[int, tuple[int, float]]] = {name: {} for name in said}
    for level, rows in consumers.items():
        for info in map(_pairs, rows):
            name = info["name"].decode("utf-8", "replace")
            if name not in (PARKED, WAITING) and not name.endswith(RECLAIMER_SUFFIX):
                read.setdefault(name, {})[level] = (
                    info["pending"],
                    info["idle"] / 1000,
                )
    longest = max(LEASE, *leases.values()) if leases else LEASE
    lease = {
        name: leases.get(name, float(said.get(name, {}).get("lease", longest)))
        for name in read
    }
    return [
        _worker(name, said.get(name, {}), rows, lease[name], now)
        for name, rows in sorted(read.items())
    ]


def leases_of(reply: Sequence[bytes]) -> dict[str, float]:
    """Consumer to the seconds of its leases, as it announced them; rows of another form count for nothing."""
    rows = texts_of(reply).items()
    return {
        name: int(found[1]) / 1000
        for name, text in rows
        if (found := _ANNOUNCED.fullmatch(text))
    }


def _worker(
    name: str,
    said: Mapping[str, Any],
    rows: Mapping[int, tuple[int, float]],
    lease: float,
    now: float,
) -> WorkerFacts:
    silent = min((idle for _, idle in rows.values()), default=float("inf"))
    at = float(said.get("at", 0.0))
    heard = max(0.0, min(now - at, silent))
    return WorkerFacts(
        name,
        heard <= HEARD,
        frozenset(said["levels"]) if "levels" in said else frozenset(rows),
        said.get("free"),
        sum(pending for pending, _ in rows.values()),
        said.get("concurrency"),
        lease,
        at,
        said.get("runs", {}),
        "runs" in said and len(said["runs"]) >= said.get("busy", 0),
        heard,
        said.get("kept_for", ""),
    )


def texts_of(reply: Sequence[bytes] | None) -> dict[str, str]:
    """A reply of names and values, as a mapping of texts."""
    rows = reply or ()
    return {
        rows[i].decode("utf-8", "replace"): rows[i + 1].decode("utf-8", "replace")
        for i in range(0, len(rows), 2)
    }


def _pairs(row: Sequence[Any]) -> dict[str, Any]:
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}


def _sortable(entry_id: str) -> str:
    """An entry id as the lanes write it, so that the order of texts is that of the ids; see ``lanes.inc.lua``."""
    milliseconds, _, sequence = entry_id.partition("-")
    sequence = sequence or "0"
    return f"{chr(64 + len(milliseconds))}{milliseconds}-{chr(64 + len(sequence))}{sequence}"
