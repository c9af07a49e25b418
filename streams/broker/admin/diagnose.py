"""Facts about the server and its streams, as the doctor judges them. Read only.

A question that the user may not ask is answered by ``Denied`` and never fails the others:
managed servers often refuse ``CONFIG``.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.admin.access import PROBE
from streams.broker.admin.replies import (
    ConsumerReply,
    GroupReply,
    consumers_of,
    groups_of,
    labelled_outcomes,
    next_id,
    outcomes_of,
    time_of,
)
from streams.broker.admin.strays import Strays, StrayStore, Unreadable, read_unreadable
from streams.broker.admin.undeclared import probe, stored_there
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import texts
from streams.errors import AccessDenied, BrokerError, CommandRefused

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_DEAD_FACTS = Script("dead_facts")
_WEIGH = Script("weigh")

HOUR = 3600.0
LETTERS = 100
"""Dead letters of the last hour that are counted, at most."""
_WEIGHED = 20
_FIRST = 19
"""Rank of the last due time that is read, in search of one whose row can be read."""
_MEMBER = re.compile(rb"-?[0-9]{1,20}\|.+", re.DOTALL)
_DECLARED = b"group:"
_SCRIPTS = (
    "time, evalsha, script|load, xpending, xrange, xrevrange, xinfo|groups, zrange, zscore,"
    " hget, hexists and hscan"
)


@dataclass(frozen=True, slots=True)
class Denied:
    """The server refused a question; ``command`` is the permission that is missing."""

    command: str


@dataclass(slots=True)
class GroupFacts:
    """One group on one level.

    Attributes:
        group, level: which.
        pending: entries that were delivered and are not acknowledged.
        consumers: name to pending entries and seconds of silence; entries that wait for a
            retry or for their key are not counted.
        unread_since: Unix time (s) of the oldest entry that the group was not given yet;
            None if there is none.
    """

    group: str
    level: int
    pending: int
    consumers: dict[str, tuple[int, float]]
    unread_since: float | None


@dataclass(frozen=True, slots=True)
class DeadFacts:
    """The dead letters of a group. Times are Unix seconds.

    Attributes:
        count: how many there are.
        oldest, newest: when the first and the last one came.
        recent: how many came in the last hour; ``LETTERS`` are counted at most.
        since: when the oldest of the counted ones came.
    """

    count: int
    oldest: float
    newest: float
    recent: int
    since: float


@dataclass(frozen=True, slots=True)
class Weight:
    """The size of a level.

    Attributes:
        bytes: of the server's memory that it takes.
        content: bytes of content per entry, as a mean of the oldest entries.
    """

    bytes: int
    content: float


@dataclass(slots=True)
class StreamFacts:
    """One stream.

    Attributes:
        stream: its name.
        stored: entries per level; None for a level whose key is missing.
        types: keys of a wrong type, each with its type and the right one.
        groups: every group on every level.
        scheduled_due: Unix time (s) of the first scheduled event.
        retry_due: group to the Unix time (s) of its first retry.
        dead: group to its dead letters.
        weights: the size of each level.
        strays: group to the counts of orphaned rows and entries, in the first slices of
            its rows and pending lists; '' stands for the scheduled events.
        unreadable: group to its rows that cannot be read; '' stands for scheduled events
            with fields that cannot be read.
        orphans: group to one of its orphans, ``level|entry id``.
        denied: permissions that were missing to look at a part.
        missing: groups that are declared and exist on no level.
        undeclared: entries per level that no producer or worker declared.
    """

    stream: str
    stored: dict[int, int | None]
    types: list[tuple[str, str, str]]
    groups: list[GroupFacts] = field(default_factory=list)
    scheduled_due: float | None = None
    retry_due: dict[str, float] = field(default_factory=dict)
    dead: dict[str, DeadFacts] = field(default_factory=dict)
    weights: dict[int, Weight] = field(default_factory=dict)
    strays: dict[str, Strays] = field(default_factory=dict)
    unreadable: dict[str, list[Unreadable]] = field(default_factory=dict)
    orphans: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    undeclared: dict[int, int] = field(default_factory=dict)

    def check_type(self, key: str, reply: Any, wanted: str) -> None:
        """Note a key of a wrong type; after a refused ``TYPE`` the type is unknown."""
        if isinstance(reply, (BrokerError, CommandRefused)):
            return

        kind = reply.decode() if isinstance(reply, bytes) else str(reply)
        if kind not in (wanted, "none"):
            self.types.append((key, kind, wanted))


Questions = dict[Hashable, Command]
Answers = Mapping[Hashable, Any]


class _GroupLevel(NamedTuple):
    level: int
    info: GroupReply


class DiagnosisStore:
    """Questions to a server. The cost of each does not grow with the number of entries.

    Args:
        broker: an open broker.
        link: to the server that is asked; None for the only one.
    """

    def __init__(self, broker: Broker, link: Link | None = None) -> None:
        self._broker = broker
        self._link = link or broker.control

    async def info(self) -> dict[str, str] | Denied:
        """The fields of ``INFO``. One command."""
        reply = (await self._ask([("INFO",)]))[0]
        if isinstance(reply, BrokerError):
            return Denied("info")

        found = {}

        for line in reply.decode(errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon:
                found[name] = value

        return found

    async def config(self, *names: str) -> dict[str, str] | Denied:
        """Values of the server's configuration. One command per name."""
        found: dict[str, str] = {}
        for reply in await self._ask([("CONFIG", "GET", name) for name in names]):
            if isinstance(reply, BrokerError):
                return Denied("config|get")

            found |= texts(reply)

        return found

    async def refused_to_default(self) -> list[str] | Denied:
        """Our write commands that the server's default user may not call.

        One command per kind of write; none is carried out.
        """
        key = self._broker.keys(PROBE).level(0)
        writes: tuple[Command, ...] = (
            ("XADD", key, "*", "f", "v"),
            ("XACK", key, "g", "1-1"),
            ("XDEL", key, "1-1"),
            ("ZADD", key, 0, "m"),
            ("HSET", key, "f", "v"),
            ("SET", key, "v"),
        )

        trials = [("ACL", "DRYRUN", "default", *write) for write in writes]
        refused = []

        for write, reply in zip(writes, await self._ask(trials), strict=True):
            if isinstance(reply, BrokerError):
                return Denied("acl|dryrun")

            if reply not in (b"OK", "OK"):
                refused.append(str(write[0]))

        return refused

    async def skew(self) -> float:
        """Seconds by which the server's clock is ahead of this machine's."""
        before = time.time()
        seconds, micros = await self._link.call("TIME")
        halfway = (before + time.time()) / 2

        return int(seconds) + int(micros) / 1e6 - halfway

    async def stream(self, name: str, levels: Sequence[int]) -> StreamFacts | Denied:
        """The facts of one stream, in three round trips.

        Commands: 5, 5 per level, 4 more per level and group, 7 per group. Keys of a wrong
        type are named and not looked into.
        """
        keys = self._broker.keys(name)
        questions: Questions = {"type": ("TYPE", keys.scheduled())}

        for level in levels:
            key = keys.level(level)
            questions["type", level] = ("TYPE", key)
            questions["length", level] = ("XLEN", key)
            questions["groups", level] = ("XINFO", "GROUPS", key)
            questions["memory", level] = ("MEMORY", "USAGE", key, "SAMPLES", 5)
            questions["content", level] = _WEIGH.command((key,), _WEIGHED)

        answers = await labelled_outcomes(self._link, questions)

        for label, reply in answers.items():
            part = label[0] if isinstance(label, tuple) else label
            if part not in ("memory", "content") and isinstance(reply, AccessDenied):
                return Denied("type, xlen and xinfo|groups")

        facts = StreamFacts(name, {}, [])
        facts.check_type(keys.scheduled(), answers["type"], "zset")
        places = _read_levels(facts, keys, levels, answers)
        probed = (await self._ask([probe(keys, levels)]))[0]
        facts.undeclared = await stored_there(self._ask, keys, levels, probed)
        if not await self._groups(facts, keys, places):
            return Denied("xinfo|consumers, xrange, zrange and hgetall")

        return facts

    async def _groups(
        self, facts: StreamFacts, keys: Keys, places: Sequence[_GroupLevel]
    ) -> bool:
        """Read what the groups have; False if the user may not."""
        names = sorted({place.info.name for place in places})
        plain = _plain_questions(keys, names, places)
        scripts = self._script_questions(keys, names, places, list(facts.stored))
        answers = await labelled_outcomes(self._link, plain | scripts)
        if any(isinstance(answers[label], AccessDenied) for label in plain):
            return False

        if any(isinstance(answers[label], AccessDenied) for label in scripts):
            facts.denied.add(_SCRIPTS)

        _read_plain(facts, keys, names, answers)
        _read_group_levels(facts, places, answers)
        # Other refusals: a key of a wrong type, which is told as such, or a group that is gone.
        told = {
            label: None if isinstance(answers[label], BrokerError) else answers[label]
            for label in scripts
        }

        _read_scheduled(facts, told["scheduled strays"])

        for name in names:
            _read_dead(facts, name, told["dead", name])
            _read_rows(facts, name, told["rows", name], told["unreadable", name])

        for level, info in places:
            pending = told["pending", info.name, level]
            orphans = told["orphans", info.name, level]
            _read_level(facts, _GroupLevel(level, info), pending, orphans)

        return True

    def _script_questions(
        self,
        keys: Keys,
        names: Sequence[str],
        places: Sequence[_GroupLevel],
        levels: Sequence[int],
    ) -> Questions:
        straying = StrayStore(self._broker, keys, levels)
        recent = f"{round((self._broker.clock.now() - HOUR) * 1000)}-0"
        found: Questions = {"scheduled strays": straying.scheduled()}

        for name in names:
            dead = (keys.dead(name),)
            found["dead", name] = _DEAD_FACTS.command(dead, recent, LETTERS)
            found["rows", name] = straying.rows(name)
            found["unreadable", name] = straying.unreadable(name)

        for level, info in places:
            found["pending", info.name, level] = straying.pending(info.name, level)
            found["orphans", info.name, level] = straying.orphans(info.name, level)

        return found

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        return await outcomes_of(self._link, commands)


def _plain_questions(
    keys: Keys, names: Sequence[str], places: Sequence[_GroupLevel]
) -> Questions:
    found: Questions = {
        "scheduled": ("ZRANGE", keys.scheduled(), 0, _FIRST, "WITHSCORES"),
        "config": ("HGETALL", keys.config()),
    }

    for name in names:
        retry = keys.retry(name)
        found["retry type", name] = ("TYPE", retry)
        found["attempts type", name] = ("TYPE", keys.attempts(name))
        found["dead type", name] = ("TYPE", keys.dead(name))
        found["retry", name] = ("ZRANGE", retry, 0, _FIRST, "WITHSCORES")

    for level, info in places:
        key = keys.level(level)
        unread = next_id(info.last_id)
        found["consumers", info.name, level] = ("XINFO", "CONSUMERS", key, info.name)
        found["unread", info.name, level] = ("XRANGE", key, unread, "+", "COUNT", 1)

    return found


def _read_levels(
    facts: StreamFacts, keys: Keys, levels: Sequence[int], answers: Answers
) -> list[_GroupLevel]:
    """Read the levels; returns each group on each of them."""
    places = []
    for level in levels:
        kind = answers["type", level]
        length = answers["length", level]
        groups = answers["groups", level]
        facts.check_type(keys.level(level), kind, "stream")
        is_there = kind == b"stream" and isinstance(length, int)
        facts.stored[level] = length if is_there else None
        if not isinstance(groups, BrokerError):
            places += [_GroupLevel(level, info) for info in groups_of(groups)]

        _read_weight(facts, level, answers["memory", level], answers["content", level])

    return places


def _read_weight(facts: StreamFacts, level: int, memory: Any, content: Any) -> None:
    if isinstance(memory, AccessDenied):
        facts.denied.add("memory|usage")

    if isinstance(content, AccessDenied):
        facts.denied.add(_SCRIPTS)

    if not isinstance(memory, int) or isinstance(content, BrokerError):
        return

    entries, size = content
    if entries:
        facts.weights[level] = Weight(memory, size / entries)


def _read_plain(
    facts: StreamFacts, keys: Keys, names: Sequence[str], answers: Answers
) -> None:
    facts.scheduled_due = _first_due(answers["scheduled"])
    config = answers["config"]
    fields = [] if isinstance(config, BrokerError) else config[::2]
    declared = {
        name.removeprefix(_DECLARED).decode()
        for name in fields
        if name.startswith(_DECLARED)
    }

    facts.missing = sorted(declared.difference(names))

    for name in names:
        facts.check_type(keys.retry(name), answers["retry type", name], "zset")
        facts.check_type(keys.attempts(name), answers["attempts type", name], "hash")
        facts.check_type(keys.dead(name), answers["dead type", name], "stream")
        due = _first_due(answers["retry", name])
        if due is not None:
            facts.retry_due[name] = due


def _read_group_levels(
    facts: StreamFacts, places: Iterable[_GroupLevel], answers: Answers
) -> None:
    for level, info in places:
        consumers = answers["consumers", info.name, level]
        unread = answers["unread", info.name, level]
        if isinstance(consumers, BrokerError) or isinstance(unread, BrokerError):
            continue  # The group is gone meanwhile.

        row = GroupFacts(
            group=info.name,
            level=level,
            pending=info.pending,
            consumers=_in_hand(consumers_of(consumers)),
            unread_since=time_of(unread[0][0]) if unread else None,
        )

        facts.groups.append(row)


def _in_hand(consumers: Iterable[ConsumerReply]) -> dict[str, tuple[int, float]]:
    return {
        row.name: (row.pending, row.silent) for row in consumers if not row.is_resting
    }


def _read_scheduled(facts: StreamFacts, reply: Any) -> None:
    if not reply:
        return

    empty, stranded, _, _, unreadable, example = reply
    facts.strays[""] = Strays(
        scheduled_empty=empty,
        scheduled_stranded=stranded,
        scheduled_unreadable=unreadable,
    )

    if unreadable:
        rows = Unreadable("scheduled-fields", unreadable, example)
        facts.unreadable[""] = [rows]


def _read_dead(facts: StreamFacts, name: str, reply: Any) -> None:
    if not reply or not reply[0]:
        return

    count, oldest, newest, recent, since = reply
    facts.dead[name] = DeadFacts(
        count=count,
        oldest=time_of(oldest),
        newest=time_of(newest),
        recent=recent,
        since=time_of(since) if since else 0.0,
    )


def _read_rows(facts: StreamFacts, name: str, rows: Any, unreadable: Any) -> None:
    strays = facts.strays.setdefault(name, Strays())
    if rows:
        strays.add(Strays(due_times_stray=rows[0], records_stray=rows[1]))

    if unreadable and unreadable[0]:
        facts.unreadable[name] = read_unreadable(unreadable)


def _read_level(
    facts: StreamFacts, place: _GroupLevel, pending: Any, orphans: Any
) -> None:
    name = place.info.name
    strays = facts.strays[name]
    if pending:
        strays.add(Strays(payloads_gone=pending[0], due_times_lost=pending[1]))

    if orphans and orphans[0]:
        strays.add(Strays(orphaned=orphans[0]))
        facts.orphans.setdefault(name, f"{place.level}|{orphans[1].decode()}")


def _first_due(reply: Any) -> float | None:
    """The first due time (Unix seconds) whose row can be read."""
    if isinstance(reply, BrokerError):
        return None

    for name, due in zip(reply[::2], reply[1::2], strict=True):
        at = float(due)
        if math.isfinite(at) and _MEMBER.fullmatch(name):
            return at / 1000

    return None
