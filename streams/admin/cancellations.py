"""Events that wait for their time, scheduled or for a retry: taken out, or run now.

An operator names such an event by one of its ids. It is looked for where it may wait,
and one step on the server does the one thing to it, or finds that it waits no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import ClassVar, Generic, NamedTuple, TypeVar

from streams.admin.partitioned import OnPartitions, no_group, of_all
from streams.admin.status import EntryState, Status, entry_state
from streams.broker.admin.cancel import MOST, CancelStore
from streams.broker.admin.inspect import StatusStore
from streams.broker.server.stored import parts
from streams.common.annotated import holds_to_annotations
from streams.errors import (
    GroupMissing,
    InvalidName,
    NotCancelled,
    NotFound,
    NotWaiting,
)
from streams.events.names import member, parse_member

E = TypeVar("E", bound=NotWaiting)

Events = Mapping[str, EntryState]
"""Events that wait, by the ids that the caller gave."""

_TRIES = 3


class WaitingPlace(NamedTuple):
    """A group of a stream and a level of it; ``group`` '' stands for scheduled events."""

    stream: str
    group: str
    level: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Outcome of cancelling many, by id.

    Attributes:
        cancelled: the events, as they stood until then.
        refused: why the others were not cancelled.
    """

    cancelled: dict[str, EntryState] = field(default_factory=dict)
    refused: dict[str, NotCancelled | NotFound] = field(default_factory=dict)


class OnWaiting(OnPartitions, Generic[E]):
    """Does one thing to events of one stream that wait for their time.

    They are looked for on all partitions of the stream, or on one.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    _refusal: type[E]
    _instead: ClassVar[Mapping[str, str]]
    """By the state of an event that does not wait: what to do."""

    async def _act(
        self, cancelling: CancelStore, place: WaitingPlace, some: Events
    ) -> list[bool]:
        """Do it to the events of one place.

        False where one waits no more.
        """
        raise NotImplementedError

    async def _each(
        self, ids: Iterable[str], group: str
    ) -> tuple[dict[str, EntryState], dict[str, E | NotFound]]:
        """By id: the events as they stood until it was done, and the refusals."""
        lookups = await self._lookups(group)
        done: dict[str, EntryState] = {}
        refused: dict[str, E | NotFound] = {}

        for some in parts(list(dict.fromkeys(ids)), MOST):
            left = list(some)
            for _ in range(_TRIES):
                # An event may start between the look and the act, fail, and wait again.
                batches = await self._waiting(
                    lookups,
                    left,
                    group,
                    refused,
                )
                for place, events in batches.items():
                    cancelling = lookups[place.stream].cancelling
                    answers = await self._act(cancelling, place, events)
                    done |= dict(compress(events.items(), answers))

                found = chain.from_iterable(batches.values())
                left = [id for id in found if id not in done]
                if not left:
                    break

            for id in some:
                if id not in done and id not in refused:
                    refused[id] = await self._refused(id, group)

        return done, refused

    async def _one(self, id: str, group: str) -> EntryState:
        done, refused = await self._each((id,), group)
        for refusal in refused.values():
            raise refusal

        return done[id]

    async def _waiting(
        self,
        lookups: Mapping[str, Lookup],
        ids: Sequence[str],
        group: str,
        refused: dict[str, E | NotFound],
    ) -> dict[WaitingPlace, dict[str, EntryState]]:
        """The waiting events by place; an id of several events is refused."""
        found: dict[str, list[EntryState]] = {}
        for lookup in lookups.values():
            for id, states in (await lookup.find(ids)).items():
                found.setdefault(id, []).extend(states)

        batches: dict[WaitingPlace, dict[str, EntryState]] = {}

        for id, states in found.items():
            meant = _meant(states, group)
            if unclear := _unclear(id, meant, group):
                refused[id] = self._refusal(id, states[0].state, unclear)
            else:
                state = meant[0]
                place = WaitingPlace(state.stream, state.group, state.level or 0)
                batches.setdefault(place, {})[id] = state

        return batches

    async def _refused(self, id: str, group: str) -> E | NotFound:
        """Why it cannot be done to an event that does not wait."""
        try:
            found = await Status(self._broker).find(
                self.stream, id, group, partition=self._partition
            )
        except NotFound as error:
            return error

        # Of several partitions that one tells which knows most.
        states = [state for state in found if state.stream == found[0].stream]
        where = "; ".join(map(_where, states))
        todo = [self._instead.get(state.state, "try again") for state in states]
        instead = "; ".join(dict.fromkeys(todo))

        return self._refusal(id, states[0].state, f"{id} is {where}: {instead}")

    async def _lookups(self, group: str) -> dict[str, Lookup]:
        """Prepare to look through each partition, in one group or ('') in all.

        Raises:
            NotFound: the stream or the group is missing on all of them.
        """
        found = await of_all(
            await self._parts(),
            lambda part: part._look(group),  # noqa: SLF001 - of this class
        )

        return {lookup.stream: lookup for lookup in found}

    async def _look(self, group: str) -> Lookup:
        levels = await self._levels()
        groups = await self._groups()
        if group and group not in groups:
            raise no_group(self.stream, group, groups)

        return Lookup(
            stream=self.stream,
            groups=[group] if group else groups,
            levels=levels,
            cancelling=CancelStore(self._broker, self._keys, levels),
            inspecting=self._inspecting,
        )


@holds_to_annotations
class Cancellations(OnWaiting[NotCancelled]):
    """Cancels events of one stream that are scheduled, or that wait for a retry in a group.

    They are looked for on all partitions of the stream, or on one.

    A cancelled event is gone, with its attempt record; the audit record has the name
    given in ``by``. Another group that still needs the event keeps it. The server
    decides in one step whether it is cancelled or starts.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    _refusal = NotCancelled
    _instead: ClassVar[Mapping[str, str]] = {
        "pending": (
            "it has not started, and may at any moment; its handler can reject it, "
            "and 'streams pause' gains time"
        ),
        "processing": (
            "its handler runs; if that fails and the event waits for a retry, "
            "it can be cancelled"
        ),
        "dead": "it is a dead letter already; 'streams dead discard' deletes it",
        "done": "it was handled already",
        "orphaned": (
            "no worker has it; 'streams doctor --repair' makes it due, "
            "and then it can be cancelled"
        ),
    }

    async def cancel(self, id: str, group: str = "") -> EntryState:
        """Cancel one event; returns what it was, as it stood until then.

        Args:
            id: an event id, an entry id, ``LEVEL|ENTRY-ID``, or ``LEVEL|EVENT-ID`` of a
                scheduled event.
            group: where it waits for a retry; needed if it does in several.

        Raises:
            NotCancelled: it is pending, processing, dead or done, or the id means
                several; the message says what to do.
            NotFound: the stream, the group, or any trace of the event is missing.
        """
        return await self._one(id, group)

    async def cancel_many(self, ids: Iterable[str], group: str = "") -> Cancellation:
        """Cancel events; one that cannot be does not hold up the others.

        Raises:
            NotFound: the stream or the group is missing.
        """
        return Cancellation(*await self._each(ids, group))

    async def _act(
        self, cancelling: CancelStore, place: WaitingPlace, some: Events
    ) -> list[bool]:
        if not place.group:
            names = [_scheduled_name(id, place.level) for id in some]
            return await cancelling.scheduled(names, self._by)

        entries = [state.entry_id for state in some.values()]

        return await cancelling.retrying(
            place.group,
            place.level,
            entries,
            self._by,
        )


class Impatience(OnWaiting[NotWaiting]):
    """Lets events of one stream run before their time.

    Limits, pauses and the order of keys hold as ever.

    They are looked for on all partitions of the stream, or on one.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    _refusal = NotWaiting
    _instead: ClassVar[Mapping[str, str]] = {
        "pending": (
            "it is due, and starts when it is its turn; "
            "'streams ls' says what is before it"
        ),
        "processing": "its handler runs",
        "dead": "it is a dead letter; 'streams dead replay' puts it back",
        "done": "it was handled already",
        "orphaned": "no worker has it; 'streams doctor --repair' makes it due",
    }

    async def run_now(self, id: str, group: str = "") -> EntryState:
        """Make one event due; returns what it was, as it stood until then.

        Args:
            id: an event id, an entry id, ``LEVEL|ENTRY-ID``, or ``LEVEL|EVENT-ID`` of a
                scheduled event.
            group: where it waits for a retry; needed if it does in several.

        Raises:
            NotWaiting: it is pending, processing, dead or done, or the id means
                several; the message says what to do.
            NotFound: the stream, the group, or any trace of the event is missing.
        """
        return await self._one(id, group)

    async def _act(
        self, cancelling: CancelStore, place: WaitingPlace, some: Events
    ) -> list[bool]:
        answers = []
        for id, state in some.items():
            name = _scheduled_name(state.entry_id if place.group else id, place.level)
            answers.append(await cancelling.run_now(place.group, name, self._by))

        return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One look at one stream; ``levels`` and ``groups`` are those that it has."""

    stream: str
    groups: Sequence[str]
    levels: Sequence[int]
    cancelling: CancelStore
    inspecting: StatusStore

    async def find(self, ids: Sequence[str]) -> dict[str, list[EntryState]]:
        """The events that wait for their time, by id."""
        found = await self._scheduled(ids)
        for group in self.groups:
            for id, state in await self._retrying(ids, group):
                found.setdefault(id, []).append(state)

        return found

    async def _scheduled(self, ids: Sequence[str]) -> dict[str, list[EntryState]]:
        members = {member(level, id): id for id in ids for level in self.levels}
        members |= {id: id for id in ids if "|" in id}
        later = await self.inspecting.scheduled_many(self.stream, list(members))
        found: dict[str, list[EntryState]] = {}

        for name, event in later.items():
            state = entry_state(self.stream, "", event)
            found.setdefault(members[name], []).append(state)

        return found

    async def _retrying(
        self, ids: Sequence[str], group: str
    ) -> list[tuple[str, EntryState]]:
        places = [(id, *place) for id in ids for place in _places(id, self.levels)]
        places += await self.cancelling.find_retrying(group, ids)
        found = []

        for id, level, entry_id in dict.fromkeys(places):
            try:
                entry = await self.inspecting.find(
                    self.stream,
                    group,
                    level,
                    entry_id,
                )
            except (GroupMissing, InvalidName):
                continue

            if entry.state == "retrying":
                found.append((id, entry_state(self.stream, group, entry)))

        return found


def _scheduled_name(id: str, level: int) -> str:
    """The name of a scheduled event in the keys."""
    return id if id.startswith(f"{level}|") else member(level, id)


def _places(id: str, levels: Sequence[int]) -> list[tuple[int, str]]:
    """Level and entry id that an id may name by itself."""
    try:
        level, rest = parse_member(id)
        wanted = [level] if level in levels else []
    except InvalidName:
        rest, wanted = id, list(levels)

    milliseconds, dash, sequence = rest.partition("-")
    is_entry = dash and milliseconds.isdigit() and sequence.isdigit()
    if is_entry and len(milliseconds) <= 15 and len(sequence) <= 19:
        return [(level, rest) for level in wanted]

    return []


def _meant(states: Sequence[EntryState], group: str) -> Sequence[EntryState]:
    """Of the events that an id names: in a group those that wait for a retry there, if any do."""
    retrying = [state for state in states if state.group]

    return retrying if group and retrying else states


def _unclear(id: str, states: Sequence[EntryState], group: str) -> str:
    """Why an id does not say which event is meant; '' if it does."""
    streams = dict.fromkeys(state.stream for state in states)
    if len(streams) > 1:
        return (
            f"{id} means events on {' and '.join(streams)}: say which with --partition, "
            "or partition="
        )

    if len(states) == 1:
        if states[0].group or not group:
            return ""

        return (
            f"{id} is scheduled on {states[0].stream!r} for every group: "
            "do so without naming a group"
        )

    groups = [state.group for state in states]
    if all(groups) and len(set(groups)) == len(groups):
        return (
            f"{id} waits for a retry in several groups ({', '.join(groups)}): "
            "say in which, with --group or group="
        )

    names = ", ".join(map(_name, states))

    return f"{id} means several events: name one of {names}"


def _name(state: EntryState) -> str:
    place = member(state.level or 0, state.entry_id or state.event_id)
    return f"{place} ({state.state})"


def _where(state: EntryState) -> str:
    """The place of an event in words."""
    group = f" in group {state.group}" if state.group else ""
    consumer = f" with {state.consumer}" if state.consumer else ""

    return f"{state.state}{group}{consumer}"
