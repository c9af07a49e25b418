"""High-water marks: how far each part of a stream was, to notice when the server loses data.

All commands here are plain ones, never a script. A script's writes are a transaction in the
server's append-only file, and servers that lose data at a start lose transactions first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from streams.broker.admin.replies import groups_of, outcomes_of, replies_of
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command
from streams.broker.server.stored import flat, json_object, pairs, real, whole
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, GroupMissing
from streams.events.names import entry_order
from streams.quantities import counted

if TYPE_CHECKING:
    from streams.broker.server.link import Link

SAME = 60.0
"""Seconds within which losses that several workers notice at one place are the same loss."""
_LOST = "lost:"
_PLACE = re.compile(
    r"(?:level:-?[0-9]{1,100}|dead:[A-Za-z0-9._-]+|read:[A-Za-z0-9._-]+:-?[0-9]{1,100})"
)
_MARK = re.compile(rb"(?P<last>[0-9]{0,20}(?:-[0-9]{1,20})?) (?P<added>-?[0-9]{1,20})")
_UNKNOWN = -1
_SOON = 5.0
"""Seconds before its time in which a scheduled event may go: clocks differ."""


class Mark(NamedTuple):
    """How far a stream is, or how far a group has read it.

    Attributes:
        last: the last entry id that the stream gave, or that the group was given.
        added: entries that were ever added, by the server's own count; -1 where it has none
            (servers before 7, and groups).
    """

    last: str
    added: int = _UNKNOWN

    def merged(self, other: Mark | None) -> Mark:
        """The higher of both."""
        if other is None:
            return self

        last = max(self.last, other.last, key=entry_order)

        return Mark(last, max(self.added, other.added))

    def loss(self, now: Mark | None) -> Loss | None:
        """The loss at a place with this mark that is at ``now``; None is a missing place."""
        had = entry_order(self.last)
        if now is None:
            return Loss(self.last, "", max(self.added, 0)) if had > (0, 0) else None

        is_counted = min(self.added, now.added) >= 0
        missing = self.added - now.added if is_counted else 0
        if missing > 0 or had > entry_order(now.last):
            return Loss(self.last, now.last, max(missing, 0))

        return None


@dataclass(frozen=True, slots=True)
class Loss:
    """A place that fell behind its mark.

    Attributes:
        had: the last entry id before.
        has: the last entry id now; '' if the place is gone.
        count: how many entries are missing, at least; 0 if that is not known.
        at: Unix time (s) when it was noticed; 0.0 for now.
        by: the worker that noticed.
    """

    had: str
    has: str
    count: int = 0
    at: float = 0.0
    by: str = ""


Marks = dict[str, Mark]
Losses = dict[str, Loss]


def level_of(level: int) -> str:
    """The place of the entries of a level."""
    return f"level:{level}"


def dead_of(group: str) -> str:
    """The place of a group's dead letters."""
    return f"dead:{group}"


def read_of(group: str, level: int) -> str:
    """The place of a group on a level."""
    return f"read:{group}:{level}"


SCHEDULED = "scheduled"
"""The place of the scheduled events. The server does not count them, so no mark is written."""


class Furthest(NamedTuple):
    """The scheduled event that is due last, and its Unix time (s)."""

    member: str
    due: float


def compared(before: Mapping[str, Mark], now: Mapping[str, Mark | None]) -> Losses:
    """The losses at places of ``now`` that are behind their marks."""
    found = {}
    for place, mark in now.items():
        if place in before and (loss := before[place].loss(mark)):
            found[place] = loss

    return found


def told(losses: Losses) -> str:
    """Losses in words."""
    return "; ".join(_told(place, losses[place]) for place in sorted(losses))


def _told(place: str, loss: Loss) -> str:
    if place == SCHEDULED:
        count = counted(loss.count, "event")
        return f"scheduled: at least {count}, due up to {loss.had}"

    kind, _, rest = place.partition(":")
    now = "it knows nothing of it any more"
    if loss.has:
        now = f"the last that it knows is {loss.has}"

    if kind == "read":
        group, _, level = rest.rpartition(":")
        return f"group {group} had read level {level} up to {loss.had}; {now}"

    where, what = f"group {rest}", "dead letter"
    if kind == "level":
        where, what = f"level {rest}", "event"

    count = counted(max(loss.count, 1), what)

    return f"{where}: at least {count} up to {loss.had}; {now}"


class WatermarkStore:
    """The marks of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
        shared: use the connection that all roles of a worker share.
    """

    def __init__(self, broker: Broker, keys: Keys, *, shared: bool = False) -> None:
        self._broker = broker
        self._keys = keys
        self._is_shared = shared

    @property
    def _link(self) -> Link:
        return self._broker.shared if self._is_shared else self._broker.control

    async def look(self, places: Iterable[str]) -> dict[str, Mark | None]:
        """How far each place is now; None if it is missing. One command per place, one round trip.

        A place that cannot be read, such as a key of a wrong type, is left out.

        Raises:
            AccessDenied: the user may not.
            BrokerUnavailable: the server is away.
        """
        wanted = list(places)
        questions = [self._question(place) for place in wanted]
        fatal = (AccessDenied, BrokerUnavailable)
        replies = await outcomes_of(self._link, questions, fatal)
        found: dict[str, Mark | None] = {}

        for place, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, GroupMissing):
                found[place] = None
            elif isinstance(reply, BrokerError):
                continue
            elif place.startswith("read:"):
                found[place] = _read_mark(reply, place.split(":")[1])
            else:
                row = pairs(reply)
                last = row["last-generated-id"].decode()
                found[place] = Mark(last, row.get("entries-added", _UNKNOWN))

        return found

    async def furthest(self) -> Furthest | None:
        """The scheduled event that is due last. One command."""
        key = self._keys.scheduled()
        row = await self._link.call("ZRANGE", key, -1, -1, "WITHSCORES")
        if not row:
            return None

        member, score = row
        due = real(score, -1.0)
        if due < 0:
            return None  # The score is no time.

        return Furthest(member.decode("utf-8", "replace"), due / 1000)

    async def unscheduled(self, event: Furthest | None) -> Losses:
        """The loss of a scheduled event that is missing before its time. One command."""
        if event is None or event.due <= self._broker.clock.now() + _SOON:
            return {}

        key = self._keys.scheduled()
        score = await self._link.call("ZSCORE", key, event.member)
        if score is not None:
            return {}

        due = datetime.fromtimestamp(event.due, UTC)

        return {SCHEDULED: Loss(f"{due:%Y-%m-%d %H:%M:%S} UTC", "", 1)}

    async def written(self) -> tuple[Marks, Losses]:
        """The marks and the losses that are written down. One command.

        Rows of another form are left out: they are written anew, or are another program's.
        """
        marks: Marks = {}
        losses: Losses = {}
        rows = pairs(await self._link.call("HGETALL", self._keys.watermarks()))

        for name, value in rows.items():
            if name.startswith(_LOST):
                if loss := _read_loss(value):
                    losses[name.removeprefix(_LOST)] = loss
            elif _PLACE.fullmatch(name) and (mark := _read_watermark(value)):
                marks[name] = mark

        return marks, losses

    async def write(self, marks: Mapping[str, Mark], gone: Sequence[str] = ()) -> None:
        """Write marks down, and remove those of missing places. At most two plain commands."""
        key = self._keys.watermarks()
        commands: list[Command] = []
        if marks:
            rows = {place: f"{mark.last} {mark.added}" for place, mark in marks.items()}
            commands.append(("HSET", key, *flat(rows)))

        if gone:
            commands.append(("HDEL", key, *gone))

        await replies_of(self._link, commands)

    async def report(self, losses: Mapping[str, Loss], by: str) -> Losses:
        """Write losses down until an operator dismisses them; returns the new ones.

        Several workers notice the same loss. Within a minute it counts as one, and only the
        first worker gets it returned.
        """
        _, known = await self.written()
        now = self._broker.clock.now()
        told = {
            place: _joined(loss, known.get(place), now, by)
            for place, loss in losses.items()
        }

        key = self._keys.watermarks()
        commands: list[Command] = [
            ("HSET", key, _LOST + place, orjson.dumps(asdict(loss)))
            for place, loss in told.items()
        ]

        fresh = {}
        replies = await replies_of(self._link, commands)

        for place, is_added in zip(told, replies, strict=True):
            is_later = place in known and now - known[place].at > SAME
            if is_added or is_later:
                fresh[place] = losses[place]

        return fresh

    async def losses(self) -> Losses:
        """The reported losses, and the present ones. Commands: one, and one per mark."""
        marks, told = await self.written()

        return compared(marks, await self.look(marks)) | told

    async def dismiss(self, by: str) -> int:
        """Dismiss the losses, and set the marks to the present; returns how many there were."""
        marks, told = await self.written()
        now = await self.look(marks)
        fresh = compared(marks, now)
        count = len(told | fresh)
        if not count:
            return 0

        present: Marks = {}
        gone = [_LOST + place for place in told]

        for place in fresh:
            mark = now[place]
            if mark is None:
                gone.append(place)
            else:
                present[place] = mark

        await self.write(present, gone)
        row = ("action", "repair", "what", "losses", "count", count, "by", by)
        key = self._keys.audit()
        await self._link.call("XADD", key, "MAXLEN", "~", 10_000, "*", *row)

        return count

    async def forget(self, group: str, levels: Iterable[int]) -> None:
        """Delete the marks of a group that was dropped."""
        places = [read_of(group, level) for level in levels]
        await self._link.call("HDEL", self._keys.watermarks(), *places)

    def _question(self, place: str) -> Command:
        kind, _, rest = place.partition(":")
        if kind == "dead":
            return ("XINFO", "STREAM", self._keys.dead(rest))

        key = self._keys.level(int(rest.rpartition(":")[2]))

        return ("XINFO", "GROUPS" if kind == "read" else "STREAM", key)


def _joined(loss: Loss, known: Loss | None, now: float, by: str) -> Loss:
    """The loss to write down: together with an older one at that place that was not dismissed."""
    told = replace(loss, at=now, by=by)
    if known is None:
        return told
    if now - known.at <= SAME:
        return replace(known, count=max(known.count, loss.count))

    return replace(told, count=loss.count + known.count)


def _read_loss(text: bytes) -> Loss | None:
    facts = json_object(text) or {}
    had, has = facts.get("had"), facts.get("has")
    if not isinstance(had, str) or not isinstance(has, str):
        return None

    return Loss(
        had=had,
        has=has,
        count=whole(facts.get("count")),
        at=real(facts.get("at")),
        by=str(facts.get("by") or ""),
    )


def _read_watermark(text: bytes) -> Mark | None:
    found = _MARK.fullmatch(text)
    return Mark(found["last"].decode(), int(found["added"])) if found else None


def _read_mark(rows: Sequence[Any], group: str) -> Mark | None:
    for info in groups_of(rows):
        if info.name == group:
            return Mark(info.last_id)

    return None
