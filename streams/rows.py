"""Streams, groups and levels as operators see them: rows of figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from streams.broker.inspect import StreamStatus
from streams.broker.shards import Away
from streams.pauses import Pause, read_pauses


@dataclass(slots=True)
class LevelRow:
    """One level of one group, or of a stream that nobody consumes (``group`` '').

    Attributes:
        level: the level.
        waiting: entries that nobody of the group has fetched yet.
        processing: entries that a consumer holds.
        retrying: entries that wait for their due time.
        lag: the server's own figure of what is waiting, None where it has none.
        oldest_age: age of the oldest unfinished entry, seconds.
        paused: whether the level is held for the group, by whatever pause.
        added: entries that ever came onto it, by the server's own count; None where it has none.
    """

    level: int
    waiting: int
    processing: int
    retrying: int
    lag: int | None
    oldest_age: float | None
    paused: bool = False
    added: int | None = None


@dataclass(slots=True)
class GroupRow:
    """One group of a stream.

    Attributes:
        group: the group's name; '' for a stream that nobody consumes.
        levels: its levels, the highest first.
        dead: dead letters.
        consumers: consumers that the server knows, silent ones included.
        held: consumer to how many entries it has in hand.
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
    """

    stream: str
    stored: int
    scheduled: int
    groups: list[GroupRow]
    paused: list[Pause] = field(default_factory=list)


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


def stream_row(status: StreamStatus, now: float) -> StreamRow:
    """What the server said of a stream, as a row; ``now`` is its clock."""
    groups, paused = [], read_pauses(status.paused)
    for group in status.groups:
        levels = [
            LevelRow(
                row.level,
                row.waiting,
                row.processing,
                row.retrying,
                row.lag,
                None if row.oldest is None else round(max(0.0, now - row.oldest), 3),
                any(pause.covers(group.group, row.level) for pause in paused),
                row.added,
            )
            for row in sorted(group.levels, key=lambda row: -row.level)
        ]
        held = {name: count for name, (count, _) in group.consumers.items()}
        groups.append(GroupRow(group.group, levels, group.dead, len(group.consumers), held))
    return StreamRow(status.stream, sum(status.stored.values()), status.scheduled, groups, paused)
