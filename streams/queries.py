"""What operators see, asked of the server: one function per question, each with a bounded number of commands.

The dashboard, the API and the terminal are views of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.broker.figures import HOUR, MINUTE, FigureStore
from streams.broker.listing import Listed, Listing
from streams.codec import decode
from streams.doctor import Doctor, Finding
from streams.errors import ConfigurationError, EventError, NotFound, StreamsError
from streams.limits import LimitInfo
from streams.ordered_keys import OrderedKey
from streams.pipeline import Pipeline
from streams.retry import masked
from streams.status import EntryState, GroupRow, StreamRow

FRESH = 2.0
"""Seconds for which one look at the server serves every viewer."""
_CHART = 60
_EXAMINED = 10.0
STATES = ("stored", "processing", "retrying", "scheduled")
"""Lists of entries: all that are stored on a level, and those that are with workers, or wait for their time."""


@dataclass(slots=True)
class GroupView:
    """One group in the overview.

    Attributes:
        row: where its entries stand.
        rate: events done per second, over the last whole minute and the one that runs.
        hour: what it did in this hour and the last: ``done``, ``retried``, ``dead`` and so on.
        busy: handlers of its workers that run, as these said last.
        workers: how many were heard of lately.
    """

    row: GroupRow
    rate: float = 0.0
    hour: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    workers: int = 0


@dataclass(slots=True)
class StreamView:
    """One stream in the overview."""

    row: StreamRow
    groups: list[GroupView]


@dataclass(slots=True)
class WorkerView:
    """One worker of one group, as it said last; ``silent`` is seconds since then."""

    stream: str
    group: str
    name: str
    said: Mapping[str, Any]
    silent: float


@dataclass(slots=True)
class Item:
    """One entry of a list, ready to be shown: ``event_id`` and ``type`` are '' where it cannot be read."""

    listed: Listed
    event_id: str
    type: str
    meta: Mapping[str, Any]
    size: int


class Queries:
    """Asks the server, at most every two seconds for what everybody sees.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._looking = asyncio.Lock()
        self._seen: tuple[float, list[StreamView]] = (0.0, [])
        self._examining = asyncio.Lock()
        self._examined: tuple[float, list[Finding]] = (0.0, [])
        self.looks = 0

    async def overview(self) -> list[StreamView]:
        """Every stream. Its cost grows with the streams, and is shared by all who look within two seconds."""
        async with self._looking:
            at, views = self._seen
            if time.monotonic() - at > FRESH or not at:
                views = [await self._view(row) for row in await self._pipeline.status().overview()]
                self.looks += 1
                self._seen = (time.monotonic(), views)
            return views

    async def findings(self) -> list[Finding]:
        """What the doctor finds, the worst first; looked for at most every ten seconds, whoever asks."""
        async with self._examining:
            at, found = self._examined
            if time.monotonic() - at > _EXAMINED or not at:
                found = await Doctor(self._pipeline.broker, role="operator").examine()
                self._examined = (time.monotonic(), found)
            return found

    async def limits(self, stream: str, group: str) -> list[LimitInfo]:
        """The limits of a group, as they are declared and as they were set."""
        try:
            return list(await self._pipeline.limits(stream, group).list())
        except NotFound:
            return []

    async def held(self, stream: str, group: str) -> list[OrderedKey]:
        """Keys that wait for an operator, because an event of theirs died; at most 20."""
        try:
            return list(await self._pipeline.ordered_keys(stream, group).list(20, state="held"))
        except NotFound:  # It keeps no order.
            return []

    async def stream(self, name: str) -> StreamView:
        """One stream.

        Raises:
            NotFound: there is none of that name.
        """
        return await self._view(await self._pipeline.status().stream(name))

    async def chart(self, stream: str, group: str) -> list[dict[str, int]]:
        """What a group did in each of the last 60 minutes, the oldest first. One round trip."""
        last = int(self._now // MINUTE)
        return await self._figures(stream, group).read(MINUTE, range(last - _CHART + 1, last + 1))

    async def items(  # noqa: PLR0913 - what a page is asked for
        self, stream: str, group: str, state: str, level: int, *, after: str = "", first: int = 0, most: int = 50
    ) -> list[Item]:
        """A page of entries in one state: by ``after`` (entry id) where they stand in a level, else by ``first``."""
        listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(stream))
        if state == "scheduled":
            found = await listing.scheduled(first, most)
        elif state == "retrying":
            found = await listing.retrying(group, first, most)
        elif state == "processing":
            found = [row for row in await listing.processing(group, level, after, most) if row.consumer]
        else:
            found = await listing.stored(level, after, most)
        return [_item(row) for row in found]

    async def find(self, stream: str, ident: str) -> list[EntryState]:
        """Where an event stands, in every group; empty if nobody knows it."""
        try:
            return await self._pipeline.status().find(stream, ident)
        except (NotFound, EventError, ConfigurationError):
            return []

    async def search(self, ident: str) -> list[EntryState]:
        """An event on every stream, by its id or entry id."""
        found: list[EntryState] = []
        for name in await self._pipeline.status().streams():
            found += [state for state in await self.find(name, ident) if state.state != "done"]
        return found

    async def workers(self) -> list[WorkerView]:
        """Who works, on every group."""
        found = []
        for view in await self.overview():
            for group in view.row.groups:
                if group.group:
                    said = await self._figures(view.row.stream, group.group).workers()
                    for name, row in sorted(said.items()):
                        silent = max(0.0, self._now - float(row.get("at", 0)))
                        found.append(WorkerView(view.row.stream, group.group, name, row, silent))
        return found

    async def audit(self, stream: str, before: str, most: int) -> list[tuple[str, dict[str, str]]]:
        """What operators did on a stream, the latest first."""
        listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(stream))
        return await listing.audit(before, most)

    @property
    def _now(self) -> float:
        return self._pipeline.broker.clock.now()

    def _figures(self, stream: str, group: str) -> FigureStore:
        return FigureStore(self._pipeline.broker, self._pipeline.broker.keys(stream), group)

    async def _view(self, row: StreamRow) -> StreamView:
        groups = []
        for group in row.groups:
            view = GroupView(group)
            if group.group:
                store, now = self._figures(row.stream, group.group), self._now
                minutes = await store.read(MINUTE, (int(now // MINUTE) - 1, int(now // MINUTE)))
                view.rate = sum(minute.get("done", 0) for minute in minutes) / (MINUTE + now % MINUTE)
                for hour in await store.read(HOUR, (int(now // HOUR) - 1, int(now // HOUR))):
                    for name, count in hour.items():
                        view.hour[name] = view.hour.get(name, 0) + count
                heard = [said for said in (await store.workers()).values() if now - float(said.get("at", 0)) < MINUTE]
                view.workers, view.busy = len(heard), sum(int(said.get("busy", 0)) for said in heard)
            groups.append(view)
        return StreamView(row, groups)


def _item(listed: Listed) -> Item:
    try:
        event = decode(listed.fields)
    except StreamsError:
        return Item(listed, "", "", {}, sum(map(len, listed.fields)))
    return Item(listed, event.id or f"{listed.level}|{listed.place}", event.type, event.meta, len(event.raw))


def shown(value: Any) -> str:
    """A value of an event as it may be shown to anybody: numbers that could be somebody's are masked."""
    return masked(value if isinstance(value, str) else str(value))


def shown_meta(meta: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Metadata as they may be shown."""
    return [(name, shown(value)) for name, value in sorted(meta.items())]


def sign_of(text: str) -> str:
    """What stands for a text in a form, where the text itself must not be on the page."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]
