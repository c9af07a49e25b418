"""What operators see, asked of the server: one function per question, each with a bounded number of commands.

The dashboard, the API and the terminal are views of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.broker.figures import DAY, HOUR, MINUTE, FigureStore
from streams.broker.listing import Listed, Listing
from streams.broker.shards import Away, each
from streams.codec import decode
from streams.dead_letter import DeadLetter
from streams.doctor import Doctor, Finding
from streams.errors import ConfigurationError, EventError, NotFound, StreamsError
from streams.limits import LimitInfo
from streams.ordered_keys import OrderedKey
from streams.overview import Overview, StreamView
from streams.pipeline import Pipeline
from streams.retry import masked
from streams.status import EntryState, dead_state

CHARTS = {"hour": (MINUTE, 60), "day": (HOUR, 24), "quarter": (DAY, 90)}
"""Charts: the span of one column, and how many there are."""
_EXAMINED = 10.0
_DEPTH = 2000
STATES = ("stored", "processing", "retrying", "scheduled")
"""Lists of entries: all that are stored on a level, and those that are with workers, or wait for their time."""


@dataclass(slots=True)
class WorkerView:
    """One worker of one group, as it said last; ``silent`` is seconds since then."""

    stream: str
    group: str
    name: str
    said: Mapping[str, Any]
    silent: float


@dataclass(slots=True)
class Chart:
    """What a group did: ``rows``, the oldest first, each over ``span`` seconds; the first began at ``since``."""

    reach: str
    span: int
    since: int
    rows: list[dict[str, int]]


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
        self._overview = Overview(pipeline)
        self._examining = asyncio.Lock()
        self._examined: tuple[float, list[Finding]] = (0.0, [])

    @property
    def looks(self) -> int:
        """How often the overview was asked of the server."""
        return self._overview.looks

    @property
    def away(self) -> list[Away]:
        """The shards of a cluster that could not be asked at the last look: their streams are missing in it."""
        return self._overview.away

    async def overview(self) -> list[StreamView]:
        """Every stream. Its cost grows with the streams, and is shared by all who look within two seconds."""
        return await self._overview.all()

    async def names(self) -> list[str]:
        """The streams that there are, as far as is known while the shard with their list is away."""
        return [view.row.stream for view in await self.overview()]

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
        return await self._overview.one(name)

    async def chart(self, stream: str, group: str, reach: str = "hour") -> Chart:
        """What a group did in the last hour, day or 90 days. One round trip."""
        span, count = CHARTS[reach]
        last = int(self._now // span)
        rows = await self._figures(stream, group).read(span, range(last - count + 1, last + 1))
        return Chart(reach, span, span * (last - count + 1), rows)

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

    async def letter(self, stream: str, group: str, letter_id: str) -> EntryState:
        """Where the event of a dead letter stands. One command.

        Raises:
            NotFound: there is no such letter (any more).
        """
        return dead_state(stream, group, await self._pipeline.dead_letters(stream, group).show(letter_id))

    async def find(self, stream: str, ident: str) -> list[EntryState]:
        """Where an event stands, in every group; empty if nobody knows it.

        By event id the first 2,000 entries of each level are searched, and the newest 2,000 dead letters.
        """
        try:
            return await self._pipeline.status().find(stream, ident, depth=_DEPTH)
        except (NotFound, EventError, ConfigurationError):
            return []

    async def in_hand(self, stream: str, group: str, consumer: str, most: int = 50) -> list[Item]:
        """What one worker has in hand, with the age of its lease as ``listed.silent``. Two commands per level."""
        listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(stream))
        levels = await self._pipeline.status().levels(stream)
        found: list[Listed] = []
        for level in sorted(levels, reverse=True):
            found += await listing.processing(group, level, "", most - len(found), consumer)
            if len(found) >= most:
                break
        return [_item(row) for row in found]

    async def workers(self) -> list[WorkerView]:
        """Who works, on every group; of shards that are away nothing is told, and they are in ``away``."""
        groups = {view.row.stream: [group.group for group in view.row.groups] for view in await self.overview()}
        found, _ = await each(self._pipeline.broker, groups, lambda stream: self._workers(stream, groups[stream]))
        return [worker for some in found for worker in some]

    async def _workers(self, stream: str, groups: Sequence[str]) -> list[WorkerView]:
        found = []
        for group in filter(None, groups):
            said = await self._figures(stream, group).workers()
            for name, row in sorted(said.items()):
                silent = max(0.0, self._now - float(row.get("at", 0)))
                found.append(WorkerView(stream, group, name, row, silent))
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


def shown_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as it may be shown, as plain JSON types."""
    names = ("id", "reason", "died_at", "level", "entry_id", "event_id", "failures", "stalls", "replays", "size")
    told = {"type": shown(letter.type), "last_error": shown(letter.last_error), "meta": dict(shown_meta(letter.meta))}
    return {name: getattr(letter, name) for name in names} | told
