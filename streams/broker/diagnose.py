"""diagnose: facts about the server and its streams, for whoever judges them. Read only.

What the user may not ask is told as ``Denied`` and never fails the rest: managed servers often refuse ``CONFIG``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.broker.connection import Broker
from streams.broker.scripts import Command
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, CommandRefused
from streams.keys import PARKED, Keys


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


@dataclass(slots=True)
class StreamFacts:
    """One stream. ``stored`` has None for a level whose key is missing; ``types`` names keys of a wrong kind."""

    stream: str
    stored: dict[int, int | None]
    types: list[tuple[str, str, str]]
    groups: list[GroupFacts] = field(default_factory=list)
    scheduled_due: float | None = None
    retry_due: dict[str, float] = field(default_factory=dict)
    dead: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Group to the number of dead letters and when the newest one came."""
    missing: list[str] = field(default_factory=list)
    """Groups that are declared and exist on no level."""


class Diagnosing:
    """Questions to a server. The cost of each does not grow with what is stored.

    Args:
        broker: an open broker.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._link = broker.control

    async def info(self) -> dict[str, str] | Denied:
        """What ``INFO`` says. One command."""
        reply = (await self._ask([("INFO",)]))[0]
        if isinstance(reply, BrokerError):
            return Denied("info")
        lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
        return {name: value for name, colon, value in lines if colon}

    async def config(self, *names: str) -> dict[str, str] | Denied:
        """Values of the server's configuration. One command per name."""
        found: dict[str, str] = {}
        for reply in await self._ask([("CONFIG", "GET", name) for name in names]):
            if isinstance(reply, BrokerError):
                return Denied("config|get")
            found |= {reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)}
        return found

    async def skew(self) -> float:
        """Seconds by which the server's clock is ahead of this machine's."""
        before = time.time()
        seconds, micros = await self._link.call("TIME")
        return int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2

    async def stream(self, name: str, levels: Sequence[int]) -> StreamFacts | Denied:
        """One stream: 3 commands per level, 3 more per level and group, 3 per group, in three round trips.

        Keys of a wrong kind are named and not asked further.
        """
        keys = self._broker.keys(name)
        commands: list[Command] = [("TYPE", keys.scheduled())]
        for level in levels:
            key = keys.level(level)
            commands += [("TYPE", key), ("XLEN", key), ("XINFO", "GROUPS", key)]
        replies = await self._ask(commands)
        if any(isinstance(reply, AccessDenied) for reply in replies):
            return Denied("type, xlen and xinfo|groups")
        facts = StreamFacts(name, {}, [])
        self._check_type(facts, keys.scheduled(), replies[0], "zset")
        places: list[tuple[int, dict[str, Any]]] = []
        for i, level in enumerate(levels):
            kind, length, groups = replies[1 + 3 * i : 4 + 3 * i]
            self._check_type(facts, keys.level(level), kind, "stream")
            facts.stored[level] = length if kind == b"stream" and isinstance(length, int) else None
            if not isinstance(groups, BrokerError):
                places += [(level, _pairs(row)) for row in groups]
        if not await self._groups(facts, keys, places):
            return Denied("xinfo|consumers, xrange, zrange and xrevrange")
        return facts

    async def _groups(self, facts: StreamFacts, keys: Keys, places: list[tuple[int, dict[str, Any]]]) -> bool:
        names = sorted({info["name"].decode() for _, info in places})
        commands: list[Command] = [("ZRANGE", keys.scheduled(), 0, 0, "WITHSCORES"), ("HGETALL", keys.config())]
        for name in names:
            commands += [
                ("TYPE", keys.retry(name)),
                ("TYPE", keys.attempts(name)),
                ("TYPE", keys.dead(name)),
                ("ZRANGE", keys.retry(name), 0, 0, "WITHSCORES"),
                ("XLEN", keys.dead(name)),
                ("XREVRANGE", keys.dead(name), "+", "-", "COUNT", 1),
            ]
        for level, info in places:
            after = _next(info["last-delivered-id"].decode())
            commands += [
                ("XINFO", "CONSUMERS", keys.level(level), info["name"]),
                ("XRANGE", keys.level(level), after, "+", "COUNT", 1),
            ]
        replies = await self._ask(commands)
        if any(isinstance(reply, AccessDenied) for reply in replies):
            return False
        facts.scheduled_due = _first_score(replies[0])
        config = [] if isinstance(replies[1], BrokerError) else replies[1]
        declared = [field[6:].decode() for field in config[::2] if field.startswith(b"group:")]
        facts.missing = sorted(set(declared) - set(names))
        for i, name in enumerate(names):
            retry_type, attempts_type, dead_type, retry, length, newest = replies[2 + 6 * i : 8 + 6 * i]
            self._check_type(facts, keys.retry(name), retry_type, "zset")
            self._check_type(facts, keys.attempts(name), attempts_type, "hash")
            self._check_type(facts, keys.dead(name), dead_type, "stream")
            due = _first_score(retry)
            if due is not None:
                facts.retry_due[name] = due
            if not isinstance(newest, BrokerError) and newest:
                facts.dead[name] = (length, _time_of(newest[0][0]))
        rest = replies[2 + 6 * len(names) :]
        for i, (level, info) in enumerate(places):
            consumers, unread = rest[2 * i : 2 * i + 2]
            if isinstance(consumers, BrokerError) or isinstance(unread, BrokerError):
                continue  # Gone meanwhile.
            facts.groups.append(
                GroupFacts(
                    info["name"].decode(),
                    level,
                    info["pending"],
                    _consumers(consumers),
                    _time_of(unread[0][0]) if unread else None,
                )
            )
        return True

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
        kind = wanted if isinstance(reply, (BrokerError, CommandRefused)) else _text(reply)
        if kind not in (wanted, "none"):
            facts.types.append((key, kind, wanted))


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def _pairs(row: Sequence[Any]) -> dict[str, Any]:
    return {row[i].decode(): row[i + 1] for i in range(0, len(row), 2)}


def _consumers(rows: Sequence[Any]) -> dict[str, tuple[int, float]]:
    found = {facts["name"].decode(): (facts["pending"], facts["idle"] / 1000) for facts in map(_pairs, rows)}
    found.pop(PARKED, None)
    return found


def _first_score(reply: Any) -> float | None:
    return float(reply[1]) / 1000 if not isinstance(reply, BrokerError) and reply else None


def _time_of(entry_id: bytes) -> float:
    return int(entry_id.partition(b"-")[0]) / 1000


def _next(entry_id: str) -> str:
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence or 0) + 1}"
