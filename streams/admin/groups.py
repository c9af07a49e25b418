"""The groups of a stream: declared or there, what each has to do, and giving one up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from streams.admin.partitioned import OnPartitions, no_group, on_each
from streams.broker.admin.dead_letters import DeadLetterStore
from streams.broker.admin.groups import GroupStore
from streams.broker.admin.inspect import GroupStatus
from streams.common.annotated import holds_to_annotations
from streams.errors import GroupInUse
from streams.events.names import checked_name

GroupList = list["GroupInfo"]
"""Spelled out here: inside the class below ``list`` is a method."""

ALIVE = 60.0
"""Seconds for which a silent consumer counts as alive. Workers ask several times a second."""


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """One group of a stream.

    Attributes:
        stream, group: names.
        retention: of the stream: ``work``, ``fanout``, or '' before a worker declared
            it.
        declared: whether events wait for it.
        present: whether the server has it. A declared group that is not there reads
            everything that is stored when its next worker starts.
        start: ``oldest`` or ``new``, where it began; '' if it is not declared.
        since: Unix seconds of its declaration; None if it is not declared.
        waiting, processing, retrying: events, over all levels.
        dead: dead letters.
        consumers: how many consumers the server knows.
        silent: seconds since the latest of them was heard of; None if there is none. Of
            several partitions that one counts which has work and was asked for least.
        heard: seconds since the latest consumer of any partition was heard of.
    """

    stream: str
    group: str
    retention: str
    declared: bool
    present: bool
    start: str = ""
    since: float | None = None
    waiting: int = 0
    processing: int = 0
    retrying: int = 0
    dead: int = 0
    consumers: int = 0
    silent: float | None = None
    heard: float | None = None

    @property
    def dropped(self) -> bool:
        """Whether it was given up; only dead letters are left of it."""
        return not self.declared and not self.present

    @property
    def abandoned(self) -> bool:
        """Whether work waits for it and no consumer asked for any in the last minute."""
        if self.dropped:
            return False

        work = self.waiting or self.processing or self.retrying or not self.present

        return bool(work) and (self.silent is None or self.silent >= ALIVE)


@dataclass(frozen=True, slots=True)
class Drop:
    """Outcome of dropping a group.

    Attributes:
        group: its name.
        dropped: False if it was gone already.
        given_up: events that the group had not finished: waiting, processing and
            retrying.
        trimmed: entries that only it still needed, and that are deleted now.
        dead: dead letters that are kept.
    """

    group: str
    dropped: bool
    given_up: int
    trimmed: int
    dead: int


@holds_to_annotations
class Groups(OnPartitions):
    """The groups of one stream, on all of its partitions, or on one.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    @on_each(lambda found: _summed(found))
    async def list(self) -> GroupList:
        """Every group that is declared or there, by name.

        A group that was dropped and left dead letters is among them.

        4 commands and one per dropped group, 2 per level, 3 per level and group,
        whatever the stream holds.

        Raises:
            NotFound: there is no such stream.
        """
        levels = await self._levels()
        config = await GroupStore(self._broker, self._keys, levels).config()
        status = await self._inspecting.stream(self.stream, levels)
        found = {group.group: group for group in status.groups}
        infos = []

        for name in sorted({*found, *config.groups, *config.dropped}):
            declared, present = name in config.groups, name in found
            work = _work(found[name]) if present else {}
            if not declared and not present:
                store = DeadLetterStore(self._broker, self._keys, name)
                work = {"dead": await store.count()}
                if not work["dead"]:
                    continue

            start, since = config.groups.get(name, ("", None))
            info = GroupInfo(
                self.stream,
                name,
                config.retention,
                declared,
                present,
                start,
                since,
                **work,
            )

            infos.append(info)

        return infos

    async def drop(self, group: str, *, force: bool = False) -> Drop:
        """Give a group up: events wait for it no longer, and those are deleted that only it needed.

        Its pending list, retries, attempt records and pauses go; its dead letters stay,
        to be replayed or discarded. On a stream with retention ``work`` the events stay
        for the group that comes next. Can be repeated: what an interrupted call left is
        trimmed then.

        Args:
            group: its name.
            force: drop it although consumers are alive. A worker that runs such a
                consumer ends with an error.

        Raises:
            GroupInUse: a consumer was heard of within the last minute.
            NotFound: there is no such stream, or no such group and nothing to trim.
        """
        checked_name(group, "group")
        if len(await self._parts()) > 1 and not force:
            # None is dropped where the next would be refused.
            await self._refuse_if_alive(group)

        return await self._drop(group, force=force)

    async def _refuse_if_alive(self, group: str) -> None:
        heard = [
            info.heard
            for info in await self.list()
            if info.group == group and info.heard is not None
        ]

        if heard and min(heard) < ALIVE:
            raise GroupInUse(
                f"group {group!r} of stream {self.stream!r} is in use: a consumer was "
                f"heard of {min(heard):.0f} s ago; "
                "stop its workers and wait a minute, or force it"
            )

    @on_each(
        lambda found: Drop(
            found[0].group,
            any(one.dropped for one in found),
            *(
                sum(getattr(one, name) for one in found)
                for name in ("given_up", "trimmed", "dead")
            ),
        )
    )
    async def _drop(self, group: str, *, force: bool) -> Drop:
        levels = await self._levels()
        dropping = GroupStore(self._broker, self._keys, levels)
        before = {info.group: info for info in await self.list() if not info.dropped}
        known = before.get(group)
        dropped, alive = await dropping.drop(group, self._by, 0 if force else ALIVE)
        if alive:
            raise GroupInUse(
                f"group {group!r} of stream {self.stream!r} is in use by "
                f"{', '.join(alive[:3])}"
                f"{' and others' if len(alive) > 3 else ''}: stop its workers and wait "
                "a minute, or force it"
            )

        trimmed = sum([count async for count in dropping.trim()])
        if not dropped and not trimmed:
            raise no_group(self.stream, group, before)

        unfinished = known.waiting + known.processing + known.retrying if known else 0

        return Drop(group, dropped, unfinished, trimmed, known.dead if known else 0)


def _work(status: GroupStatus) -> dict[str, Any]:
    silences = [silent for _, silent in status.consumers.values()]
    return {
        "waiting": sum(level.waiting for level in status.levels),
        "processing": sum(level.processing for level in status.levels),
        "retrying": sum(level.retrying for level in status.levels),
        "dead": status.dead,
        "consumers": len(silences),
        "silent": min(silences, default=None),
        "heard": min(silences, default=None),
    }


def _summed(found: Sequence[GroupList]) -> GroupList:
    """The groups of several partitions, each once, with what all of them have to do."""
    by_name: dict[str, list[GroupInfo]] = {}
    for infos in found:
        for info in infos:
            by_name.setdefault(info.group, []).append(info)

    return [_sum(infos, len(found)) for _, infos in sorted(by_name.items())]


def _sum(infos: Sequence[GroupInfo], partitions: int) -> GroupInfo:
    counts = {
        name: sum(getattr(info, name) for info in infos)
        for name in ("waiting", "processing", "retrying", "dead", "consumers")
    }

    busy = [
        info for info in infos if info.waiting or info.processing or info.retrying
    ] or infos
    silences = [info.silent for info in busy]
    heard = [info.heard for info in infos if info.heard is not None]

    return replace(
        infos[0],
        declared=any(info.declared for info in infos),
        present=len(infos) == partitions and all(info.present for info in infos),
        silent=None
        if None in silences
        else max(silences, key=lambda silent: silent or 0.0),
        heard=min(heard, default=None),
        **counts,
    )
