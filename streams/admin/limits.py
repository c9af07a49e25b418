"""Limits of a group: the declared ones, those that were set, and the keys that wait."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streams.admin.partitioned import OnGroup, joined, no_group, on_each, truest
from streams.broker.admin.limits import KeyState, LimitStore, stored_rate
from streams.broker.admin.listing import Listing
from streams.common.annotated import holds_to_annotations
from streams.common.arguments import checked_seconds
from streams.errors import NotFound
from streams.policy.limit import Rate, key_text
from streams.quantities import Seconds

_DECLARED = ":declared"
LimitList = list["LimitInfo"]
"""Spelled out here: inside the class below ``list`` is a method."""
GroupNames = list[str]
KeyList = list[KeyState]


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """One limit of a group.

    Attributes:
        name: of the limit.
        declared: as its handler declares it, e.g. ``60/s burst 6``; '' if no worker
            with it has started.
        set: the rate that was set for all its keys; '' if nothing was.
        keys: key to what was set for it alone.
    """

    name: str
    declared: str
    set: str
    keys: dict[str, str]


@holds_to_annotations
class Limits(OnGroup):
    """The limits of one group, on all partitions of its stream, or on one.

    Each partition keeps to a limit by itself: on a stream with four, ``60/s`` for a key
    that is on one of them is 60/s, and for keys that are on all of them 240/s.

    A limit that is set holds for every worker with its next read, outlives restarts, and goes
    before what is declared. Events that wait for the limit are looked at anew, and get
    a time that suits what holds now.

    Args:
        broker: an open broker.
        stream, group: names.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    @property
    def _limiting(self) -> LimitStore:
        return LimitStore(self._broker, self._keys, self.group)

    @on_each(lambda found: _together(found))
    async def list(self) -> LimitList:
        """The limits that are declared or set, by name.

        Raises:
            NotFound: there is no such stream.
        """
        await self._levels()
        found: dict[str, LimitInfo] = {}

        for rule, text in sorted((await self._limiting.rules()).items()):
            name, _, key = rule.removesuffix(_DECLARED).partition("=")
            info = found.setdefault(name, LimitInfo(name, "", "", {}))
            is_set = str(stored_rate(text) or text)
            if key:
                info.keys[key] = is_set
            elif rule.endswith(_DECLARED):
                found[name] = replace(info, declared=text)
            else:
                found[name] = replace(info, set=is_set)

        return [*found.values()]

    async def set(
        self, name: str, rate: str, burst: int | None = None, *, key: object = None
    ) -> str:
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

    async def throttle(self, name: str, key: object, seconds: Seconds) -> float:
        """Let nothing of a key start for ``seconds``, or a ``timedelta``.

        The longest time is a day; 0 ends the throttle.

        Events that wait for the limit are looked at anew. The operator who did it is
        written down.

        Returns:
            Until when (Unix seconds).

        Raises:
            NotFound: there are limits, and none of this name.
        """
        wanted = checked_seconds("seconds", seconds, 0, 86_400)
        await self._check_name(name, or_first=True)

        return await self._throttle(name, key_text(key) or "", wanted)

    @on_each(max)
    async def _throttle(self, name: str, key: str, seconds: float) -> float:
        until = await self._limiting.throttle(name, key, seconds)
        await self._limiting.hasten(name)
        facts = {
            "group": self.group,
            "limit": f"{name}={key}",
            "to": f"{seconds:g} s",
            "by": self._by,
        }

        action = "limit throttled" if seconds else "limit throttle ended"
        await Listing(self._broker, self._keys).write_audit(action=action, **facts)

        return until

    async def waiting(self, limit: int = 20) -> KeyList:
        """The keys that have the longest to wait, at most ``limit``.

        It walks through the keys of the server.
        """
        found = await self._states()

        return heapq.nlargest(
            limit,
            found,
            key=lambda state: max(state.waiting_until, state.throttled_until),
        )

    async def _check_name(self, name: str, *, or_first: bool = False) -> None:
        """Refuse a limit that is not there.

        With ``or_first`` it passes if there is none at all: no worker may have written
        any down yet.
        """
        known = [info.name for info in await self.list()]
        if not known:
            await self._check_group()

        if name not in known and (known or not or_first):
            names = (
                ", ".join(known) or "none yet; a worker writes them down when it starts"
            )
            raise NotFound(
                f"group {self.group!r} of stream {self.stream!r} has no limit "
                f"{name!r}; it has: {names}"
            )

    async def _set(self, name: str, rate: Rate | None, key: object) -> str:
        await self._check_name(name)
        return await self._write(name, rate, key_text(key))

    @on_each(truest)
    async def _write(self, name: str, rate: Rate | None, key: str | None) -> str:
        before = await self._limiting.set(
            name if key is None else f"{name}={key}", rate, self._by
        )
        await self._limiting.hasten(name)

        return str(stored_rate(before) or "")

    @on_each(joined)
    async def _states(self) -> KeyList:
        return [state async for state in self._limiting.states()]

    async def _check_group(self) -> None:
        """Refuse a group that is not there although others are.

        A misspelt group would look like one without limits.
        """
        groups = sorted({*await self._all_groups()})
        if groups and self.group not in groups:
            raise no_group(self.stream, self.group, groups)

    @on_each(joined)
    async def _all_groups(self) -> GroupNames:
        return await self._groups()


def _together(found: Sequence[LimitList]) -> LimitList:
    """The limits of several partitions; differences are told with the partitions."""
    names = dict.fromkeys(info.name for infos in found for info in infos)
    by_partition = [{info.name: info for info in infos} for infos in found]
    together = []

    for name in sorted(names):
        none = LimitInfo(name, "", "", {})
        infos = [known.get(name, none) for known in by_partition]
        keys = dict.fromkeys(key for info in infos for key in info.keys)
        of_keys = {
            key: _differing([info.keys.get(key, "") for info in infos]) for key in keys
        }
        declared = truest([info.declared for info in infos])
        is_set = _differing([info.set for info in infos])
        together.append(LimitInfo(name, declared, is_set, of_keys))

    return together


def _differing(values: Sequence[str]) -> str:
    """One value if all are the same, else each with the partitions that have it."""
    if len(set(values)) == 1:
        return values[0]

    where: dict[str, list[str]] = {}

    for number, value in enumerate(values):
        where.setdefault(value or "as declared", []).append(str(number))

    return ", ".join(
        f"{value} (partition {' '.join(numbers)})" for value, numbers in where.items()
    )
