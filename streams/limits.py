"""Limits of a group: what is declared, what is set, and who waits."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from streams.broker import Broker
from streams.broker.inspect import Inspecting
from streams.broker.limits import KeyState, Limiting, stored_rate
from streams.errors import NotFound
from streams.keys import checked_name
from streams.limit import Rate, key_text

_DECLARED = ":declared"
LimitList = list["LimitInfo"]
"""Spelled out here: inside the class below ``list`` is a method."""
KeyList = list[KeyState]


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """One limit of a group.

    Attributes:
        name: of the limit.
        declared: as its handler declares it, e.g. ``60/s burst 6``; '' if no worker with it has started.
        set: what was set for all its keys; '' if nothing was.
        keys: key to what was set for it alone.
    """

    name: str
    declared: str
    set: str
    keys: dict[str, str]


class Limits:
    """The limits of one group.

    What is set holds for every worker with its next read, outlives restarts, and goes before what is declared. Events
    that wait for the limit are looked at anew, and get a time that suits what holds now.

    Args:
        broker: an open broker.
        stream, group: names.
        by: who acts, for the audit record.
    """

    def __init__(self, broker: Broker, stream: str, group: str, *, by: str = "") -> None:
        keys = broker.keys(stream)
        self.stream = keys.stream
        self.group = checked_name(group, "group")
        self._by = by or "unknown"
        self._inspecting = Inspecting(broker)
        self._limiting = Limiting(broker, keys, self.group)

    async def list(self) -> LimitList:
        """The limits that are declared or set, by name.

        Raises:
            NotFound: there is no such stream.
        """
        await self._check()
        found: dict[str, LimitInfo] = {}
        for field, text in sorted((await self._limiting.rules()).items()):
            name, _, key = field.removesuffix(_DECLARED).partition("=")
            info = found.setdefault(name, LimitInfo(name, "", "", {}))
            if field.endswith(_DECLARED) and not key:
                found[name] = LimitInfo(name, text, info.set, info.keys)
            elif key:
                info.keys[key] = str(stored_rate(text) or text)
            else:
                found[name] = LimitInfo(name, info.declared, str(stored_rate(text) or text), info.keys)
        return [*found.values()]

    async def set(self, name: str, rate: str, burst: int | None = None, *, key: object = None) -> str:
        """Set a limit, for all its keys or for one; returns what was set before, '' for nothing.

        Args:
            name: of a limit that is declared.
            rate: as in ``Limit``.
            burst: as in ``Limit``.
            key: of the events, as the limit makes it; several parts as a tuple.

        Raises:
            ConfigurationError: the rate cannot be read.
            NotFound: there is no such limit.
        """
        wanted = Rate.parse(rate, burst)
        return await self._set(name, wanted, key)

    async def reset(self, name: str, *, key: object = None) -> str:
        """Back to what is declared; returns what was set, '' if nothing was.

        Raises:
            NotFound: there is no such limit.
        """
        return await self._set(name, None, key)

    async def throttle(self, name: str, key: object, seconds: float) -> float:
        """Let nothing of a key start for ``seconds``; 0 ends it. Returns until when (Unix seconds)."""
        return await self._limiting.throttle(name, key_text(key) or "", seconds)

    async def waiting(self, limit: int = 20) -> KeyList:
        """The keys that have the longest to wait, at most ``limit``. Walks through the keys of the server."""
        found = [state async for state in self._limiting.states()]
        return heapq.nlargest(limit, found, key=lambda state: max(state.waiting_until, state.throttled_until))

    async def _set(self, name: str, rate: Rate | None, key: object) -> str:
        known = [info.name for info in await self.list()]
        if name not in known:
            names = ", ".join(known) or "none yet; a worker writes them down when it starts"
            raise NotFound(f"group {self.group!r} of stream {self.stream!r} has no limit {name!r}; it has: {names}")
        text = key_text(key)
        before = await self._limiting.set(name if text is None else f"{name}={text}", rate, self._by)
        await self._limiting.hasten(name)
        return str(stored_rate(before) or "")

    async def _check(self) -> None:
        await self._inspecting.existing(self.stream)
