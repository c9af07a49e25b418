"""What operators see and set of limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from streams.broker.entries.holding import bring_back
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import real
from streams.policy.limit import Rate

_THROTTLE = Script("throttle")
_SET_LIMIT = Script("set_limit")
_PAGE = 500


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
    """

    def __init__(self, broker: Broker, keys: Keys, group: str) -> None:
        self._clock = broker.clock
        self._link = broker.control
        self._hash = keys.limits(group)
        self._prefix = keys.limit_prefix(group)
        self._audit = keys.audit()
        self._keys = keys
        self._group = group

    async def throttle(self, limit: str, key: str, seconds: float) -> float:
        """Let nothing of this key start for ``seconds``; 0 ends it. Returns until when (Unix time)."""
        place = f"{self._prefix}{limit}={key}"
        return (
            float(
                await self._link.call(
                    *_THROTTLE.command((place,), round(seconds * 1000))
                )
            )
            / 1000
        )

    async def rules(self) -> dict[str, str]:
        """What is set, by ``name`` or ``name=key``, and what is declared, by ``name:declared``; as stored."""
        reply = await self._link.call("HGETALL", self._hash)
        return {
            reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)
        }

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
        return await bring_back(
            self._link,
            self._keys,
            self._group,
            lambda admission: name in admission.limits,
        )

    async def states(self) -> AsyncIterator[KeyState]:
        """The keys that are not idle, in no order; walks through the server's keys page by page."""
        cursor = b"0"
        pattern = "".join(f"\\{c}" if c in "*?[]^\\" else c for c in self._prefix) + "*"
        while True:
            cursor, names = await self._link.call(
                "SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE
            )
            if names:
                for name, text in zip(
                    names, await self._link.call("MGET", *names), strict=True
                ):
                    if text is not None:
                        yield self._state(name.decode()[len(self._prefix) :], text)
            if cursor == b"0":
                return

    def _state(self, name: str, text: bytes) -> KeyState:
        limit, _, key = name.partition("=")
        parts = [real(part) / 1e6 for part in text.split()]
        # As the scripts read it.
        _, reserved, late, until, _ = parts if len(parts) == 5 else [0.0] * 5
        now = self._clock.now()
        waiting = max(reserved, late)
        return KeyState(
            limit, key, waiting if waiting > now else 0.0, until if until > now else 0.0
        )


def rule(rate: Rate | None) -> tuple[int, int]:
    """As the scripts take a rate: microseconds from start to start, and how many at once."""
    return (0, 1) if rate is None else (max(1, round(rate.interval * 1e6)), rate.burst)


def stored_rate(text: str) -> Rate | None:
    """Undo ``rule`` as it is stored; None if it cannot be read, and for no rate."""
    interval, _, burst = text.partition(" ")
    if not interval.isdigit() or not burst.isdigit() or not int(interval):
        return None
    return Rate(int(interval) / 1e6, int(burst))
