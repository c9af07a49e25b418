"""The views of operators, asked of the server.

Each question is one function, with a bounded number of commands.

The dashboard, the API and the terminal are views of this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from streams.admin.dead_letter import DeadLetter
from streams.admin.limits import LimitInfo
from streams.admin.ordered_keys import OrderedKey
from streams.admin.overview import HEARD, Overview, StreamView, grouped_views
from streams.admin.partitioned import added, partitions_of
from streams.admin.reason import Reason
from streams.admin.status import EntryState, dead_state
from streams.broker.admin.figures import DAY, HOUR, MINUTE, FigureStore
from streams.broker.admin.listing import Listed, Listing
from streams.broker.server.shards import each
from streams.common.masking import masked, one_line
from streams.errors import ConfigurationError, EventError, NotFound, StreamsError
from streams.events.codec import decode
from streams.events.names import entry_order, member

CHARTS = {"hour": (MINUTE, 60), "day": (HOUR, 24), "quarter": (DAY, 90)}
"""Charts: the span of one column, and how many there are."""
_FORGOTTEN = 3600.0
"""Seconds of silence after which a worker is shown no more.

Its consumers leave their groups about then, too.
"""
_DEPTH = 2000
_LONGEST_ID = 500
"""An entry's id, with its level or without: milliseconds from 2017 to 2033 and a number.

No phone number has 13 digits and begins like that: those of the country code 1 have 11.
"""
_PLAIN_FACTS = frozenset(
    {
        *(
            "action",
            "group",
            "level",
            "entries",
            "entry",
            "events",
            "event",
            "letter",
            "letters",
        ),
        *("count", "to", "bodies"),
        *(
            "payloads_gone",
            "due_times_lost",
            "due_times_stray",
            "records_stray",
            "due_times_empty",
        ),
        *("rows_unreadable", "orphans"),
    }
)
"""Facts of the audit record that this package writes itself: ids, counts, rates and words."""
STATES = ("stored", "processing", "retrying", "scheduled")
"""Lists of entries.

``stored`` are all of a level; the others are with workers, or wait for their time.
"""


@dataclass(slots=True)
class WorkerView:
    """One worker of one group, as it said last.

    Attributes:
        stream, group, name: of the worker.
        said: its note; see ``docs/wire-format.md``.
        silent: seconds since then. Workers speak every ten seconds.
        state: ``alive``, or ``silent`` after 30 seconds: killed, cut off, or stopped
            with its machine. One that was silent for an hour is left out.
    """

    stream: str
    group: str
    name: str
    said: Mapping[str, Any]
    silent: float
    state: Literal["alive", "silent"] = "alive"


@dataclass(slots=True)
class Chart:
    """The figures of a group.

    ``rows`` are the counts, the oldest first, each over ``span`` seconds. The first row
    began at ``since``.
    """

    reach: str
    span: int
    since: int
    rows: list[dict[str, int]]


@dataclass(slots=True)
class Item:
    """One entry of a list, ready to be shown.

    ``event_id`` and ``type`` are '' where it cannot be read.

    ``runs``: seconds for which its handler runs at least, as its worker wrote down
    lately; None where it did not.
    """

    listed: Listed
    event_id: str
    type: str
    meta: Mapping[str, Any]
    size: int
    runs: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """A page of the entries in one state.

    Attributes:
        state: one of ``STATES``.
        level: of entries that are stored, or with workers.
        after: of those, the id of the last entry that was seen.
        first: of entries that wait for their time, the number of the first one.
        most: so many at most.
    """

    state: str
    level: int
    after: str = ""
    first: int = 0
    most: int = 50


class Queries(Overview):
    """Asks the server, at most every two seconds for the views that all share.

    Args:
        pipeline: open while it is used.

    Attributes:
        looks: how often the overview was asked of the server.
        away: the shards of a cluster that could not be asked at the last look. Their
            streams are missing in it.
    """

    async def grouped(self) -> list[StreamView]:
        """As ``overview``, the partitions of a stream together in one view."""
        return grouped_views(await self.overview())

    async def names(self) -> list[str]:
        """The streams that are known.

        While the shard with their list is away, these are those of the last look.
        """
        return [view.row.stream for view in await self.grouped()]

    async def limits(
        self, stream: str, group: str, partition: int | None = None
    ) -> list[LimitInfo]:
        """The limits of a group, as they are declared and as they were set."""
        limits = self._pipeline.limits(stream, group, partition=partition)
        with suppress(NotFound):
            return await limits.list()

        return []

    async def held(
        self, stream: str, group: str, partition: int | None = None
    ) -> list[OrderedKey]:
        """Keys that wait for an operator, because an event of theirs died; at most 20."""
        keys = self._pipeline.ordered_keys(stream, group, partition=partition)
        with suppress(NotFound):  # It keeps no order.
            return await keys.list(20, state="held")

        return []

    async def chart(
        self, stream: str, group: str, reach: str = "hour", partition: int | None = None
    ) -> Chart:
        """The figures of a group in the last hour, day or 90 days.

        On all partitions or one; one round trip for each.
        """
        span, count = CHARTS[reach]
        last = int(self._now // span)
        names = await partitions_of(self._pipeline.broker, stream, partition)
        found = [
            await self._figures(name, group).read(
                span, range(last - count + 1, last + 1)
            )
            for name in names
        ]

        rows = [added(parts) for parts in zip(*found, strict=True)]

        return Chart(reach, span, span * (last - count + 1), rows)

    async def items(self, stream: str, group: str, page: EntryPage) -> list[Item]:
        """The entries of a page."""
        listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(stream))
        runs: Mapping[str, float] | None = None
        if page.state == "scheduled":
            found = await listing.scheduled(page.first, page.most)
        elif page.state == "retrying":
            found = await listing.retrying(group, page.first, page.most)
        elif page.state == "processing":
            found = await listing.processing(group, page.level, page.after, page.most)
            runs = await self._runs(stream, group)
        else:
            found = await listing.stored(page.level, page.after, page.most)

        return [_item(row, runs) for row in found]

    async def letter(
        self, stream: str, group: str, letter_id: str, partition: int | None = None
    ) -> EntryState:
        """Where the event of a dead letter stands. One command, one more for each partition.

        Raises:
            NotFound: there is no such dead letter (any more).
        """
        letter = await self._pipeline.dead_letters(
            stream, group, partition=partition
        ).show(letter_id)

        return dead_state(letter.stream, group, letter)

    async def find(
        self, stream: str, ident: str, partition: int | None = None
    ) -> list[EntryState]:
        """Where an event stands, in every group; empty if it is unknown.

        By event id the first 2,000 entries of each level are searched, and the newest
        2,000 dead letters.
        """
        try:
            return await self._pipeline.status().find(
                stream, ident, depth=_DEPTH, partition=partition
            )
        except (NotFound, EventError, ConfigurationError):
            return []

    async def why(
        self, stream: str, event: str, partition: int | None = None
    ) -> dict[tuple[str, str], Reason]:
        """Why an event waits, by stream and group; empty if it is not known.

        A partition has its own name as a stream.
        """
        try:
            found = await self._pipeline.why(stream, event, partition=partition)
        except (NotFound, EventError, ConfigurationError):
            return {}

        return {(reason.stream, reason.group): reason for reason in found.reasons}

    async def in_hand(
        self,
        stream: str,
        group: str,
        consumer: str,
        most: int = 50,
        *,
        partition: int | None = None,
    ) -> list[Item]:
        """The entries that one worker holds, the longest run first. Two commands per level and one.

        Of a stream with partitions: on each, where the worker has the same name or that
        of a later start of its own.
        """
        found: list[Item] = []
        status = self._pipeline.status()
        for name, levels in (await status.streams_of(stream, partition)).items():
            listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(name))
            runs = await self._runs(name, group, consumer)
            for level in sorted(levels, reverse=True):
                if len(found) < most:
                    rows = await listing.processing(
                        group, level, "", most - len(found), consumer
                    )
                    found += [_item(row, runs) for row in rows]

        return sorted(found, key=lambda item: -(item.runs or 0.0))

    async def _runs(
        self, stream: str, group: str, consumer: str = ""
    ) -> dict[str, float]:
        """Seconds for which each event runs at least, by ``level|entry id``.

        Workers wrote them down. One command.
        """
        said = await self._figures(stream, group).workers()
        rows = [row for name, row in said.items() if consumer in ("", name)]

        return {
            place: max(0.0, self._now - since)
            for row in rows
            for place, since in row.get("runs", {}).items()
        }

    async def workers(self) -> list[WorkerView]:
        """The workers of every group.

        Of shards that are away nothing is told, and they are in ``away``.

        Those that went without a word are among them for an hour, the living first.
        """
        groups = {
            view.row.stream: [group.group for group in view.row.groups]
            for view in await self.overview()
        }

        found, _ = await each(
            self._pipeline.broker,
            groups,
            lambda stream: self._workers(stream, groups[stream]),
        )

        return [worker for some in found for worker in some]

    async def _workers(self, stream: str, groups: Sequence[str]) -> list[WorkerView]:
        found = []
        for group in filter(None, groups):
            found += await self.workers_of(stream, group)

        return found

    async def workers_of(self, stream: str, group: str) -> list[WorkerView]:
        """The same of one group. One command."""
        found = []
        for name, row in sorted((await self._figures(stream, group).workers()).items()):
            silent = max(0.0, self._now - float(row.get("at", 0)))
            state: Literal["alive", "silent"] = "alive" if silent < HEARD else "silent"
            if silent < _FORGOTTEN:
                found.append(WorkerView(stream, group, name, row, silent, state))

        return sorted(found, key=lambda worker: worker.state)

    async def audit(
        self, stream: str, before: str, most: int, partition: int | None = None
    ) -> list[tuple[str, dict[str, str]]]:
        """The audit record of a stream, the latest row first.

        ``partition`` says where, if it has several.

        Rows of several partitions with the same id are not parted: then there are a few
        more.
        """
        broker = self._pipeline.broker
        names = await partitions_of(broker, stream, partition)
        pages = [
            await Listing(broker, broker.keys(name)).audit(before, most)
            for name in names
        ]

        if len(pages) == 1:
            return pages[0]

        rows = [
            (ident, facts | {"partition": str(n)})
            for n, page in enumerate(pages)
            for ident, facts in page
        ]

        rows.sort(key=lambda row: entry_order(row[0]), reverse=True)
        last = rows[most - 1][0] if len(rows) > most else ""

        return [
            row for row in rows if not last or entry_order(row[0]) >= entry_order(last)
        ]

    @property
    def _now(self) -> float:
        return self._pipeline.broker.clock.now()

    def _figures(self, stream: str, group: str) -> FigureStore:
        return FigureStore(
            self._pipeline.broker, self._pipeline.broker.keys(stream), group
        )


def _item(listed: Listed, runs: Mapping[str, float] | None = None) -> Item:
    place = member(listed.level, listed.place)
    since = (runs or {}).get(place)
    try:
        event = decode(listed.fields)
    except StreamsError:
        return Item(listed, "", "", {}, sum(map(len, listed.fields)), since)

    return Item(
        listed, event.id or place, event.type, event.meta, len(event.raw), since
    )


def shown(value: Any) -> str:
    """A text as it may be shown to any viewer."""
    return masked(value if isinstance(value, str) else str(value))


def ident(value: Any) -> str:
    """A name or a count of events, entries or dead letters: shown as it is, in one printable line.

    An id that is masked cannot be looked for, and of two one cannot tell which is
    which.
    """
    return one_line(str(value), _LONGEST_ID)


def shown_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """A row of the audit record as it may be shown.

    Ids, counts and rates are as they are; texts of people are masked.
    """
    return {
        shown(name): ident(value) if name in _PLAIN_FACTS else shown(value)
        for name, value in facts.items()
    }


def shown_meta(meta: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Metadata as they may be shown."""
    return [(name, shown(value)) for name, value in sorted(meta.items())]


def sign_of(text: str) -> str:
    """The sign of a text in a form, where the text itself must not be on the page."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def shown_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as it may be shown, as plain JSON types."""
    names = (
        "id stream reason died_at level entry_id event_id failures stalls replays size"
    )
    told = {
        "type": shown(letter.type),
        "last_error": shown(letter.last_error),
        "meta": dict(shown_meta(letter.meta)),
    }

    return {name: getattr(letter, name) for name in names.split()} | told
