"""The overview: every stream and group at a glance, shared for two seconds."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.admin.operating import Operating
from streams.admin.partitioned import added
from streams.admin.rows import GroupRow, StreamRow, grouped, sum_of_known
from streams.broker.admin.figures import HOUR, MINUTE, FigureStore
from streams.broker.server.shards import Away, each

FRESH = 2.0
"""Seconds for which one look at the server serves every viewer."""
HEARD = 30.0
"""Seconds without a word after which a worker counts as silent: three of its words are missing."""
_REMEMBERED = 60.0


@dataclass(slots=True)
class GroupView:
    """One group in the overview.

    Attributes:
        row: where its entries stand.
        rate: events done per second, over the last whole minute and the one that runs.
        failing: attempts per second that did not succeed, whether they are tried again
            or died; over the same time.
        incoming: events per second that came onto its levels, since the first look of
            the last minute; None where that was the first, or the server does not
            count.
        hour: its figures of this hour and the last: ``done``, ``retried``, ``dead`` and
            so on.
        busy: handlers of its workers that run, as these said last.
        workers: how many were heard of lately.
    """

    row: GroupRow
    rate: float = 0.0
    failing: float = 0.0
    incoming: float | None = None
    hour: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    workers: int = 0


@dataclass(slots=True)
class StreamView:
    """One stream in the overview."""

    row: StreamRow
    groups: list[GroupView]


class Overview:
    """Looks at every stream, at most every two seconds.

    Args:
        pipeline: open while it is used.

    Attributes:
        looks: how often the server was looked at.
        away: the shards of a cluster that could not be looked at the last time.
    """

    def __init__(self, pipeline: Operating) -> None:
        self._pipeline = pipeline
        self._looking = asyncio.Lock()
        self._seen: tuple[float, list[StreamView]] = (0.0, [])
        self._added: dict[tuple[str, str], deque[tuple[float, int]]] = {}
        self._known: Mapping[str, Sequence[int]] = {}
        self.looks = 0
        self.away: list[Away] = []

    async def overview(self) -> list[StreamView]:
        """Every stream.

        The cost grows with the streams; one look serves all callers within two seconds.
        """
        async with self._looking:
            at, views = self._seen
            if time.monotonic() - at > FRESH or not at:
                survey = await self._pipeline.status().survey(self._known)
                by_name = {row.stream: row for row in survey.rows}
                views, more = await each(
                    self._pipeline.broker,
                    by_name,
                    lambda name: self._view(by_name[name]),
                )

                self._known, self.away = survey.streams, survey.away + more
                there = {
                    (view.row.stream, group.row.group)
                    for view in views
                    for group in view.groups
                }

                self._added = {
                    place: seen for place, seen in self._added.items() if place in there
                }
                self.looks += 1
                self._seen = (time.monotonic(), views)

            return views

    async def stream(self, name: str, partition: int | None = None) -> StreamView:
        """One stream, its partitions together, or one of them.

        Raises:
            NotFound: there is none of that name or number.
        """
        row = await self._pipeline.status().stream(name, partition=partition)
        if not row.partitions:
            return await self._view(row)

        return _together(row, [await self._view(each) for each in row.partitions])

    async def _view(self, row: StreamRow) -> StreamView:
        now = self._pipeline.broker.clock.now()
        groups = []
        for group in row.groups:
            view = GroupView(group)
            if group.group:
                store = FigureStore(
                    self._pipeline.broker,
                    self._pipeline.broker.keys(row.stream),
                    group.group,
                )

                figures, workers = await store.glance(
                    {
                        span: (int(now // span) - 1, int(now // span))
                        for span in (MINUTE, HOUR)
                    }
                )

                lasted = MINUTE + now % MINUTE

                for minute in figures[MINUTE]:
                    view.rate += minute.get("done", 0) / lasted
                    view.failing += (
                        minute.get("retried", 0) + minute.get("dead", 0)
                    ) / lasted

                heard = [
                    said
                    for said in workers.values()
                    if now - float(said.get("at", 0)) < HEARD
                ]

                view.hour = added(figures[HOUR])
                view.workers = len(heard)
                view.busy = sum(int(said.get("busy", 0)) for said in heard)
                view.incoming = self._incoming(row.stream, group)

            groups.append(view)

        return StreamView(row, groups)

    def _incoming(self, stream: str, group: GroupRow) -> float | None:
        """Events per second onto the levels of a group.

        The rate comes from what the server counted at earlier looks.
        """
        count = sum_of_known([level.added for level in group.levels])
        if not group.levels or count is None:
            return None

        seen = self._added.setdefault((stream, group.group), deque(maxlen=64))
        now = time.monotonic()
        if not seen or now - seen[-1][0] >= 1.0:
            seen.append((now, count))

        while len(seen) > 1 and now - seen[0][0] > _REMEMBERED:
            seen.popleft()

        (first, before), (last, after) = seen[0], seen[-1]

        return max(0, after - before) / (last - first) if last > first else None


def grouped_views(views: Sequence[StreamView]) -> list[StreamView]:
    """The views, those of the partitions of a stream together in one."""
    by_name = {view.row.stream: view for view in views}

    return [
        _together(row, [by_name[part.stream] for part in row.partitions])
        if row.partitions
        else by_name[row.stream]
        for row in grouped([view.row for view in views])
    ]


def _together(row: StreamRow, views: Sequence[StreamView]) -> StreamView:
    """The views of the partitions of a stream as one."""
    groups = []
    for group in row.groups:
        parts = [
            each
            for view in views
            for each in view.groups
            if each.row.group == group.group
        ]

        made = GroupView(
            group,
            rate=sum(part.rate for part in parts),
            failing=sum(part.failing for part in parts),
            incoming=sum_of_known([part.incoming for part in parts]),
            hour=added(part.hour for part in parts),
            busy=sum(part.busy for part in parts),
            workers=max((part.workers for part in parts), default=0),
        )

        groups.append(made)

    return StreamView(row, groups)
