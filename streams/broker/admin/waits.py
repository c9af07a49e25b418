"""Questions about entries that wait. Read only, and bounded whatever is stored."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from streams.broker.admin.inspect import FoundEntry
from streams.broker.admin.pauses import stored_pauses
from streams.broker.admin.replies import (
    GroupReply,
    by_group,
    consumers_of,
    labelled_replies,
    pending_of,
    replies_of,
)
from streams.broker.admin.wait_facts import (
    MOST_COUNTED,
    GroupState,
    Holder,
    LevelFacts,
    Queue,
    Wait,
    attributes,
)
from streams.broker.admin.workers import leases_of, workers_of
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import (
    entry_place,
    pairs,
    real,
    said_by_workers,
    texts,
    whole,
)
from streams.errors import CommandRefused, GroupMissing
from streams.policy.ordering import Lanes

_AHEAD = Script("ahead")
MOST_QUEUES = 200
"""Queues of a group that are looked at."""
GONE = (GroupMissing, CommandRefused)
"""Refusals for a group or a level that is gone meanwhile."""
_MOST_HOLDERS = 10
_MOST_LIMITS = 8
_ATTRIBUTES = ("type", "tenant", "instance", "key", "subject", "source")
_MOST_CANDIDATES = MOST_QUEUES + _MOST_LIMITS * len(_ATTRIBUTES)


class _Line(NamedTuple):
    """A key whose order is kept, the entry of it that is next, and how many are before one."""

    key: str | None
    head: str | None
    behind: int


class Waits:
    """Asks for the facts about entries that wait.

    Args:
        broker: an open broker.
        stream: its name; of a partitioned stream, the name of one partition.
        levels: of the stream.
    """

    def __init__(self, broker: Broker, stream: str, levels: Sequence[int]) -> None:
        self._broker = broker
        self._link = broker.control
        self._keys: Keys = broker.keys(stream)
        self._levels = tuple(sorted(levels, reverse=True))

    async def groups(self) -> dict[str, dict[int, GroupReply]]:
        """The server's row of each group, by level. One command per level, in one round trip."""
        questions: dict[int, Command] = {
            level: ("XINFO", "GROUPS", self._keys.level(level))
            for level in self._levels
        }

        return by_group(await labelled_replies(self._link, questions, GONE))

    async def scene(
        self, group: str, groups: Mapping[str, Mapping[int, GroupReply]]
    ) -> GroupState:
        """The state of a group. Seven commands and two per level, in one round trip."""
        keys = self._keys
        questions: dict[Hashable, Command] = {
            "paused": ("HGETALL", keys.paused()),
            "rules": ("HGETALL", keys.rules(group)),
            "workers": ("HGETALL", keys.workers(group)),
            "leases": ("HGETALL", keys.leases(group)),
            "limits": ("HGETALL", keys.limits(group)),
            "queues": ("HSCAN", keys.queues(group), 0, "COUNT", MOST_QUEUES),
            "swept": ("HGET", keys.sweep(group), "seen"),
        }

        for level in self._levels:
            key = keys.level(level)
            questions["consumers", level] = ("XINFO", "CONSUMERS", key, group)
            questions["lined up", level] = ("ZCARD", keys.lane(group, level))

        replies = await labelled_replies(self._link, questions, GONE)
        now = self._broker.clock.now()
        rules = texts(replies["rules"])
        consumers = {
            level: consumers_of(replies["consumers", level]) for level in self._levels
        }
        levels = {
            level: LevelFacts(info.last_id, info.lag, replies["lined up", level] or 0)
            for level, info in groups.get(group, {}).items()
        }

        leases = leases_of(replies["leases"])
        notes = said_by_workers(replies["workers"] or ())

        return GroupState(
            stream=keys.stream,
            group=group,
            now=now,
            pauses=stored_pauses(replies["paused"] or []),
            workers=workers_of(
                notes,
                consumers,
                leases,
                now,
            ),
            levels=levels,
            order_by=_listed(rules.get("order_by", "")),
            fair_by=_listed(rules.get("fair_by", "")),
            limits=_limit_names(texts(replies["limits"])),
            queues=_concurrencies(replies["queues"]),
            orders=_orders(rules),
            ranked=_listed(rules.get("levels", "")),
            swept_at=real(replies["swept"]) / 1000,
        )

    async def wait(self, scene: GroupState, found: FoundEntry) -> Wait:
        """The facts about one entry.

        One round trip, and two more for an entry that stands in a queue for a slot.
        """
        is_waiting = found.state in ("pending", "retrying")
        if not found.fields or found.level is None or not is_waiting:
            return Wait(found)

        keys, group = self._keys, scene.group
        place = f"{found.level}|{found.entry_id}"
        orders = _order_keys(scene, found)
        names = _candidates(scene, found)
        questions: dict[Hashable, Command] = {
            "ahead": self._ahead(scene, found, found.level),
            "turns": ("ZCARD", keys.ring(group, found.level)),
        }

        for order in orders:
            questions["head", order] = ("HGET", keys.heads(group), order or "")
            questions["behind", order] = self._behind(group, order or "")

        for name in names:
            queue = keys.queue_prefix(group) + name
            busy = keys.busy_prefix(group) + name
            questions["rank", name] = ("ZRANK", queue, place)
            questions["slot", name] = ("ZSCORE", busy, place)
            questions["limit", name] = ("GET", keys.limit_prefix(group) + name)

        replies = await labelled_replies(self._link, questions, GONE)
        line = _line(
            scene,
            found,
            orders,
            replies,
        )
        ahead = replies["ahead"] or 0
        throttled = {name: _throttled(replies["limit", name]) for name in names}

        return Wait(
            found,
            order_key=line.key,
            head=line.head,
            behind=line.behind,
            ahead=len(ahead) if isinstance(ahead, list) else ahead,
            turns=max(0, (replies["turns"] or 0) - 1),
            queue=await self._first_queue(
                scene,
                place,
                names,
                replies,
            ),
            has_slot=any(replies["slot", name] is not None for name in names),
            throttled={
                name: until for name, until in throttled.items() if until > scene.now
            },
        )

    def _ahead(self, scene: GroupState, found: FoundEntry, level: int) -> Command:
        """Ask how many entries start before this one.

        They are those of its level, or of its turn if it is queued by key.
        """
        if not _is_lined_up(found):
            facts = scene.levels.get(level)
            is_unread = facts is not None and found.state == "pending"
            last = facts.last_read if facts and is_unread else found.entry_id
            key = self._keys.level(level)

            return _AHEAD.command(
                (key,),
                last,
                found.entry_id,
                MOST_COUNTED,
            )

        fair = ""
        if not _is_for_others(scene, found):
            fair = Lanes(order_by=scene.fair_by).order_key(found.fields) or ""

        lane = self._keys.lane(scene.group, level)
        first, last = f"[{fair}\1", f"({fair}\1{_sortable(found.entry_id)}"

        return ("ZRANGEBYLEX", lane, first, last, "LIMIT", 0, MOST_COUNTED)

    def _behind(self, group: str, order: str) -> Command:
        """Ask for the entries behind the one of a key that is next."""
        behind = self._keys.behind(group)
        first, last = f"[{order}\1", f"({order}\2"

        return ("ZRANGEBYLEX", behind, first, last, "LIMIT", 0, MOST_COUNTED)

    async def _first_queue(
        self,
        scene: GroupState,
        place: str,
        names: Sequence[str],
        replies: Mapping[Hashable, Any],
    ) -> Queue | None:
        for name in names:
            rank = replies["rank", name]
            if rank is not None:
                return await self._queue(
                    scene,
                    name,
                    rank,
                    place,
                )

        return None

    async def _queue(
        self, scene: GroupState, name: str, rank: int, place: str
    ) -> Queue:
        group = scene.group
        busy = self._keys.busy_prefix(group) + name
        queue = self._keys.queue_prefix(group) + name
        questions: dict[str, Command] = {
            "slots": ("ZRANGE", busy, 0, _MOST_HOLDERS - 1, "WITHSCORES"),
            "taken": ("ZCARD", busy),
            "concurrency": ("HGET", self._keys.queues(group), name),
            "joined": ("ZSCORE", queue, place),
        }

        replies = await labelled_replies(self._link, questions, GONE)

        return Queue(
            name=name,
            rank=rank,
            concurrency=whole(replies["concurrency"]),
            taken=replies["taken"] or 0,
            holders=await self._holders(group, replies["slots"] or ()),
            joined=real(replies["joined"]) / 1e6,
        )

    async def _holders(self, group: str, slots: Sequence[bytes]) -> list[Holder]:
        since: dict[tuple[int, str], float] = {}
        for row, at in zip(slots[::2], slots[1::2], strict=True):
            if place := entry_place(row):
                since[place] = real(at) / 1e6

        questions: list[Command] = [
            ("XPENDING", self._keys.level(level), group, entry_id, entry_id, 1)
            for level, entry_id in since
        ]

        replies = await replies_of(self._link, questions, GONE)
        found = []

        for (level, entry_id), reply in zip(since, replies, strict=True):
            entry = next(iter(pending_of(reply)), None)
            holder = Holder(
                entry=f"{level}|{entry_id}",
                since=since[level, entry_id],
                worker=entry.consumer if entry else "",
                silent=entry.silent if entry else 0.0,
            )

            found.append(holder)

        return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _limit_names(rules: Mapping[str, str]) -> tuple[str, ...]:
    """Names of limits, from rules for ``name``, ``name=key`` and ``name:declared``."""
    names = (rule.partition(":")[0].partition("=")[0] for rule in rules)

    return tuple(dict.fromkeys(names))


def _concurrencies(reply: Sequence[Any] | None) -> dict[str, int]:
    """Queue to its concurrency, from a page of ``HSCAN``; queues without one are left out."""
    rows = texts(reply[1]) if reply else {}
    numbers = {name: whole(text) for name, text in rows.items()}

    return {name: number for name, number in numbers.items() if number}


def _orders(rules: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """The declared order first, then those by which events were queued before."""
    declared = [rules.get("order_by", "")]
    before = [way.partition("|")[0] for way in rules.get("ways", "").split(";")]

    return tuple(dict.fromkeys(map(_listed, declared + before)))


def _order_keys(scene: GroupState, found: FoundEntry) -> list[str | None]:
    """The keys that an entry may be queued by.

    An unread entry goes by the declared order.
    """
    if _is_for_others(scene, found):
        return [None]

    orders = scene.orders if _is_lined_up(found) else (scene.order_by,)
    keys = (Lanes(order_by=order).order_key(found.fields) for order in orders or ((),))

    return list(dict.fromkeys(keys))


def _line(
    scene: GroupState,
    found: FoundEntry,
    orders: Sequence[str | None],
    replies: Mapping[Hashable, Any],
) -> _Line:
    """The key that an entry is queued by, and its place behind the key's next entry."""
    for order in orders:
        rows = replies["behind", order] or ()
        head = (replies["head", order] or b"").decode("utf-8", "replace") or None
        if not _is_lined_up(found):
            # It goes behind all that were read.
            return _Line(order, head, len(rows))

        own = f"{_rank(scene, found)}{_sortable(found.entry_id)}\1".encode()
        ahead = next((at for at, row in enumerate(rows) if own in row), None)
        if ahead is not None:
            return _Line(order, head, ahead)
        if len(rows) == MOST_COUNTED:
            return _Line(order, head, len(rows))

    return _Line(orders[0], None, 0)


def _rank(scene: GroupState, found: FoundEntry) -> str:
    """The level of an entry, as rows of the order write it; see ``lanes.inc.lua``."""
    level = str(found.level)
    if level not in scene.ranked:
        return f":{level}:"

    return f"\1{scene.ranked.index(level) + 1:02d}"


def _is_lined_up(found: FoundEntry) -> bool:
    """Whether an entry was read, and waits for its turn or its key."""
    return found.state == "pending" and found.deliveries > 0


def _is_for_others(scene: GroupState, found: FoundEntry) -> bool:
    """Whether an entry is a replay for another group, which this one skips."""
    group: bytes = pairs(found.fields).get("group", b"")

    return group.decode("utf-8", "replace") not in ("", scene.group)


def _candidates(scene: GroupState, found: FoundEntry) -> list[str]:
    """``name=key`` of the limits that an event may be under.

    First those that its admission names. Then those of its attributes and every known
    queue, for entries that an older version deferred.
    """
    named: list[str] = []
    if found.admission is not None:
        named += found.admission.slots
        named += (name for name in found.admission.places if "=" in name)

    if not scene.limits and not scene.queues:
        return named

    values = attributes(found.fields)
    keys = [values[name] for name in _ATTRIBUTES if values.get(name)]
    limits = scene.limits[:_MOST_LIMITS]
    named += (f"{limit}={key}" for limit in limits for key in keys)
    named += scene.queues

    return list(dict.fromkeys(named))[:_MOST_CANDIDATES]


def _throttled(state: bytes | None) -> float:
    """The Unix time (s) until which a key is throttled: the fourth part of a limit's state."""
    parts = (state or b"").split()

    return real(parts[3]) / 1e6 if len(parts) == 5 else 0.0


def _sortable(entry_id: str) -> str:
    """An entry id in the form that sorts as text; see ``lanes.inc.lua``."""
    found = []
    for part in entry_id.partition("-")[::2]:
        digits = part or "0"
        found.append(f"{chr(64 + len(digits))}{digits}")

    return "-".join(found)
