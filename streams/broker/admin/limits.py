"""The limits of a group, as operators see and set them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

from streams.broker.entries.holding import bring_back
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import pages, real, texts
from streams.policy.limit import Rate

_THROTTLE = Script("throttle")
_SET_LIMIT = Script("set_limit")
_PAGE = 500


class KeyState(NamedTuple):
    """The state of a limit for one key.

    Attributes:
        limit, key: names.
        waiting_until: Unix time (s) of the last reserved start; 0.0 if nothing waits.
        throttled_until: Unix time (s); 0.0 if not throttled.
    """

    limit: str
    key: str
    waiting_until: float
    throttled_until: float


class LimitStore:
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
        """Keep events of this key from starting for ``seconds``; 0 ends it.

        Returns the Unix time (s) of the end.
        """
        keys = (f"{self._prefix}{limit}={key}",)

        return (
            float(await self._link.run(_THROTTLE, keys, round(seconds * 1000))) / 1000
        )

    async def rules(self) -> dict[str, str]:
        """The stored limits: set ones by ``name`` or ``name=key``, others by ``name:declared``."""
        return texts(await self._link.call("HGETALL", self._hash))

    async def set(self, name: str, rate: Rate | None, by: str) -> str:
        """Set the limit ``name`` or ``name=key`` for all workers; None returns to the declared one.

        Returns the limit that was set before, as stored; '' if none was.
        """
        text = "" if rate is None else "{} {}".format(*rule(rate))
        before: bytes = await self._link.run(
            _SET_LIMIT, (self._hash, self._audit), name, text, by, self._group
        )

        return before.decode()

    async def hasten(self, name: str) -> int:
        """Make the entries due that wait for a limit, so that it is judged anew; returns how many.

        Reads every waiting entry of the group.
        """
        return await bring_back(
            self._link,
            self._keys,
            self._group,
            lambda admission: name in admission.limits,
        )

    async def states(self) -> AsyncIterator[KeyState]:
        """The keys that are not idle, in no order. Reads all keys of the server, page by page."""
        pattern = re.sub(r"([*?\[\]^\\])", r"\\\1", self._prefix) + "*"
        options = ("MATCH", pattern, "COUNT", _PAGE)

        async for names in pages(self._link, ("SCAN",), options):
            if not names:
                continue

            states = await self._link.call("MGET", *names)
            for name, state in zip(names, states, strict=True):
                if state is not None:
                    yield self._state(name.decode().removeprefix(self._prefix), state)

    def _state(self, name: str, text: bytes) -> KeyState:
        limit, _, key = name.partition("=")
        parts = [real(part) / 1e6 for part in text.split()]
        if len(parts) != 5:
            # The scripts ignore such a state too.
            return KeyState(
                limit,
                key,
                0.0,
                0.0,
            )

        _, reserved, late, throttled, _ = parts
        now = self._clock.now()
        ends = [at if at > now else 0.0 for at in (max(reserved, late), throttled)]

        return KeyState(limit, key, *ends)


def rule(rate: Rate | None) -> tuple[int, int]:
    """A rate as the scripts take it: microseconds from start to start, and the burst."""
    if rate is None:
        return 0, 1

    return max(1, round(rate.interval * 1e6)), rate.burst


def stored_rate(text: str) -> Rate | None:
    """Read a stored ``rule``; None for one that cannot be read, and for no rate."""
    interval, _, burst = text.partition(" ")
    if not interval.isdigit() or not burst.isdigit() or not int(interval):
        return None

    return Rate(int(interval) / 1e6, int(burst))
