"""Streams, groups and levels as operators see them: rows of figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from streams.admin.partitioned import added
from streams.admin.pauses import Pause, all_pauses, read_pauses
from streams.broker.admin.inspect import LevelRow as LevelRow
from streams.broker.admin.inspect import StreamStatus
from streams.broker.server.shards import Away
from streams.policy.partitions import base_of, number_of

N = TypeVar("N", int, float)


@dataclass(slots=True)
class GroupRow:
    """One group of a stream.

    Attributes:
        group: the group's name; '' for a stream without consumers.
        levels: its levels, the highest first.
        dead: dead letters.
        consumers: consumers that the server knows, silent ones included.
        held: consumer to the number of its entries.
    """

    group: str
    levels: list[LevelRow]
    dead: int
    consumers: int
    held: dict[str, int] = field(default_factory=dict)

    def total(self, what: str) -> int:
        """Sum of waiting, processing or retrying over the levels."""
        return sum(getattr(level, what) for level in self.levels)


@dataclass(slots=True)
class StreamRow:
    """One stream.

    Attributes:
        stream: the stream's name.
        stored: entries on all levels, whatever their state.
        scheduled: events that are not due yet.
        groups: its groups.
        paused: every pause: who, since when and why.
        partitions: its partitions, each with its own figures; empty where it is not
            spread.
        undeclared: levels that no producer or worker of this package declared, from -10
            to 100, to how many events another program put there; nothing reads them.
    """

    stream: str
    stored: int
    scheduled: int
    groups: list[GroupRow]
    paused: list[Pause] = field(default_factory=list)
    partitions: list[StreamRow] = field(default_factory=list)
    undeclared: dict[int, int] = field(default_factory=dict)


class Survey(NamedTuple):
    """Every stream, as far as it can be told.

    Attributes:
        rows: those whose server answers.
        away: the shards of a cluster that do not, with what is on them.
        streams: all that are known, with their levels.
    """

    rows: list[StreamRow]
    away: list[Away]
    streams: Mapping[str, Sequence[int]]


def stream_row(status: StreamStatus) -> StreamRow:
    """The status of a stream as a row."""
    groups, paused = [], read_pauses(status.paused)
    for group in status.groups:
        levels = sorted(group.levels, key=lambda row: -row.level)
        for row in levels:
            row.paused = any(pause.covers(group.group, row.level) for pause in paused)

        held = {name: count for name, (count, _) in group.consumers.items()}
        groups.append(
            GroupRow(
                group.group,
                levels,
                group.dead,
                len(group.consumers),
                held,
            )
        )

    stored = sum(status.stored.values())

    return StreamRow(
        status.stream,
        stored,
        status.scheduled,
        groups,
        paused,
        undeclared=status.undeclared,
    )


def total_row(stream: str, rows: Sequence[StreamRow]) -> StreamRow:
    """The partitions of a stream as one row: sums, and of what is oldest the oldest."""
    groups: dict[str, list[GroupRow]] = {}
    for row in rows:
        for group in row.groups:
            groups.setdefault(group.group, []).append(group)

    return StreamRow(
        stream,
        sum(row.stored for row in rows),
        sum(row.scheduled for row in rows),
        [_total_group(name, some) for name, some in sorted(groups.items())],
        all_pauses([row.paused for row in rows]),
        list(rows),
        dict(sorted(added(row.undeclared for row in rows).items())),
    )


def grouped(rows: Sequence[StreamRow]) -> list[StreamRow]:
    """The rows; the partitions of a stream are one row.

    That row has them as its ``partitions``.
    """
    parts: dict[str, list[StreamRow]] = {}
    there = {row.stream for row in rows}

    for row in rows:
        base = base_of(row.stream)
        parts.setdefault(base if base in there else row.stream, []).append(row)

    return [
        some[0]
        if len(some) == 1
        else total_row(base, sorted(some, key=lambda row: number_of(row.stream)))
        for base, some in sorted(parts.items())
    ]


def _total_group(name: str, groups: Sequence[GroupRow]) -> GroupRow:
    levels: dict[int, list[LevelRow]] = {}
    for group in groups:
        for level in group.levels:
            levels.setdefault(level.level, []).append(level)

    held = added(group.held for group in groups)

    return GroupRow(
        name,
        [_total_level(level, levels[level]) for level in sorted(levels, reverse=True)],
        sum(group.dead for group in groups),
        len(held),
        held,
    )


def _total_level(level: int, rows: Sequence[LevelRow]) -> LevelRow:
    ages = [row.oldest_age for row in rows if row.oldest_age is not None]
    return LevelRow(
        level,
        sum(row.waiting for row in rows),
        sum(row.processing for row in rows),
        sum(row.retrying for row in rows),
        sum_of_known([row.lag for row in rows]),
        max(ages, default=None),
        all(row.paused for row in rows),
        sum_of_known([row.added for row in rows]),
    )


def sum_of_known(counts: Sequence[N | None]) -> N | None:
    """The sum of counts or rates; unknown, if one of them is."""
    known = [count for count in counts if count is not None]

    return sum(known) if len(known) == len(counts) else None
