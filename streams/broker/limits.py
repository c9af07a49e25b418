"""admit, throttle: who of the fetched may start now, and what operators set about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.connection import Broker
from streams.broker.scripts import Script
from streams.keys import Keys
from streams.limit import Limit, Rate
from streams.retry import AttemptRecord

if TYPE_CHECKING:
    from streams.broker.link import Link

_ADMIT = Script("admit")
_THROTTLE = Script("throttle")
_SET_LIMIT = Script("set_limit")
_HASTEN = Script("hasten")
_DECLARED = ":declared"
_PAGE = 500


class Ask(NamedTuple):
    """One entry's question: its limits with its key under each, and what it has reserved (0 nothing, 1, 2) there."""

    limits: Sequence[tuple[Limit, str, int]]


class Answer(NamedTuple):
    """May it start (``wait`` None), or in how many seconds; then what it reserved, and under which limit."""

    wait: float | None
    limit: str = ""
    reserved: int = 0


class KeyState(NamedTuple):
    """The state of a limit for one key.

    Attributes:
        limit, key: names.
        waiting_until: Unix time (s) at which the last reserved start is; 0.0 if nothing waits.
        throttled_until: Unix time (s); 0.0 if not throttled.
    """

    limit: str
    key: str
    waiting_until: float
    throttled_until: float


class Limiting:
    """The limits of one group.

    Args:
        broker: an open broker.
        keys: of the stream.
        group: its name.
        link: a connection to share; None: one of its own.
    """

    def __init__(self, broker: Broker, keys: Keys, group: str, link: Link | None = None) -> None:
        self._clock = broker.clock
        self._link = link or broker.link()
        self._hash = keys.limits(group)
        self._prefix = keys.limit_prefix(group)
        self._audit = keys.audit()
        self._retry = keys.retry(group)
        self._attempts = keys.attempts(group)
        self._group = group

    async def admit(self, asks: Sequence[Ask]) -> list[Answer]:
        """Who may start now. What may start has taken its part of every limit; what may not has a place reserved."""
        places: dict[str, int] = {}
        numbers: dict[str, int] = {}
        declared: list[str | int] = []
        rows: list[int] = []
        for ask in asks:
            rows.append(len(ask.limits))
            for limit, key, reserved in ask.limits:
                if limit.name not in numbers:
                    numbers[limit.name] = len(numbers) + 1
                    declared += (limit.name, *rule(limit.parsed))
                place = places.setdefault(f"{self._prefix}{limit.name}={key}", len(places) + 2)
                rows += (place, numbers[limit.name], reserved)
        reply = await self._link.call(
            *_ADMIT.command((self._hash, *places), len(self._prefix.encode()), len(numbers), *declared, *rows)
        )
        return [
            Answer(None) if wait < 0 else Answer(wait / 1000, ask.limits[which - 1][0].name, reserved)
            for ask, wait, which, reserved in zip(asks, reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    async def throttle(self, limit: str, key: str, seconds: float) -> float:
        """Let nothing of this key start for ``seconds``; 0 ends it. Returns until when (Unix time)."""
        place = f"{self._prefix}{limit}={key}"
        return float(await self._link.call(*_THROTTLE.command((place,), round(seconds * 1000)))) / 1000

    async def declare(self, limits: Sequence[Limit]) -> None:
        """Write down what the handlers declare, for whoever looks."""
        fields = [part for limit in limits for part in (limit.name + _DECLARED, str(limit.parsed or "no rate"))]
        if fields:
            await self._link.call("HSET", self._hash, *fields)

    async def rules(self) -> dict[str, str]:
        """What is set, by ``name`` or ``name=key``, and what is declared, by ``name:declared``; as stored."""
        reply = await self._link.call("HGETALL", self._hash)
        return {reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)}

    async def set(self, name: str, rate: Rate | None, by: str) -> str:
        """Set the limit ``name``, or ``name=key``, for all workers from now on; None takes back what was set.

        Returns what was set before, as stored; '' if nothing was.
        """
        text = "" if rate is None else "{} {}".format(*rule(rate))
        before: bytes = await self._link.call(
            *_SET_LIMIT.command((self._hash, self._audit), name, text, by, self._group)
        )
        return before.decode()

    async def hasten(self, name: str) -> int:
        """Bring back all that waits for a limit, to be looked at anew; returns how many. Walks through what waits."""
        cursor, found = b"0", 0
        while True:
            cursor, rows = await self._link.call("HSCAN", self._attempts, cursor, "COUNT", _PAGE)
            members = [
                member
                for member, record in zip(rows[::2], rows[1::2], strict=True)
                if b'"reserved"' in record and name in AttemptRecord.from_json(record).reserved
            ]
            if members:
                found += await self._link.call(*_HASTEN.command((self._retry,), *members))
            if cursor == b"0":
                return found

    async def states(self) -> AsyncIterator[KeyState]:
        """The keys that are not idle, in no order; walks through the server's keys page by page."""
        cursor = b"0"
        pattern = "".join(f"\\{c}" if c in "*?[]^\\" else c for c in self._prefix) + "*"
        while True:
            cursor, names = await self._link.call("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
            if names:
                for name, text in zip(names, await self._link.call("MGET", *names), strict=True):
                    if text is not None:
                        yield self._state(name.decode()[len(self._prefix) :], text)
            if cursor == b"0":
                return

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()

    def _state(self, name: str, text: bytes) -> KeyState:
        limit, _, key = name.partition("=")
        _, reserved, late, until, _ = (int(part) / 1e6 for part in text.split())
        now = self._clock.now()
        waiting = max(reserved, late)
        return KeyState(limit, key, waiting if waiting > now else 0.0, until if until > now else 0.0)


def rule(rate: Rate | None) -> tuple[int, int]:
    """As the scripts take a rate: microseconds from start to start, and how many at once."""
    return (0, 1) if rate is None else (max(1, round(rate.interval * 1e6)), rate.burst)


def stored_rate(text: str) -> Rate | None:
    """Undo ``rule`` as it is stored; None if it cannot be read, and for no rate."""
    interval, _, burst = text.partition(" ")
    if not interval.isdigit() or not burst.isdigit() or not int(interval):
        return None
    return Rate(int(interval) / 1e6, int(burst))


__all__: list[Any] = ["Answer", "Ask", "KeyState", "Limiting", "rule", "stored_rate"]
