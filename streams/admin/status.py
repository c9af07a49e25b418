"""Status: where the entries of streams stand. Read only; each method states its cost."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.admin.dead_letter import DeadLetter
from streams.admin.dead_letters import DeadLetters
from streams.admin.partitioned import (
    Part,
    ask_each,
    joined,
    no_group,
    partitions_of,
    partly,
)
from streams.admin.reason import moment
from streams.admin.rows import (
    GroupRow,
    LevelRow,
    StreamRow,
    Survey,
    stream_row,
    total_row,
)
from streams.broker import Broker, checked_broker
from streams.broker.admin.inspect import FoundEntry, StatusStore
from streams.broker.admin.listing import Listing
from streams.broker.server.shards import Away, away_index, each
from streams.broker.server.stored import pairs
from streams.common.annotated import holds_to_annotations
from streams.common.masking import masked
from streams.errors import (
    AccessDenied,
    BrokerUnavailable,
    EventError,
    GroupMissing,
    InvalidName,
    NotFound,
)
from streams.events.codec import decode
from streams.events.names import member, parse_member
from streams.policy.retry import AttemptRecord

__all__ = [
    "EntryState",
    "GroupRow",
    "LevelRow",
    "Status",
    "StreamRow",
    "Survey",
    "dead_state",
    "entry_state",
]

_SCAN_MOST = 10_000
_ENTRY_ID = re.compile(r"[0-9]{1,15}-[0-9]+")


@dataclass(slots=True)
class EntryState:
    """Where one event stands in one group.

    Attributes:
        stream, group: names; the group of a scheduled event is ''.
        state: scheduled, pending, processing, retrying, dead, done (acknowledged:
            nothing is kept), orphaned (given to a worker, stored, and with none any
            more) or unknown.
        level, entry_id: where it is.
        event_id, type: of the event; '' where it cannot be read.
        due: Unix seconds, for scheduled and retrying.
        consumer: the worker that holds it, for processing.
        silent: seconds since its consumer was last heard of.
        failures, stalls: attempts that raised, and deliveries whose consumer went
            silent.
        errors: the latest errors, oldest first; messages are masked.
        meta: the metadata.
        size: bytes of the body.
        dead_letter: set if it is dead.
        raw: the body's bytes as stored.
    """

    stream: str
    group: str
    state: str
    level: int | None = None
    entry_id: str = ""
    event_id: str = ""
    type: str = ""
    due: float | None = None
    consumer: str = ""
    silent: float | None = None
    failures: int = 0
    stalls: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    dead_letter: DeadLetter | None = None
    raw: bytes = field(default=b"", repr=False)


@holds_to_annotations
class Status:
    """Queries over every stream of a broker.

    Args:
        broker: an open broker.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._inspecting = StatusStore(checked_broker(broker))

    async def streams(self) -> dict[str, list[int]]:
        """Names and levels of the streams. One command."""
        return await self._inspecting.streams()

    async def levels(self, stream: str) -> list[int]:
        """The levels of one stream, none if there is no such stream.

        They are found while the list of streams is away, too.
        """
        return await self._inspecting.levels(stream)

    async def streams_of(
        self, name: str, partition: int | None = None
    ) -> dict[str, list[int]]:
        """The partitions of a stream that has to be there, with their levels.

        A stream that is not spread is its own partition.

        Raises:
            NotFound: there is no such stream, or no partition of that number.
        """
        names = await partitions_of(self._broker, name, partition)
        found = {each: levels for each in names if (levels := await self.levels(each))}

        return found or {name: await self.existing(name)}

    async def existing(self, stream: str) -> list[int]:
        """The levels of a stream that has to be there; as ``levels``.

        Raises:
            NotFound: there is no such stream; the message names those that are.
        """
        return await self._inspecting.existing(stream)

    async def overview(self) -> list[StreamRow]:
        """Every stream with its groups and levels; see ``stream`` for the cost of each.

        Raises:
            BrokerUnavailable: a server that has some of them is away; ``survey`` tells
                of the others.
        """
        return [
            await self._row(name, levels)
            for name, levels in (await self.streams()).items()
        ]

    async def survey(self, known: Mapping[str, Sequence[int]] | None = None) -> Survey:
        """As ``overview``, and of a cluster with shards that are away: what is on the others.

        Args:
            known: streams with their levels, to go by while the list of streams cannot
                be read.

        Raises:
            BrokerUnavailable: there is one server only, and it is away.
        """
        away: list[Away] = []
        streams: Mapping[str, Sequence[int]] = known or {}

        try:
            streams = await self.streams()
        except BrokerUnavailable as error:
            away.append(away_index(error))

        rows, more = await each(
            self._broker, streams, lambda name: self._row(name, streams[name])
        )

        return Survey(rows, away + more, streams)

    async def stream(self, name: str, *, partition: int | None = None) -> StreamRow:
        """One stream: all of its partitions in sum, or one of them.

        5 commands, 2 per level, and 3 per level and group, for each partition;
        independent of how much is stored.

        Raises:
            NotFound: there is no such stream, or no partition of that number.
            PartlyAway: some partitions are away; its ``answer`` is the sum of the
                others.
        """
        names = await partitions_of(self._broker, name, partition)
        if len(names) == 1:
            return await self._row(names[0], await self.existing(names[0]))

        async def row_of(part: Part) -> StreamRow | None:
            levels = await self.levels(part.stream)
            return await self._row(part.stream, levels) if levels else None

        found, away = await ask_each(list(map(Part, names)), row_of)
        rows = [row for row in found if row is not None]
        if not rows and not away:
            await self.existing(name)

        total = total_row(name, rows) if rows else None
        if away:
            raise partly(name, away, total)

        return total or await self._row(name, [])

    async def find(
        self,
        stream: str,
        ident: str,
        group: str = "",
        *,
        depth: int | None = None,
        partition: int | None = None,
    ) -> list[EntryState]:
        """Where an event stands, in each group (or in one).

        Args:
            stream: the stream's name.
            ident: ``LEVEL|ENTRY-ID``, an entry id, or an event id. By event id,
                scheduled events and dead letters are found whatever their number; of
                the stored entries the first 10,000 of each level are searched.
            group: narrows to one group.
            depth: search by event id the first so many entries of each level, and the
                newest so many dead letters.
            partition: the number of one partition; None: all.

        Raises:
            NotFound: the stream, the group, or any trace of the event is missing.
        """
        names = await partitions_of(self._broker, stream, partition)
        answers, away = await ask_each(
            list(map(Part, names)),
            lambda part: self._find(part.stream, ident, group, depth),
        )
        found = joined(answers)
        if away and not found:
            raise partly(stream, away, None)  # It may be there.

        return sorted(found, key=lambda state: state.state == "done")

    async def _find(
        self, stream: str, ident: str, group: str, depth: int | None
    ) -> list[EntryState]:
        levels = await self.existing(stream)
        groups = await self._groups(stream, levels, group)
        # In the order in which an event moves on, schedule, level, dead letters: none
        # slips by between the looks.
        later = await self._inspecting.scheduled(
            stream, ident.partition("|")[2] or ident, levels
        )
        places = await places_of(
            self._inspecting,
            stream,
            ident,
            levels,
            _SCAN_MOST if depth is None else depth,
        )

        states = []

        for name in groups:
            stored = [await self._stored(stream, name, *place) for place in places]
            dead = await self._dead(stream, name, ident, depth)
            ended = {(state.level, state.entry_id) for state in dead}

            for found in stored:
                # An entry that is stored although the group is done with it is there
                # for another group.
                past = (found.level, found.entry_id) in ended or (
                    found.state == "done" and not found.fields
                )
                if found.state != "unknown" and not past:
                    states.append(entry_state(stream, name, found))

            states += dead

        if not states and later is not None:
            states.append(entry_state(stream, "", later))

        if not states:
            states = await self._finished(stream, groups, places)

        if not states:
            states = await self._unserved(
                stream, ident, levels, [] if groups else places
            )

        if not states:
            raise NotFound(await self._gone(stream, ident))

        return states

    async def _unserved(
        self, stream: str, ident: str, levels: list[int], places: list[tuple[int, str]]
    ) -> list[EntryState]:
        """Entries that are stored where no group is, or on a level that is not declared."""
        undeclared = list(await self._inspecting.undeclared(stream, levels))
        more = await places_of(self._inspecting, stream, ident, undeclared)
        states = []

        for level, entry_id in (*places, *more):
            fields = await self._inspecting.entry(stream, level, entry_id)
            if fields is not None:
                found = FoundEntry("pending", level, entry_id, fields=fields)
                states.append(entry_state(stream, "", found))

        return states

    async def _gone(self, stream: str, ident: str) -> str:
        """The sentence for an event of which there is no trace."""
        listing = Listing(self._broker, self._broker.keys(stream))
        with contextlib.suppress(AccessDenied):
            if action := await listing.cancelled((ident,)):
                return f"stream {stream!r} has {ident!r} no more: {told_of(*action)}"

        return (
            f"stream {stream!r} has no trace of {ident!r}: it was never published "
            "here, "
            "or it was handled, and of that nothing is kept"
        )

    async def _dead(
        self, stream: str, group: str, ident: str, depth: int | None
    ) -> list[EntryState]:
        """Dead letters of an event; ``ident`` may be the dead letter's own id, too."""
        letters = DeadLetters(self._broker, stream, group, partition=0)

        return [
            dead_state(stream, group, letter)
            async for letter in (
                letters.iterate() if depth is None else letters.latest(depth)
            )
            if ident
            in (
                letter.id,
                letter.event_id,
                letter.entry_id,
                member(letter.level, letter.entry_id),
            )
        ]

    async def _stored(
        self, stream: str, group: str, level: int, entry_id: str
    ) -> FoundEntry:
        try:
            return await self._inspecting.find(stream, group, level, entry_id)
        except GroupMissing:
            # A group need not be there on every level.
            return FoundEntry("unknown", level, entry_id)

    async def _finished(
        self, stream: str, groups: list[str], places: list[tuple[int, str]]
    ) -> list[EntryState]:
        """Entries that were handled and deleted: their ids are behind what the group has read."""
        states = []
        for name in groups:
            for level, entry_id in places:
                found = await self._stored(stream, name, level, entry_id)
                if found.state == "done" and len(places) == 1:
                    states.append(entry_state(stream, name, found))

        return states

    async def _groups(self, stream: str, levels: list[int], group: str) -> list[str]:
        status = await self._inspecting.stream(stream, levels)
        names = [found.group for found in status.groups]
        if group and group not in names:
            raise no_group(stream, group, names)

        return [group] if group else names

    async def _row(self, name: str, levels: Sequence[int]) -> StreamRow:
        return stream_row(await self._inspecting.stream(name, levels))


def told_of(by: str, at: float) -> str:
    """The cancellation of an event, in words."""
    return f"it was cancelled by {masked(by) or 'somebody'} at {moment(at)}"


async def places_of(
    inspecting: StatusStore,
    stream: str,
    ident: str,
    levels: Sequence[int],
    most: int = _SCAN_MOST,
) -> list[tuple[int, str]]:
    """Level and entry id of each entry that ``ident`` may mean.

    The first ``most`` entries of each level are looked at.
    """
    with contextlib.suppress(InvalidName):
        level, rest = parse_member(ident)
        if rest.replace("-", "").isdigit():
            return [(level, rest)] if level in levels else []

    if _ENTRY_ID.fullmatch(ident):
        return [(level, ident) for level in levels]

    found = []

    for level in levels:
        async for entry_id, fields in inspecting.walk(stream, level, most):
            if pairs(fields).get("id") == ident.encode():
                found.append((level, entry_id))

    return found


def entry_state(stream: str, group: str, found: FoundEntry) -> EntryState:
    """A found entry, with its event read as far as it can be."""
    record = AttemptRecord.from_json(found.record)
    state = EntryState(
        stream,
        group,
        found.state,
        level=found.level,
        entry_id=found.entry_id,
        due=found.due,
        consumer=found.consumer,
        silent=found.silent,
        failures=record.failures,
        stalls=record.stalls,
        errors=record.errors,
    )

    with contextlib.suppress(EventError):
        event = decode(found.fields)
        state.event_id = event.id or member(found.level or 0, found.entry_id)
        state.type = event.type
        state.meta = dict(event.meta)
        state.size = len(event.raw)
        state.raw = event.raw

    return state


def dead_state(stream: str, group: str, letter: DeadLetter) -> EntryState:
    """Where the event of a dead letter stands."""
    return EntryState(
        stream,
        group,
        "dead",
        level=letter.level,
        entry_id=letter.entry_id,
        event_id=letter.event_id,
        type=letter.type,
        failures=letter.failures,
        stalls=letter.stalls,
        errors=letter.errors,
        meta=letter.meta,
        size=letter.size,
        dead_letter=letter,
        raw=dict(letter.fields).get(b"data", b""),
    )
