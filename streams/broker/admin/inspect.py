"""Reading, never writing: what streams there are and where entries stand. Each method states its cost."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from streams.broker.admin.pauses import Stored, stored_pauses
from streams.broker.admin.undeclared import probe, stored_there
from streams.broker.keys import PARKED, RECLAIMER_SUFFIX, WAITING, Keys, index_key
from streams.broker.server.connection import Broker
from streams.broker.server.errands import PATIENCE
from streams.broker.server.scripts import Command, Script
from streams.errors import (
    BrokerError,
    BrokerUnavailable,
    CommandRefused,
    GroupMissing,
    InvalidName,
    NotFound,
    WrongKeyType,
)
from streams.events.names import entry_order, parse_member
from streams.policy.admission import Admission
from streams.policy.partitions import Partitions

_PEEK_SCHEDULED = Script("peek_scheduled")
_WHEREABOUTS = Script("whereabouts")

_LEVEL = re.compile(rb"-?[0-9]{1,100}")
_STREAM = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(slots=True)
class LevelStatus:
    """One level as one group sees it. ``oldest`` is the Unix time (s) of the oldest unfinished entry, None if none.

    ``lag`` is the server's own count of entries not yet delivered, ``added`` of all that ever came; None where the
    server cannot tell.
    """

    level: int
    waiting: int = 0
    processing: int = 0
    retrying: int = 0
    lag: int | None = None
    oldest: float | None = None
    added: int | None = None


@dataclass(slots=True)
class GroupStatus:
    """One group of a stream. ``consumers``: names with what they hold and their silence in seconds."""

    group: str
    levels: list[LevelStatus]
    dead: int = 0
    consumers: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(slots=True)
class StreamStatus:
    """A stream: ``stored`` counts entries per level, whoever still needs them; ``paused``: scopes and JSON."""

    stream: str
    stored: dict[int, int]
    scheduled: int
    groups: list[GroupStatus]
    paused: list[Stored]
    undeclared: dict[int, int] = field(default_factory=dict)
    """Levels that nobody declared, to how many entries are there."""


@dataclass(slots=True)
class Found:
    """Where an entry stands.

    ``state`` is scheduled, pending, processing, retrying, dead, done, orphaned (given to a consumer, stored, and with
    none any more) or unknown.
    """

    state: str
    level: int | None = None
    entry_id: str = ""
    due: float | None = None
    consumer: str = ""
    silent: float | None = None
    deliveries: int = 0
    record: bytes = b""
    fields: Sequence[bytes] = ()
    admission: Admission | None = None
    """What was decided when it was to start last, if that is still so: what it waits for."""


class Inspecting:
    """Queries on a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._link = broker.control

    async def streams(self) -> dict[str, list[int]]:
        """Every stream with its levels. One command.

        Raises:
            BrokerUnavailable: the server that has the index is away.
        """
        index = index_key(self._broker.namespace)
        try:
            return _streams(await self._link.call("SMEMBERS", index))
        except BrokerUnavailable as error:
            if server := self._link.server_of(index):
                raise BrokerUnavailable(
                    f"the list of streams cannot be read, for shard {server}, which has it, is away: name a stream, "
                    f"whose own shard may well be there ({error})",
                    server=server,
                ) from error
            raise

    async def levels(self, stream: str) -> list[int]:
        """The levels of one stream; none if there is no such stream. Two commands, in one trip if on one server.

        They stand beside the stream as well as in the index, so the index may be away.
        """
        own, index = (
            self._broker.keys(stream).levels(),
            index_key(self._broker.namespace),
        )
        commands: list[Command] = [("SMEMBERS", own), ("SMEMBERS", index)]
        if self._link.server_of(own) == self._link.server_of(index):
            beside, listed = await self._replies(commands)
        else:
            beside, listed = (await self._replies(commands[:1]))[0], []
            try:
                listed = (
                    await self._replies(
                        commands[1:], within=PATIENCE if beside else None
                    )
                )[0]
            except BrokerUnavailable:
                if not beside:
                    raise
        own_levels = {int(row) for row in beside if _LEVEL.fullmatch(row)}
        return sorted({*own_levels, *_streams(listed).get(stream, ())})

    async def partitions(self, stream: str) -> Partitions:
        """How a stream is spread. One command."""
        return Partitions.parse(
            await self._link.call("GET", self._broker.keys(stream).partitions())
        )

    async def existing(self, stream: str) -> list[int]:
        """The levels of a stream that has to be there; as ``levels``.

        Raises:
            NotFound: there is no such stream; the message names those that are.
        """
        if levels := await self.levels(stream):
            return levels
        raise NotFound(
            f"there is no stream {stream!r} on {self._broker.address}; there are: "
            f"{', '.join(await self.streams()) or 'none'}. "
            "A stream exists once something was published on it or a worker serves it"
        )

    async def stream(self, name: str, levels: Sequence[int]) -> StreamStatus:
        """The status of one stream. Commands: 3, 2 per level, and 3 per level and group, in three round trips."""
        keys = self._broker.keys(name)
        commands: list[Command] = [
            ("ZCARD", keys.scheduled()),
            ("HGETALL", keys.paused()),
        ]
        for level in levels:
            commands += [
                ("XLEN", keys.level(level)),
                ("XINFO", "GROUPS", keys.level(level)),
            ]
        commands.append(probe(keys, levels))
        replies = await self._replies(commands, (GroupMissing, CommandRefused))
        stored = {level: replies[2 + 2 * i] or 0 for i, level in enumerate(levels)}
        rows: dict[str, dict[int, dict[str, Any]]] = {}
        for i, level in enumerate(levels):
            for row in replies[3 + 2 * i] or ():
                info = _pairs(row)
                rows.setdefault(info["name"].decode(), {})[level] = info
        groups = [
            await self._group(keys, group, found, stored, len(rows))
            for group, found in sorted(rows.items())
        ]
        undeclared = await stored_there(self._tolerantly, keys, levels, replies[-1])
        return StreamStatus(
            name,
            stored,
            replies[0] or 0,
            groups,
            stored_pauses(replies[1] or []),
            undeclared,
        )

    async def undeclared(self, name: str, levels: Sequence[int]) -> dict[int, int]:
        """Levels of a stream that nobody declared, to how many entries are there. One command, more where there are."""
        keys = self._broker.keys(name)
        answer = (await self._tolerantly([probe(keys, levels)]))[0]
        return await stored_there(self._tolerantly, keys, levels, answer)

    async def _tolerantly(self, commands: list[Command]) -> list[Any]:
        return await self._replies(commands, (WrongKeyType, CommandRefused))

    async def _group(
        self,
        keys: Keys,
        group: str,
        found: dict[int, dict[str, Any]],
        stored: dict[int, int],
        groups: int,
    ) -> GroupStatus:
        commands: list[Command] = [("XLEN", keys.dead(group))]
        for level, info in found.items():
            key = keys.level(level)
            commands += [
                ("XINFO", "CONSUMERS", key, group),
                (
                    "XRANGE",
                    key,
                    _next_id(info["last-delivered-id"].decode()),
                    "+",
                    "COUNT",
                    1,
                ),
                ("XPENDING", key, group),
            ]
        replies = await self._replies(commands, (GroupMissing, CommandRefused))
        status = GroupStatus(group, [], replies[0] or 0)
        for i, (level, info) in enumerate(found.items()):
            consumers, first, pending = replies[1 + 3 * i : 4 + 3 * i]
            parked = lined_up = 0
            for row in consumers or ():
                facts = _pairs(row)
                name = facts["name"].decode()
                if name == PARKED:
                    parked = facts["pending"]
                    continue
                if name == WAITING:
                    lined_up = facts["pending"]
                    continue
                if name.endswith(RECLAIMER_SUFFIX):
                    continue
                held, silent = status.consumers.get(name, (0, float("inf")))
                status.consumers[name] = (
                    held + facts["pending"],
                    min(silent, facts["idle"] / 1000),
                )
            in_hand = info["pending"]
            lag = info.get("lag")
            waiting = (
                max(0, stored[level] - in_hand) if groups == 1 or lag is None else lag
            )
            ids = [first[0][0]] if first else []
            if pending and pending[1]:
                ids.append(pending[1])
            oldest = min(
                (int(entry_id.partition(b"-")[0]) / 1000 for entry_id in ids),
                default=None,
            )
            # A group that has read nothing yet has no count of it.
            read = (
                0 if info["last-delivered-id"] == b"0-0" else info.get("entries-read")
            )
            added = None if lag is None or read is None else read + lag
            status.levels.append(
                LevelStatus(
                    level,
                    waiting + lined_up,
                    in_hand - parked - lined_up,
                    parked,
                    lag,
                    oldest,
                    added,
                )
            )
        return status

    async def find(self, stream: str, group: str, level: int, entry_id: str) -> Found:
        """Where one entry stands in one group; dead letters are not searched.

        Eight commands in one round trip; twice for one that seems to be orphaned, since it may be acknowledged between.

        Raises:
            GroupMissing: there is no such group.
            InvalidName: ``entry_id`` is no entry id.
        """
        found = await self._find(stream, group, level, entry_id)
        return (
            await self._find(stream, group, level, entry_id)
            if found.state == "orphaned"
            else found
        )

    async def _find(self, stream: str, group: str, level: int, entry_id: str) -> Found:
        keys = self._broker.keys(stream)
        key, place = keys.level(level), f"{level}|{entry_id}"
        commands: list[Command] = [
            ("XRANGE", key, entry_id, entry_id),
            ("XPENDING", key, group, entry_id, entry_id, 1),
            ("ZSCORE", keys.retry(group), place),
            ("HGET", keys.attempts(group), place),
            ("XINFO", "GROUPS", key),
            ("HMGET", keys.config(), "retention", f"group:{group}"),
            ("HGET", keys.admissions(group), place),
        ]
        try:
            stored, held, due, record, groups, declared, row = await self._replies(
                commands
            )
        except CommandRefused as error:
            raise InvalidName(f"{entry_id!r} is no entry id: {error}") from None
        found = Found(
            "unknown",
            level,
            entry_id,
            record=record or b"",
            fields=stored[0][1] if stored else (),
        )
        if held:
            _, consumer, silent, deliveries = held[0]
            found.deliveries = deliveries
            found.admission = Admission.stored(row, record, deliveries)
            if consumer.decode() == PARKED:
                found.state, found.due = "retrying", float(due) / 1000 if due else None
            elif consumer.decode() == WAITING:
                found.state = "pending"
            else:
                found.state, found.consumer, found.silent = (
                    "processing",
                    consumer.decode(),
                    silent / 1000,
                )
            return found
        last = {
            i["name"].decode(): i["last-delivered-id"].decode()
            for i in map(_pairs, groups)
        }.get(group)
        if last is None:
            raise GroupMissing(
                f"stream {stream!r} has no group {group!r} on level {level}"
            )
        if entry_order(entry_id) <= entry_order(last):
            is_alone = len(groups) == 1 and declared[0] == b"work"
            is_work = (
                is_alone and read_begin(declared[1]) <= entry_order(entry_id)[0] / 1000
            )
            found.state = "orphaned" if stored and is_work else "done"
        elif stored:
            found.state = "pending"
        return found

    async def scheduled(
        self, stream: str, event_id: str, levels: Sequence[int]
    ) -> Found | None:
        """A delayed event by its event id. One command."""
        found = await self.scheduled_many(
            stream, [f"{level}|{event_id}" for level in levels]
        )
        return next(iter(found.values()), None)

    async def scheduled_many(
        self, stream: str, members: Sequence[str]
    ) -> dict[str, Found]:
        """Those of the members (``level|event id``) that are scheduled. One command per 1,000."""
        keys = self._broker.keys(stream)
        found: dict[str, Found] = {}
        for at in range(0, len(members), 1000):
            part = members[at : at + 1000]
            command = _PEEK_SCHEDULED.command(
                (keys.scheduled(), keys.scheduled_fields()), *part
            )
            for name, row in zip(part, await self._link.call(*command), strict=True):
                if row:
                    level, _ = parse_member(name)
                    found[name] = Found(
                        "scheduled", level, "", due=float(row[0]) / 1000, fields=row[1]
                    )
        return found

    async def whereabouts(
        self, stream: str, group: str, levels: Sequence[int], members: Sequence[str]
    ) -> list[str]:
        """Per member (``level|entry id``): waiting, processing, retrying, or ended. One command per 1,000."""
        keys = self._broker.keys(stream)
        found: list[str] = []
        for at in range(0, len(members), 1000):
            command = _WHEREABOUTS.command(
                tuple(map(keys.level, levels)),
                group,
                PARKED,
                WAITING,
                len(levels),
                *levels,
                *members[at : at + 1000],
            )
            found += [word.decode() for word in await self._link.call(*command)]
        return found

    async def entry(
        self, stream: str, level: int, entry_id: str
    ) -> Sequence[bytes] | None:
        """The fields of one stored entry; None: it is not there. One command."""
        rows = await self._link.call(
            "XRANGE", self._broker.keys(stream).level(level), entry_id, entry_id
        )
        return rows[0][1] if rows else None

    async def scan(
        self, stream: str, level: int, after: str, most: int
    ) -> list[tuple[str, Sequence[bytes]]]:
        """Entries of a level with ids above ``after`` ('' for the beginning). One command, ``most`` entries."""
        start = _next_id(after) if after else "-"
        rows = await self._link.call(
            "XRANGE", self._broker.keys(stream).level(level), start, "+", "COUNT", most
        )
        return [(entry_id.decode(), fields) for entry_id, fields in rows]

    async def _replies(
        self,
        commands: Sequence[Command],
        tolerated: tuple[type[BrokerError], ...] = (),
        *,
        within: float | None = None,
    ) -> list[Any]:
        """Replies of a batch, None for a refusal of a tolerated kind."""
        replies = await self._link.batch(commands, within=within)
        for i, reply in enumerate(replies):
            if isinstance(reply, tolerated) and tolerated:
                replies[i] = None
            elif isinstance(reply, BrokerError):
                raise reply
        return replies


def _streams(rows: Iterable[bytes]) -> dict[str, list[int]]:
    """What the rows of the index name, in order."""
    streams: dict[str, list[int]] = {}
    for row in rows:
        name, _, level = row.rpartition(b"|")
        # Anything else is no stream of ours.
        if _LEVEL.fullmatch(level) and _STREAM.fullmatch(name):
            streams.setdefault(name.decode(), []).append(int(level))
    return {name: sorted(levels) for name, levels in sorted(streams.items())}


def read_begin(declared: bytes | None) -> float:
    """From which time on (Unix seconds) events are the work of a group, by its declaration; infinite: not known."""
    try:
        facts = orjson.loads(declared or b"")
        return 0.0 if facts["start"] == "oldest" else float(facts["since"]) + 1
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return math.inf


def _pairs(row: Sequence[Any]) -> dict[str, Any]:
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}


def _next_id(entry_id: str) -> str:
    milliseconds, sequence = entry_order(entry_id)
    return f"{milliseconds}-{sequence + 1}"
