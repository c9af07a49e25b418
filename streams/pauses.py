"""Pauses: hold back a stream, a group or a level, and let it go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from streams.broker import Broker
from streams.broker.inspect import Inspecting
from streams.broker.pauses import PauseStore, Stored
from streams.codec import parse_json
from streams.errors import ConfigurationError, EventError, NotFound
from streams.keys import checked_name, scope

_MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause.

    Attributes:
        scope: what is held: ``stream``, ``group=billing``, ``level=5`` or ``group=billing,level=5``.
        group: '' for every group.
        level: None for every level.
        by: who paused it.
        at: since when; Unix seconds, the server's clock.
        reason: why, as given.
    """

    scope: str
    group: str
    level: int | None
    by: str
    at: float
    reason: str

    def covers(self, group: str, level: int) -> bool:
        """Whether entries of this group on this level are held by it."""
        return self.scope in (scope(), scope(group), scope(level=level), scope(group, level))


PauseList = list[Pause]


class Pausing(NamedTuple):
    """Outcome of a pause: what stands now, and whether it is new or stood already."""

    pause: Pause
    new: bool


@dataclass(frozen=True, slots=True)
class Resumption:
    """Outcome of a resume: the pauses that it ended, and those of the stream that go on."""

    resumed: PauseList
    remaining: PauseList


class Pauses:
    """The pauses of one stream.

    What is paused is held, not dropped: it stays on its stream or in its retry, no attempt is burnt, and running
    handlers finish. Workers hold within half a second, whatever they do at the moment; publishing goes on.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: who acts, for the audit record.
    """

    def __init__(self, broker: Broker, stream: str, *, by: str = "") -> None:
        keys = broker.keys(stream)
        self.stream = keys.stream
        self._by = by or "unknown"
        self._address = broker.address
        self._inspecting = Inspecting(broker)
        self._store = PauseStore(broker, keys)

    async def pause(self, *, group: str = "", level: int | None = None, reason: str = "") -> Pausing:
        """Hold the stream, or a group or a level of it, or a level of one group.

        What is paused already stays as it was, with its name and reason.

        Raises:
            NotFound: there is no such stream, group or level; the message names those that are.
            ConfigurationError: the reason is longer than 500 characters.
        """
        if len(reason) > _MOST_REASON:
            raise ConfigurationError(f"reason: at most {_MOST_REASON} characters, not {len(reason)}")
        await self._check(group, level)
        where = scope(group, level)
        new, value = await self._store.pause(where, self._by, reason)
        return Pausing(read_pause((where, value)), new)

    async def resume(self, *, group: str = "", level: int | None = None) -> Resumption:
        """End the pause of exactly this scope; those of other scopes go on and are named in the outcome.

        Nothing happens if it is not paused.

        Raises:
            NotFound: it is not paused, and there is no such stream, group or level.
        """
        outcome = _resumption(*await self._store.resume((scope(group, level),), self._by))
        if not outcome.resumed:
            await self._check(group, level)
        return outcome

    async def resume_all(self) -> Resumption:
        """End every pause of the stream.

        Raises:
            NotFound: nothing is paused, and there is no such stream.
        """
        outcome = _resumption(*await self._store.resume((), self._by))
        if not outcome.resumed:
            await self._check("", None)
        return outcome

    async def list(self) -> PauseList:
        """Every pause of the stream, in the order of their scopes. One command."""
        return read_pauses(await self._store.all())

    async def _check(self, group: str, level: int | None) -> None:
        streams = await self._inspecting.streams()
        levels = streams.get(self.stream)
        if levels is None:
            raise NotFound(
                f"there is no stream {self.stream!r} on {self._address}; there are: {', '.join(streams) or 'none'}. "
                "A stream exists once something was published on it or a worker serves it"
            )
        if level is not None and level not in levels:
            raise NotFound(
                f"stream {self.stream!r} has no level {level!r}; it has: {', '.join(map(str, reversed(levels)))}"
            )
        if group:
            checked_name(group, "group")
            names = [found.group for found in (await self._inspecting.stream(self.stream, levels)).groups]
            if group not in names:
                raise NotFound(
                    f"stream {self.stream!r} has no group {group!r}; it has: {', '.join(names) or 'none'}. "
                    "A group exists once a worker served it"
                )


def read_pauses(stored: Iterable[Stored]) -> PauseList:
    """Pauses as stored, read."""
    return [read_pause(row) for row in stored]


def read_pause(stored: Stored) -> Pause:
    """One pause as stored. One that another program wrote, in words that are not ours, keeps its scope as text."""
    where, value = stored
    parts = dict(part.partition("=")[::2] for part in where.split(","))
    level = parts.get("level", "")
    try:
        facts: Any = parse_json(value, 10, "pause")
        at = float(facts["at"])
    except (EventError, LookupError, TypeError, ValueError):
        facts, at = {}, 0.0
    return Pause(
        where,
        parts.get("group", ""),
        int(level) if level.lstrip("-").isdigit() and len(level) <= 20 else None,
        str(facts.get("by", "")),
        at,
        str(facts.get("reason", "")),
    )


def _resumption(ended: Iterable[Stored], others: Iterable[Stored]) -> Resumption:
    return Resumption(read_pauses(ended), read_pauses(others))
