"""diagnose: facts about the server and its streams, for whoever judges them. Read only.

What the user may not ask is told as ``Denied`` and never fails the rest: managed servers often refuse ``CONFIG``.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams.broker.admin.access import PROBE
from streams.broker.admin.strays import Straying, Strays, Unreadable, read_unreadable
from streams.broker.admin.undeclared import probe, stored_there
from streams.broker.keys import PARKED, WAITING, Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, CommandRefused

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_DEAD_FACTS = Script("dead_facts")
_WEIGH = Script("weigh")

HOUR = 3600.0
LETTERS = 100
"""Dead letters of the last hour that are looked at, at most."""
_WEIGHED = 20
_FIRST = 19
"""The rank up to which a row is looked for that says when something is due."""
_MEMBER = re.compile(rb"-?[0-9]{1,20}\|.+", re.DOTALL)
_SCRIPTS = (
    "time, evalsha, script|load, xpending, xrange, xrevrange, xinfo|groups, zrange, zscore,"
    " hget, hexists and hscan"
)


@dataclass(frozen=True, slots=True)
class Denied:
    """The server did not answer a question; ``command`` is the permission that would tell."""

    command: str


@dataclass(slots=True)
class GroupFacts:
    """One group on one level. Times are Unix seconds; None: there is none.

    ``consumers``: name to entries in hand and seconds of silence, without what waits for a retry.
    ``unread_since``: when the oldest entry was published that the group was not given yet.
    """

    group: str
    level: int
    pending: int
    consumers: dict[str, tuple[int, float]]
    unread_since: float | None


@dataclass(frozen=True, slots=True)
class DeadFacts:
    """The dead letters of a group. Times are Unix seconds.

    ``recent``: how many of the last hour were looked at, at most ``LETTERS``; ``since``: when the oldest of these came.
    """

    count: int
    oldest: float
    newest: float
    recent: int
    since: float


@dataclass(frozen=True, slots=True)
class Weight:
    """What a level costs: bytes in the server's memory, and bytes of content per entry, from a few of the oldest."""

    bytes: int
    content: float


@dataclass(slots=True)
class StreamFacts:
    """One stream. ``stored`` has None for a level whose key is missing; ``types`` names keys of a wrong kind."""

    stream: str
    stored: dict[int, int | None]
    types: list[tuple[str, str, str]]
    groups: list[GroupFacts] = field(default_factory=list)
    scheduled_due: float | None = None
    retry_due: dict[str, float] = field(default_factory=dict)
    dead: dict[str, DeadFacts] = field(default_factory=dict)
    weights: dict[int, Weight] = field(default_factory=dict)
    strays: dict[str, Strays] = field(default_factory=dict)
    """Group to what the first slices of its rows and pending lists showed; '': of the delayed events."""
    unreadable: dict[str, list[Unreadable]] = field(default_factory=dict)
    """Group to its rows that say nothing; '': delayed events whose fields cannot be read."""
    orphans: dict[str, str] = field(default_factory=dict)
    """Group to one of its orphans, ``level|entry id``."""
    denied: set[str] = field(default_factory=set)
    """Permissions without which a part was not looked at."""
    missing: list[str] = field(default_factory=list)
    """Groups that are declared and exist on no level."""
    undeclared: dict[int, int] = field(default_factory=dict)
    """Levels that nobody declared, to how many entries are there."""


class Diagnosing:
    """Questions to a server. The cost of each does not grow with what is stored.

    Args:
        broker: an open broker.
        link: to the one of its servers that is asked about itself; None: it has one only.
    """

    def __init__(self, broker: Broker, link: Link | None = None) -> None:
        self._broker = broker
        self._link = link or broker.control

    async def info(self) -> dict[str, str] | Denied:
        """What ``INFO`` says. One command."""
        reply = (await self._ask([("INFO",)]))[0]
        if isinstance(reply, BrokerError):
            return Denied("info")
        lines = (
            line.partition(":") for line in reply.decode(errors="replace").splitlines()
        )
        return {name: value for name, colon, value in lines if colon}

    async def config(self, *names: str) -> dict[str, str] | Denied:
        """Values of the server's configuration. One command per name."""
        found: dict[str, str] = {}
        for reply in await self._ask([("CONFIG", "GET", name) for name in names]):
            if isinstance(reply, BrokerError):
                return Denied("config|get")
            found |= {
                reply[i].decode(): reply[i + 1].decode()
                for i in range(0, len(reply), 2)
            }
        return found

    async def refused_to_default(self) -> list[str] | Denied:
        """Writes of ours that the server's default user may not do. One command per kind of write; none is done."""
        key = self._broker.keys(PROBE).level(0)
        writes: tuple[Command, ...] = (
            ("XADD", key, "*", "f", "v"),
            ("XACK", key, "g", "1-1"),
            ("XDEL", key, "1-1"),
            ("ZADD", key, 0, "m"),
            ("HSET", key, "f", "v"),
            ("SET", key, "v"),
        )
        refused = []
        for write, reply in zip(
            writes,
            await self._ask([("ACL", "DRYRUN", "default", *write) for write in writes]),
            strict=True,
        ):
            if isinstance(reply, BrokerError):
                return Denied("acl|dryrun")
            if reply not in (b"OK", "OK"):
                refused.append(str(write[0]))
        return refused

    async def skew(self) -> float:
        """Seconds by which the server's clock is ahead of this machine's."""
        before = time.time()
        seconds, micros = await self._link.call("TIME")
        return int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2

    async def stream(self, name: str, levels: Sequence[int]) -> StreamFacts | Denied:
        """One stream: 5 commands, 5 per level, 4 more per level and group, 7 per group, in two round trips.

        Keys of a wrong kind are named and not asked further.
        """
        keys = self._broker.keys(name)
        commands: list[Command] = [("TYPE", keys.scheduled())]
        for level in levels:
            key = keys.level(level)
            commands += [("TYPE", key), ("XLEN", key), ("XINFO", "GROUPS", key)]
            commands += [
                ("MEMORY", "USAGE", key, "SAMPLES", 5),
                _WEIGH.command((key,), _WEIGHED),
            ]
        replies = await self._ask(commands)
        plain = [reply for i, reply in enumerate(replies) if i == 0 or (i - 1) % 5 < 3]
        if any(isinstance(reply, AccessDenied) for reply in plain):
            return Denied("type, xlen and xinfo|groups")
        facts = StreamFacts(name, {}, [])
        self._check_type(facts, keys.scheduled(), replies[0], "zset")
        places: list[tuple[int, dict[str, Any]]] = []
        for i, level in enumerate(levels):
            kind, length, groups, memory, weighed = replies[1 + 5 * i : 6 + 5 * i]
            self._check_type(facts, keys.level(level), kind, "stream")
            facts.stored[level] = (
                length if kind == b"stream" and isinstance(length, int) else None
            )
            if not isinstance(groups, BrokerError):
                places += [(level, _pairs(row)) for row in groups]
            _weigh(facts, level, memory, weighed)
        probed = (await self._ask([probe(keys, levels)]))[0]
        facts.undeclared = await stored_there(self._ask, keys, levels, probed)
        if not await self._groups(facts, keys, places):
            return Denied("xinfo|consumers, xrange, zrange and hgetall")
        return facts

    async def _groups(
        self, facts: StreamFacts, keys: Keys, places: list[tuple[int, dict[str, Any]]]
    ) -> bool:
        names = sorted({info["name"].decode() for _, info in places})
        straying = Straying(self._broker, keys, list(facts.stored))
        plain: list[Command] = [
            ("ZRANGE", keys.scheduled(), 0, _FIRST, "WITHSCORES"),
            ("HGETALL", keys.config()),
        ]
        scripts: list[Command] = [straying.scheduled()]
        recent = f"{round((self._broker.clock.now() - HOUR) * 1000)}-0"
        for name in names:
            plain += [
                ("TYPE", keys.retry(name)),
                ("TYPE", keys.attempts(name)),
                ("TYPE", keys.dead(name)),
                ("ZRANGE", keys.retry(name), 0, _FIRST, "WITHSCORES"),
            ]
            scripts += [
                _DEAD_FACTS.command((keys.dead(name),), recent, LETTERS),
                straying.rows(name),
            ]
            scripts.append(straying.unreadable(name))
        for level, info in places:
            group = info["name"].decode()
            after = _next(info["last-delivered-id"].decode())
            plain += [
                ("XINFO", "CONSUMERS", keys.level(level), group),
                ("XRANGE", keys.level(level), after, "+", "COUNT", 1),
            ]
            scripts += [straying.pending(group, level), straying.orphans(group, level)]
        replies = await self._ask([*plain, *scripts])
        answers, told = replies[: len(plain)], replies[len(plain) :]
        if any(isinstance(reply, AccessDenied) for reply in answers):
            return False
        self._read(facts, keys, names, answers[: 2 + 4 * len(names)])
        rest = answers[2 + 4 * len(names) :]
        for i, (level, info) in enumerate(places):
            consumers, unread = rest[2 * i : 2 * i + 2]
            if isinstance(consumers, BrokerError) or isinstance(unread, BrokerError):
                continue  # Gone meanwhile.
            since = _time_of(unread[0][0]) if unread else None
            group = info["name"].decode()
            facts.groups.append(
                GroupFacts(group, level, info["pending"], _consumers(consumers), since)
            )
        _read_scripts(facts, names, places, told)
        return True

    def _read(
        self, facts: StreamFacts, keys: Keys, names: list[str], replies: list[Any]
    ) -> None:
        facts.scheduled_due = _first_score(replies[0])
        config = [] if isinstance(replies[1], BrokerError) else replies[1]
        declared = [
            name[6:].decode() for name in config[::2] if name.startswith(b"group:")
        ]
        facts.missing = sorted(set(declared) - set(names))
        for i, name in enumerate(names):
            retry_type, attempts_type, dead_type, retry = replies[2 + 4 * i : 6 + 4 * i]
            self._check_type(facts, keys.retry(name), retry_type, "zset")
            self._check_type(facts, keys.attempts(name), attempts_type, "hash")
            self._check_type(facts, keys.dead(name), dead_type, "stream")
            due = _first_score(retry)
            if due is not None:
                facts.retry_due[name] = due

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """Replies, a refusal in its reply's place.

        Raises:
            BrokerUnavailable: the server went away.
        """
        replies = await self._link.batch(commands)
        for reply in replies:
            if isinstance(reply, BrokerUnavailable):
                raise reply
        return replies

    @staticmethod
    def _check_type(facts: StreamFacts, key: str, reply: Any, wanted: str) -> None:
        kind = (
            wanted if isinstance(reply, (BrokerError, CommandRefused)) else _text(reply)
        )
        if kind not in (wanted, "none"):
            facts.types.append((key, kind, wanted))


def _weigh(facts: StreamFacts, level: int, memory: Any, weighed: Any) -> None:
    if isinstance(memory, AccessDenied):
        facts.denied.add("memory|usage")
    if isinstance(weighed, AccessDenied):
        facts.denied.add(_SCRIPTS)
    if isinstance(memory, int) and not isinstance(weighed, BrokerError) and weighed[0]:
        facts.weights[level] = Weight(memory, weighed[1] / weighed[0])


def _read_scripts(
    facts: StreamFacts,
    names: list[str],
    places: list[tuple[int, dict[str, Any]]],
    told: list[Any],
) -> None:
    if any(isinstance(reply, AccessDenied) for reply in told):
        facts.denied.add(_SCRIPTS)
    # Another refusal is a key of a wrong kind, which is told as such, or a group that is gone meanwhile.
    found = [None if isinstance(reply, BrokerError) else reply for reply in told]
    if found[0]:
        empty, stranded, _, _, odd, example = found[0]
        facts.strays[""] = Strays(
            scheduled_empty=empty, scheduled_stranded=stranded, scheduled_unreadable=odd
        )
        if odd:
            facts.unreadable[""] = [Unreadable("scheduled-fields", odd, example)]
    for i, name in enumerate(names):
        _read_group(facts, name, *found[1 + 3 * i : 4 + 3 * i])
    rest = found[1 + 3 * len(names) :]
    for (level, info), pending, orphans in zip(
        places, rest[::2], rest[1::2], strict=True
    ):
        _read_level(facts, info["name"].decode(), level, pending, orphans)


def _read_group(
    facts: StreamFacts, name: str, dead: Any, rows: Any, unreadable: Any
) -> None:
    if dead and dead[0]:
        count, oldest, newest, recent, since = dead
        came = _time_of(since) if since else 0.0
        facts.dead[name] = DeadFacts(
            count, _time_of(oldest), _time_of(newest), recent, came
        )
    strays = facts.strays.setdefault(name, Strays())
    if rows:
        strays.add(Strays(due_times_stray=rows[0], records_stray=rows[1]))
    if unreadable and unreadable[0]:
        facts.unreadable[name] = read_unreadable(unreadable)


def _read_level(
    facts: StreamFacts, name: str, level: int, pending: Any, orphans: Any
) -> None:
    if pending:
        facts.strays[name].add(
            Strays(payloads_gone=pending[0], due_times_lost=pending[1])
        )
    if orphans and orphans[0]:
        facts.strays[name].add(Strays(orphaned=orphans[0]))
        facts.orphans.setdefault(name, f"{level}|{orphans[1].decode()}")


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def _pairs(row: Sequence[Any]) -> dict[str, Any]:
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}


def _consumers(rows: Sequence[Any]) -> dict[str, tuple[int, float]]:
    found = {
        facts["name"].decode(): (facts["pending"], facts["idle"] / 1000)
        for facts in map(_pairs, rows)
    }
    found.pop(PARKED, None)
    found.pop(WAITING, None)
    return found


def _first_score(reply: Any) -> float | None:
    """The first due time of rows that say when what is due."""
    if isinstance(reply, BrokerError):
        return None
    rows = zip(reply[::2], reply[1::2], strict=True)
    return next(
        (
            at / 1000
            for name, due in rows
            if math.isfinite(at := float(due)) and _MEMBER.fullmatch(name)
        ),
        None,
    )


def _time_of(entry_id: bytes) -> float:
    return int(entry_id.partition(b"-")[0]) / 1000


def _next(entry_id: str) -> str:
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence or 0) + 1}"
