"""A clock that the run moves: of the scripts on the server, of the brokers, and of what waits for a monotonic time.

The server's own clock cannot be moved. Every script reads it by ``TIME`` once, so here each reads how far the run has
travelled besides. What the server itself counts (leases, keys that expire) is aged by ``Clock.travel``.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from streams.broker.admin import workers
from streams.broker.keys import PARKED, WAITING
from streams.broker.server import scripts
from streams.broker.server.connection import Broker
from streams.testing.time_travel import Rehearsing

_TIME = """
local function time_of_the_run()
  local time = redis.call('TIME')
  local ahead = redis.call('GET', string.match(KEYS[1], '^[^:]*') .. ':ahead') or '0'
  return {string.format('%.0f', tonumber(time[1]) + tonumber(ahead)), time[2]}
end
"""
_MODULES = ("consuming.fetcher", "consuming.executor", "middleware.breaker")


class Clock:
    """How far one run has travelled; stands in for the ``ServerClock`` of each of its brokers."""

    def __init__(self, namespace: str) -> None:
        self.ahead = 0.0
        self.key = f"{namespace}:ahead"
        self.dead: dict[str, float] = {}
        """Consumers that were killed, to when."""

    def observe(self, milliseconds: int) -> None:
        """The run knows the time already."""

    def now(self) -> float:
        return time.time() + self.ahead

    async def travel(
        self,
        broker: Broker,
        streams: Iterable[str],
        levels: Iterable[int],
        seconds: int,
        extended: Iterable[str] = (),
    ) -> None:
        """Let time pass. Workers that live renew what they hold, keys that they extend included; the dead do not."""
        self.ahead += seconds
        await broker.control.call("SET", self.key, round(self.ahead))
        for key in extended:
            left = await broker.control.call("PTTL", key)
            if left > 0:
                await broker.control.call("PEXPIRE", key, left + 1000 * seconds)
        await Rehearsing(broker).age_keys(seconds)
        for stream, level in itertools.product(streams, levels):
            await self._age(broker, stream, level, seconds)

    async def _age(self, broker: Broker, stream: str, level: int, seconds: int) -> None:
        key = broker.keys(stream).level(level)
        if not await broker.control.call("EXISTS", key):
            return  # Declared, and no worker started since.
        for group in await broker.control.call("XINFO", "GROUPS", key):
            name = group[group.index(b"name") + 1].decode()
            rows = await broker.control.call("XPENDING", key, name, "-", "+", 1000)
            for entry_id, owner, idle, _ in rows:
                if (
                    owner.decode() in (PARKED, WAITING)
                    or owner.decode() not in self.dead
                ):
                    continue
                if not await broker.control.call("XRANGE", key, entry_id, entry_id):
                    # It was erased, and nothing can age it: as the sweep that comes when its lease is over.
                    await broker.control.call("XACK", key, name, entry_id)
                    attempts = broker.keys(stream).attempts(name)
                    await broker.control.call(
                        "HDEL", attempts, f"{level}|{entry_id.decode()}"
                    )
                    continue
                silent = idle + 1000 * seconds
                await broker.control.call(
                    "XCLAIM", key, name, owner, 0, entry_id, "IDLE", silent, "JUSTID"
                )


class _Now:
    """Which clock counts at this moment."""

    clock: Clock | None = None

    @classmethod
    def monotonic(cls) -> float:
        return time.monotonic() + (cls.clock.ahead if cls.clock else 0.0)


def use(clock: Clock | None) -> None:
    """From now on this clock counts."""
    _Now.clock = clock


def install(patch: pytest.MonkeyPatch) -> None:
    """Let everything that reads a clock read the one of the run."""
    for script in list(scripts.by_sha.values()):
        if "redis.call('TIME')" not in script.text:
            continue
        text = _TIME + script.text.replace("redis.call('TIME')", "time_of_the_run()")
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        patch.setattr(script, "text", text)
        patch.setattr(script, "sha", sha)
        patch.setitem(scripts.by_sha, sha, script)
    moved = SimpleNamespace(
        monotonic=_Now.monotonic, time=time.time, time_ns=time.time_ns
    )
    for module in _MODULES:
        patch.setattr(f"streams.{module}.time", moved)
    patch.setattr(workers, "_worker", _silent(workers._worker))


def _silent(told: Any) -> Any:
    """A consumer that was killed has been silent for as long as the run has travelled since."""

    def worker(
        name: str,
        said: Any,
        consumer: Any,
        lease: float,
        now: float,
    ) -> Any:
        clock = _Now.clock
        if clock is not None and name in clock.dead:
            consumer.silent += clock.ahead - clock.dead[name]
        return told(name, said, consumer, lease, now)

    return worker
