"""Read-only queries about streams and entries. Each method states its cost."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from streams.broker.admin.pauses import StoredPause, stored_pauses
from streams.broker.admin.replies import (
    ConsumerReply,
    GroupReply,
    after_id,
    by_group,
    consumers_of,
    groups_of,
    labelled_replies,
    next_id,
    pending_of,
    replies_of,
    time_of,
)
from streams.broker.admin.undeclared import probe, stored_there
from streams.broker.keys import PARKED, WAITING, Keys, index_key
from streams.broker.server.connection import Broker
from streams.broker.server.errands import PATIENCE
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import parts
from streams.errors import (
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
_GONE = (GroupMissing, CommandRefused)
"""Refusals for a group or a level that is gone meanwhile."""
_PAGE = 500
_PART = 1000
"""Members that one command carries."""


@dataclass(slots=True)
class LevelRow:
    """One level of one group, or of a stream without consumers (``group`` '').

    Attributes:
        level: the level.
        waiting: entries that no consumer of the group has fetched yet.
        processing: entries that a consumer holds.
        retrying: entries that wait for their due time.
        lag: the server's own figure of what is waiting, None where it has none.
        oldest_age: age of the oldest unfinished entry, seconds.
        paused: whether the level is held for the group, by whatever pause.
        added: entries that ever came onto it, by the server's own count; None where it
            has none.
    """

    level: int
    waiting: int
    processing: int
    retrying: int
    lag: int | None
    oldest_age: float | None
    paused: bool = False
    added: int | None = None


@dataclass(slots=True)
class GroupStatus:
    """One group of a stream.

    Attributes:
        group: its name.
        levels: those that the group exists on.
        dead: how many dead letters it has.
        consumers: name to the entries that a consumer has, and its silence in seconds.
    """

    group: str
    levels: list[LevelRow]
    dead: int = 0
    consumers: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(slots=True)
class StreamStatus:
    """A stream.

    Attributes:
        stream: its name.
        stored: entries per level, whether or not a group still needs them.
        scheduled: how many events are scheduled.
        groups: by name.
        paused: scope and JSON of each pause.
        undeclared: entries per level that no producer or worker declared.
    """

    stream: str
    stored: dict[int, int]
    scheduled: int
    groups: list[GroupStatus]
    paused: list[StoredPause]
    undeclared: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class FoundEntry:
    """Where an entry stands.

    Attributes:
        state: scheduled, pending, processing, retrying, dead, done, orphaned (stored and
            delivered, but pending with no consumer) or unknown.
        level, entry_id: its place; ``entry_id`` is '' for a scheduled event.
        due: Unix time (s) of its retry or of a scheduled event.
        consumer: that processes it; '' for none.
        silent: seconds since that consumer was heard of.
        deliveries: how often it was delivered.
        record: its attempt record, as stored.
        fields: names and values, as stored.
        admission: the decision of its last start, with the limits and pauses that it waits for;
            None if it no longer holds.
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


class StatusStore:
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
            server = self._link.server_of(index)
            if not server:
                raise

            raise BrokerUnavailable(
                f"the list of streams cannot be read, for shard {server}, which has it,"
                " is away: name a stream, whose own shard may well be there"
                f" ({error})",
                server=server,
            ) from error

    async def levels(self, stream: str) -> list[int]:
        """The levels of one stream; none if there is no such stream.

        Two commands, in one trip if one server has both keys. The stream has a list of its
        levels beside the index, so the index may be away.
        """
        own = self._broker.keys(stream).levels()
        index = index_key(self._broker.namespace)
        of_stream: Command = ("SMEMBERS", own)
        of_all: Command = ("SMEMBERS", index)

        if self._link.server_of(own) == self._link.server_of(index):
            beside, listed = await replies_of(self._link, [of_stream, of_all])
        else:
            beside = await self._link.call(*of_stream)
            listed = await self._index_beside(of_all, is_needed=not beside)

        own_levels = {int(row) for row in beside if _LEVEL.fullmatch(row)}

        return sorted({*own_levels, *_streams(listed).get(stream, ())})

    async def _index_beside(
        self, command: Command, *, is_needed: bool
    ) -> Iterable[bytes]:
        """The index, on another server than the stream; nothing if that is away and not needed."""
        within = None if is_needed else PATIENCE
        try:
            reply = await replies_of(self._link, [command], within=within)
        except BrokerUnavailable:
            if is_needed:
                raise

            return ()

        rows: Iterable[bytes] = reply[0]

        return rows

    async def partitions(self, stream: str) -> Partitions:
        """How a stream is partitioned. One command."""
        key = self._broker.keys(stream).partitions()

        return Partitions.parse(await self._link.call("GET", key))

    async def existing(self, stream: str) -> list[int]:
        """The levels of a stream that has to be there; as ``levels``.

        Raises:
            NotFound: there is no such stream; the message names those that are.
        """
        if levels := await self.levels(stream):
            return levels

        names = ", ".join(await self.streams()) or "none"
        raise NotFound(
            f"there is no stream {stream!r} on {self._broker.address}; there are: {names}."
            " A stream exists once something was published on it or a worker serves it"
        )

    async def stream(self, name: str, levels: Sequence[int]) -> StreamStatus:
        """The status of one stream.

        Commands: 3, 2 per level, and 3 per level and group, in three round trips.
        """
        keys = self._broker.keys(name)
        questions: dict[Hashable, Command] = {
            "scheduled": ("ZCARD", keys.scheduled()),
            "paused": ("HGETALL", keys.paused()),
            "undeclared": probe(keys, levels),
        }

        for level in levels:
            questions["length", level] = ("XLEN", keys.level(level))
            questions["groups", level] = ("XINFO", "GROUPS", keys.level(level))

        replies = await labelled_replies(self._link, questions, _GONE)
        stored = {level: replies["length", level] or 0 for level in levels}
        found = by_group({level: replies["groups", level] for level in levels})

        groups = []

        for group, infos in sorted(found.items()):
            is_only = len(found) == 1
            status = await self._group(keys, group, infos, stored, is_only=is_only)
            groups.append(status)

        undeclared = await stored_there(
            self._tolerantly, keys, levels, replies["undeclared"]
        )

        return StreamStatus(
            stream=name,
            stored=stored,
            scheduled=replies["scheduled"] or 0,
            groups=groups,
            paused=stored_pauses(replies["paused"] or []),
            undeclared=undeclared,
        )

    async def undeclared(self, name: str, levels: Sequence[int]) -> dict[int, int]:
        """Entries per undeclared level. One command, two if there are such levels."""
        keys = self._broker.keys(name)
        answer = (await self._tolerantly([probe(keys, levels)]))[0]

        return await stored_there(self._tolerantly, keys, levels, answer)

    async def _tolerantly(self, commands: list[Command]) -> list[Any]:
        return await replies_of(self._link, commands, (WrongKeyType, CommandRefused))

    async def _group(
        self,
        keys: Keys,
        group: str,
        infos: Mapping[int, GroupReply],
        stored: Mapping[int, int],
        *,
        is_only: bool,
    ) -> GroupStatus:
        questions: dict[Hashable, Command] = {"dead": ("XLEN", keys.dead(group))}
        for level, info in infos.items():
            key = keys.level(level)
            unread = next_id(info.last_id)
            questions["consumers", level] = ("XINFO", "CONSUMERS", key, group)
            questions["unread", level] = ("XRANGE", key, unread, "+", "COUNT", 1)
            questions["pending", level] = ("XPENDING", key, group)

        replies = await labelled_replies(self._link, questions, _GONE)
        status = GroupStatus(group, [], replies["dead"] or 0)

        for level, info in infos.items():
            consumers = consumers_of(replies["consumers", level])
            _add_workers(status.consumers, consumers)
            row = _level_status(level, info, consumers)

            if is_only or info.lag is None:
                # Without other groups, all that is stored is this one's.
                row.waiting += max(0, stored[level] - info.pending)
            else:
                row.waiting += info.lag

            oldest = _oldest(replies["unread", level], replies["pending", level])
            if oldest is not None:
                age = max(0.0, self._broker.clock.now() - oldest)
                row.oldest_age = round(age, 3)

            status.levels.append(row)

        return status

    async def find(
        self, stream: str, group: str, level: int, entry_id: str
    ) -> FoundEntry:
        """Where one entry stands in one group; dead letters are not searched.

        Seven commands in one round trip. An entry that seems to be orphaned is looked at
        twice, since it may be acknowledged between the commands.

        Raises:
            GroupMissing: there is no such group.
            InvalidName: ``entry_id`` is no entry id.
        """
        found = await self._find(stream, group, level, entry_id)
        if found.state == "orphaned":
            found = await self._find(stream, group, level, entry_id)

        return found

    async def _find(
        self, stream: str, group: str, level: int, entry_id: str
    ) -> FoundEntry:
        keys = self._broker.keys(stream)
        key, place = keys.level(level), f"{level}|{entry_id}"
        questions: dict[str, Command] = {
            "stored": ("XRANGE", key, entry_id, entry_id),
            "pending": ("XPENDING", key, group, entry_id, entry_id, 1),
            "due": ("ZSCORE", keys.retry(group), place),
            "record": ("HGET", keys.attempts(group), place),
            "groups": ("XINFO", "GROUPS", key),
            "declared": ("HMGET", keys.config(), "retention", f"group:{group}"),
            "admission": ("HGET", keys.admissions(group), place),
        }

        try:
            replies = await labelled_replies(self._link, questions)
        except CommandRefused as error:
            raise InvalidName(f"{entry_id!r} is no entry id: {error}") from None

        found = FoundEntry("unknown", level, entry_id, record=replies["record"] or b"")
        if replies["stored"]:
            found.fields = replies["stored"][0][1]

        if replies["pending"]:
            return _pending_entry(found, replies)

        infos = groups_of(replies["groups"])
        last = next((info.last_id for info in infos if info.name == group), None)
        if last is None:
            raise GroupMissing(
                f"stream {stream!r} has no group {group!r} on level {level}"
            )

        if entry_order(entry_id) > entry_order(last):
            state = "pending" if replies["stored"] else "unknown"
        elif replies["stored"] and _is_work_of_one(entry_id, infos, replies):
            state = "orphaned"
        else:
            state = "done"

        return replace(found, state=state)

    async def scheduled(
        self, stream: str, event_id: str, levels: Sequence[int]
    ) -> FoundEntry | None:
        """A delayed event by its event id. One command."""
        members = [f"{level}|{event_id}" for level in levels]
        found = await self.scheduled_many(stream, members)

        return next(iter(found.values()), None)

    async def scheduled_many(
        self, stream: str, members: Sequence[str]
    ) -> dict[str, FoundEntry]:
        """Those of the members (``level|event id``) that are scheduled. One command per 1,000."""
        keys = self._broker.keys(stream)
        places = (keys.scheduled(), keys.scheduled_fields())
        found: dict[str, FoundEntry] = {}

        for part in parts(members, _PART):
            rows = await self._link.run(_PEEK_SCHEDULED, places, *part)

            for name, row in zip(part, rows, strict=True):
                if not row:
                    continue

                level, _ = parse_member(name)
                due = float(row[0]) / 1000
                found[name] = FoundEntry("scheduled", level, due=due, fields=row[1])

        return found

    async def whereabouts(
        self, stream: str, group: str, levels: Sequence[int], members: Sequence[str]
    ) -> list[str]:
        """Per member (``level|entry id``): waiting, processing, retrying, or ended.

        One command per 1,000.
        """
        keys = self._broker.keys(stream)
        places = tuple(map(keys.level, levels))
        common: Command = (group, PARKED, WAITING, len(levels), *levels)
        found: list[str] = []

        for part in parts(members, _PART):
            found += [
                word.decode()
                for word in await self._link.run(_WHEREABOUTS, places, *common, *part)
            ]

        return found

    async def entry(
        self, stream: str, level: int, entry_id: str
    ) -> Sequence[bytes] | None:
        """The fields of one stored entry; None if it is not there. One command."""
        key = self._broker.keys(stream).level(level)
        rows = await self._link.call("XRANGE", key, entry_id, entry_id)

        return rows[0][1] if rows else None

    async def scan(
        self, stream: str, level: int, after: str, most: int
    ) -> list[tuple[str, Sequence[bytes]]]:
        """At most ``most`` entries of a level with ids above ``after`` ('' for the beginning).

        One command.
        """
        key = self._broker.keys(stream).level(level)
        rows = await self._link.call("XRANGE", key, after_id(after), "+", "COUNT", most)

        return [(entry_id.decode(), fields) for entry_id, fields in rows]

    async def walk(
        self, stream: str, level: int, most: int
    ) -> AsyncIterator[tuple[str, Sequence[bytes]]]:
        """The first ``most`` entries of a level, the oldest first. One command per 500."""
        after, seen = "", 0
        while seen < most and (page := await self.scan(stream, level, after, _PAGE)):
            for row in page:
                yield row

            after, seen = page[-1][0], seen + len(page)


def _level_status(
    level: int, info: GroupReply, consumers: Iterable[ConsumerReply]
) -> LevelRow:
    """The counts in the server's own rows; ``waiting`` lacks the entries not read yet."""
    resting = {row.name: row.pending for row in consumers}
    parked = resting.get(PARKED, 0)
    lined_up = resting.get(WAITING, 0)
    # A group that has read nothing yet has no count of it.
    read = 0 if info.last_id == "0-0" else info.read

    return LevelRow(
        level=level,
        waiting=lined_up,
        processing=info.pending - parked - lined_up,
        retrying=parked,
        lag=info.lag,
        oldest_age=None,
        added=None if info.lag is None or read is None else read + info.lag,
    )


def _add_workers(
    found: dict[str, tuple[int, float]], consumers: Iterable[ConsumerReply]
) -> None:
    """Add the consumers of one level to those of the others."""
    for row in consumers:
        if row.is_worker:
            pending, silent = found.get(row.name, (0, math.inf))
            found[row.name] = (pending + row.pending, min(silent, row.silent))


def _oldest(
    unread: Sequence[Any] | None, pending: Sequence[Any] | None
) -> float | None:
    """The time of the oldest entry among the first unread one and the first pending one."""
    ids = [unread[0][0]] if unread else []
    if pending and pending[1]:
        ids.append(pending[1])

    return min(map(time_of, ids), default=None)


def _pending_entry(found: FoundEntry, replies: Mapping[str, Any]) -> FoundEntry:
    entry = pending_of(replies["pending"])[0]
    admission = Admission.stored(
        replies["admission"], replies["record"], entry.deliveries
    )
    found = replace(found, deliveries=entry.deliveries, admission=admission)
    if entry.consumer == WAITING:
        return replace(found, state="pending")

    if entry.consumer == PARKED:
        due = replies["due"]
        return replace(found, state="retrying", due=float(due) / 1000 if due else None)

    return replace(
        found, state="processing", consumer=entry.consumer, silent=entry.silent
    )


def _is_work_of_one(
    entry_id: str, infos: Sequence[GroupReply], replies: Mapping[str, Any]
) -> bool:
    """Whether an entry is work of the stream's only group, which deletes finished entries."""
    retention, declared = replies["declared"]
    if len(infos) != 1 or retention != b"work":
        return False

    return read_begin(declared) <= entry_order(entry_id)[0] / 1000


def _streams(rows: Iterable[bytes]) -> dict[str, list[int]]:
    """The streams that rows of the index name, in order."""
    streams: dict[str, list[int]] = {}
    for row in rows:
        name, _, level = row.rpartition(b"|")
        # Rows of another form were written by other programs.
        if _LEVEL.fullmatch(level) and _STREAM.fullmatch(name):
            streams.setdefault(name.decode(), []).append(int(level))

    return {name: sorted(levels) for name, levels in sorted(streams.items())}


def read_begin(declared: bytes | None) -> float:
    """The Unix time from which on a group reads, by its declaration; infinite if unknown."""
    try:
        facts = orjson.loads(declared or b"")
        return 0.0 if facts["start"] == "oldest" else float(facts["since"]) + 1
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return math.inf
