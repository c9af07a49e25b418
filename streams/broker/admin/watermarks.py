"""High-water marks of a stream: how far the server said that it was, written down, to notice when it falls behind them.

Everything here is plain commands, never a script: a write of a script is a transaction in the server's append-only
file, and servers that lose data at a start lose transactions first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command
from streams.broker.server.stored import json_object, pairs, real, whole
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, GroupMissing
from streams.events.names import entry_order
from streams.quantities import counted

if TYPE_CHECKING:
    from streams.broker.server.link import Link

SAME = 60.0
"""Seconds within which what several workers notice at the same place is one loss."""
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
        last: the last entry id that the server gave, or that the group was given.
        added: how many entries the stream ever got, by the server's own count; -1: it does not count (6.2, groups).
    """

    last: str
    added: int = _UNKNOWN

    def merged(self, other: Mark | None) -> Mark:
        """The higher of both."""
        if other is None:
            return self
        return Mark(
            max(self.last, other.last, key=entry_order), max(self.added, other.added)
        )

    def loss(self, now: Mark | None) -> Loss | None:
        """What is missing at a place that was here and is at ``now``; None: it has no such place any more."""
        if now is None:
            return (
                Loss(self.last, "", max(self.added, 0))
                if entry_order(self.last) > (0, 0)
                else None
            )
        missing = self.added - now.added if min(self.added, now.added) >= 0 else 0
        if missing > 0 or entry_order(self.last) > entry_order(now.last):
            return Loss(self.last, now.last, max(missing, 0))
        return None


@dataclass(frozen=True, slots=True)
class Loss:
    """A place that fell behind what the server had said of it.

    Attributes:
        had: the last entry id before.
        has: that of now; '' if the place is gone.
        count: how many entries are missing, at least; 0: not known.
        at: Unix time when it was noticed; 0.0: now.
        by: who noticed.
    """

    had: str
    has: str
    count: int = 0
    at: float = 0.0
    by: str = ""


Marks = dict[str, Mark]
Losses = dict[str, Loss]


def level_of(level: int) -> str:
    """The place of what was published on a level."""
    return f"level:{level}"


def dead_of(group: str) -> str:
    """The place of a group's dead letters."""
    return f"dead:{group}"


def read_of(group: str, level: int) -> str:
    """The place of how far a group has read a level."""
    return f"read:{group}:{level}"


SCHEDULED = "scheduled"
"""The place of what is scheduled. The server keeps no count of it, so nothing is written down."""


class Furthest(NamedTuple):
    """The scheduled event whose time comes last, and that time (Unix seconds)."""

    member: str
    due: float


def compared(before: Mapping[str, Mark], now: Mapping[str, Mark | None]) -> Losses:
    """The places of ``now`` that are behind what they were before."""
    found = (
        (place, before[place].loss(mark))
        for place, mark in now.items()
        if place in before
    )
    return {place: loss for place, loss in found if loss is not None}


def told(losses: Losses) -> str:
    """Losses in words."""
    return "; ".join(_told(place, losses[place]) for place in sorted(losses))


def _told(place: str, loss: Loss) -> str:
    if place == SCHEDULED:
        return (
            f"scheduled: at least {counted(loss.count, 'event')}, due up to {loss.had}"
        )
    kind, _, rest = place.partition(":")
    now = (
        f"the last that it knows is {loss.has}"
        if loss.has
        else "it knows nothing of it any more"
    )
    if kind == "read":
        group, _, level = rest.rpartition(":")
        return f"group {group} had read level {level} up to {loss.had}; {now}"
    count = max(loss.count, 1)
    where, what = (
        (f"level {rest}", "event")
        if kind == "level"
        else (f"group {rest}", "dead letter")
    )
    return f"{where}: at least {counted(count, what)} up to {loss.had}; {now}"


class Marking:
    """The marks of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
        shared: it is a worker's, and uses the connection that all roles of the worker share.
    """

    def __init__(self, broker: Broker, keys: Keys, *, shared: bool = False) -> None:
        self._broker = broker
        self._keys = keys
        self._is_shared = shared

    @property
    def _link(self) -> Link:
        return self._broker.shared if self._is_shared else self._broker.control

    async def look(self, places: Iterable[str]) -> dict[str, Mark | None]:
        """How far each place is now; None: it is not there. One command per place, one round trip.

        A place that cannot be looked at, such as a key of another kind, is left out.

        Raises:
            AccessDenied: the user may not.
            BrokerUnavailable: the server is away.
        """
        wanted = list(places)
        found: dict[str, Mark | None] = {}
        for place, reply in zip(
            wanted,
            await self._ask([self._question(place) for place in wanted]),
            strict=True,
        ):
            if isinstance(reply, GroupMissing):
                found[place] = None
            elif isinstance(reply, BrokerError):
                continue
            elif place.startswith("read:"):
                found[place] = _read_mark(reply, place.split(":")[1])
            else:
                row = _pairs(reply)
                found[place] = Mark(
                    row["last-generated-id"].decode(),
                    row.get("entries-added", _UNKNOWN),
                )
        return found

    async def furthest(self) -> Furthest | None:
        """The scheduled event whose time comes last. One command."""
        row = await self._link.call(
            "ZRANGE", self._keys.scheduled(), -1, -1, "WITHSCORES"
        )
        due = real(row[1], -1.0) if row else -1.0  # A time that is none tells nothing.
        return (
            Furthest(row[0].decode("utf-8", "replace"), due / 1000)
            if due >= 0
            else None
        )

    async def unscheduled(self, event: Furthest | None) -> Losses:
        """The loss of a scheduled event whose time has not come and that is not there. One command."""
        if event is None or event.due <= self._broker.clock.now() + _SOON:
            return {}
        if (
            await self._link.call("ZSCORE", self._keys.scheduled(), event.member)
            is not None
        ):
            return {}
        due = datetime.fromtimestamp(event.due, UTC)
        return {SCHEDULED: Loss(f"{due:%Y-%m-%d %H:%M:%S} UTC", "", 1)}

    async def written(self) -> tuple[Marks, Losses]:
        """The marks and the losses that are written down. One command."""
        marks: Marks = {}
        losses: Losses = {}
        for name, value in pairs(
            await self._link.call("HGETALL", self._keys.watermarks())
        ).items():
            if name.startswith(_LOST):
                if loss := _read_loss(value):
                    losses[name.removeprefix(_LOST)] = loss
            elif _PLACE.fullmatch(name) and (
                mark := _read_watermark(value)
            ):  # Others are written anew, or are not ours.
                marks[name] = mark
        return marks, losses

    async def write(self, marks: Mapping[str, Mark], gone: Sequence[str] = ()) -> None:
        """Write marks down, and take out those of places that are gone. At most two plain commands."""
        commands: list[Command] = []
        if marks:
            pairs = [
                part
                for place, mark in marks.items()
                for part in (place, f"{mark.last} {mark.added}")
            ]
            commands.append(("HSET", self._keys.watermarks(), *pairs))
        if gone:
            commands.append(("HDEL", self._keys.watermarks(), *gone))
        _raise_first(await self._link.batch(commands))

    async def report(self, losses: Mapping[str, Loss], by: str) -> Losses:
        """Write losses down until an operator takes them off; returns those that nobody has written down before.

        Several workers notice the same loss: within a minute it is one, and the first of them has found it.
        """
        _, known = await self.written()
        now = self._broker.clock.now()
        told = {
            place: _joined(loss, known.get(place), now, by)
            for place, loss in losses.items()
        }
        commands = [
            ("HSET", self._keys.watermarks(), _LOST + place, _packed(loss))
            for place, loss in told.items()
        ]
        replies = await self._link.batch(commands)
        _raise_first(replies)
        return {
            place: losses[place]
            for place, reply in zip(told, replies, strict=True)
            if reply or (place in known and now - known[place].at > SAME)
        }

    async def losses(self) -> Losses:
        """What was reported, and what is behind its mark at this moment. Commands: one, and one per mark."""
        marks, told = await self.written()
        return compared(marks, await self.look(marks)) | told

    async def dismiss(self, by: str) -> int:
        """Take the losses off, and go on from what is there; returns how many places they were at."""
        marks, told = await self.written()
        now = await self.look(marks)
        fresh = compared(marks, now)
        count = len(told | fresh)
        if count:
            await self.write(
                {place: mark for place in fresh if (mark := now[place]) is not None},
                [
                    *(_LOST + place for place in told),
                    *(place for place in fresh if now[place] is None),
                ],
            )
            row = ("action", "repair", "what", "losses", "count", count, "by", by)
            await self._link.call(
                "XADD", self._keys.audit(), "MAXLEN", "~", 10_000, "*", *row
            )
        return count

    async def forget(self, group: str, levels: Iterable[int]) -> None:
        """Nobody expects anything of a group any more."""
        await self._link.call(
            "HDEL",
            self._keys.watermarks(),
            *(read_of(group, level) for level in levels),
        )

    def _question(self, place: str) -> Command:
        kind, _, rest = place.partition(":")
        if kind == "read":
            return ("XINFO", "GROUPS", self._keys.level(int(rest.rpartition(":")[2])))
        return (
            "XINFO",
            "STREAM",
            self._keys.dead(rest) if kind == "dead" else self._keys.level(int(rest)),
        )

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        replies = await self._link.batch(commands)
        for reply in replies:
            if isinstance(reply, (AccessDenied, BrokerUnavailable)):
                raise reply
        return replies


def _joined(loss: Loss, known: Loss | None, now: float, by: str) -> Loss:
    """What is written down: a loss, with what was lost at that place before and nobody has taken off yet."""
    told = replace(loss, at=now, by=by)
    if known is None:
        return told
    if now - known.at <= SAME:
        return replace(known, count=max(known.count, loss.count))
    return replace(told, count=loss.count + known.count)


def _read_loss(text: bytes) -> Loss | None:
    facts = json_object(text) or {}
    had, has, by = (facts.get(name) for name in ("had", "has", "by"))
    if not isinstance(had, str) or not isinstance(has, str):
        return None
    return Loss(
        had, has, whole(facts.get("count")), real(facts.get("at")), str(by or "")
    )


def _read_watermark(text: bytes) -> Mark | None:
    found = _MARK.fullmatch(text)
    return Mark(found["last"].decode(), int(found["added"])) if found else None


def _packed(loss: Loss) -> bytes:
    return orjson.dumps(asdict(loss))


def _read_mark(rows: Sequence[Any], group: str) -> Mark | None:
    for row in map(_pairs, rows):
        if row["name"].decode() == group:
            return Mark(row["last-delivered-id"].decode())
    return None


def _pairs(row: Sequence[Any]) -> dict[str, Any]:
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}


def _raise_first(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, BrokerError):
            raise reply
