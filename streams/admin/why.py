"""Why: the reason for which events wait. Reads, and never writes."""

from __future__ import annotations

import contextlib
from asyncio import sleep
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, TypedDict

from streams.admin.dead_letters import DeadLetters
from streams.admin.partitioned import Part, no_group, of_all, partitions_of
from streams.admin.reason import PATIENCE, Case, Reason, event_id, ident, moment
from streams.admin.reasons import head_of, judge
from streams.admin.status import EntryState, Status, dead_state, places_of, told_of
from streams.broker import Broker
from streams.broker.admin.inspect import FoundEntry, StatusStore
from streams.broker.admin.listing import Listing
from streams.broker.admin.oldest import Oldest
from streams.broker.admin.replies import GroupReply
from streams.broker.admin.wait_facts import GroupState, Wait, attributes
from streams.broker.admin.waits import Waits
from streams.common.masking import masked
from streams.errors import AccessDenied, ConfigurationError, GroupMissing, NotFound
from streams.events.names import member, parse_member

__all__ = ["MOST", "Reason", "Reasons", "Why"]

LOOK = 1.0
"""Seconds within which a worker that has room looks for work twice."""
MOST = 100
"""Events that are judged at most in one call."""
_DEPTH = 2000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why events wait.

    Attributes:
        reasons: one per event and group.
        more: how many more events were found that are not judged here.
        is_complete: False where there was more than is looked through.
    """

    reasons: tuple[Reason, ...]
    more: int = 0
    is_complete: bool = True

    def as_plain(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        plain = [reason.as_plain() for reason in self.reasons]

        return {"reasons": plain, "more": self.more, "is_complete": self.is_complete}


class SeveralEvents(TypedDict, total=False):
    """The key, the tenant or the level of the events that are asked about."""

    key: str | None
    tenant: str | None
    level: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked about: exactly one of these is given."""

    event: str | None = None
    key: str | None = None
    tenant: str | None = None
    level: int | None = None

    def __post_init__(self) -> None:
        """Refuse none, and several.

        Raises:
            ConfigurationError: not exactly one is given.
        """
        given = [value for value in astuple(self) if value not in (None, "")]
        if len(given) != 1:
            raise ConfigurationError(
                "why: give one event, or a key, or a tenant, or a level; and only one "
                "of them"
            )

    def takes(self, level: int, fields: Sequence[bytes]) -> bool:
        """Whether an entry is among them."""
        if self.level is not None:
            return level == self.level

        name, value = ("key", self.key) if self.key else ("tenant", self.tenant)

        return attributes(fields).get(name) == value


class Why:
    """Finds the reason for which events of one stream wait.

    The cost for each event and group is three round trips, three more for one that
    waits in the queue of a limit, and as much again for the head of a key; one round
    trip for each group. By event id the first 10,000 entries of each level are
    searched; by key, tenant and level the first 2,000, and 100 events are judged.

    Args:
        broker: an open broker.
        stream: the stream's name.
        partition: the number of one partition; None: all.
        patience: seconds from which on it is a defect that an event waits for nothing.
        look: seconds within which a worker looks for work. An event that waits for
            nothing is looked at again after that. If it is still there, it does wait
            for nothing; otherwise it was about to start.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        *,
        partition: int | None = None,
        patience: float = PATIENCE,
        look: float = LOOK,
    ) -> None:
        self._broker = broker
        self.stream = stream
        self._partition = partition
        self._patience = patience
        self._look = look

    async def ask(self, wanted: Wanted, group: str = "") -> Reasons:
        """Why each of the events waits, in each group or in one.

        Raises:
            NotFound: there is no such stream, partition or group.
        """
        left = MOST

        async def of(part: Part) -> Reasons:
            nonlocal left
            found = await self._of(part.stream, left).ask(wanted, group)
            left -= len(found.reasons)

            return found

        names = await partitions_of(self._broker, self.stream, self._partition)
        together = _together(await of_all(list(map(Part, names)), of))

        return replace(together, reasons=tuple(await self._surely(together.reasons)))

    async def runnable(self) -> list[Reason]:
        """Of the oldest waiting event of each level, those that wait for nothing.

        They are judged in each group, for the doctor.

        Of a stream with partitions ``stream`` is one of them. Two round trips and one
        per group while nothing waits for longer than ``patience``; then as ``ask``, for
        one event per level and group, ten due retries and ten events that are the first
        of a queue per group.
        """
        found = await self._surely(await self._of(self.stream, MOST).runnable())

        return [reason for reason in found if reason.state == "none"]

    async def _surely(self, reasons: Sequence[Reason]) -> list[Reason]:
        """The same; those that waited for nothing are looked at again, one look later."""
        if all(reason.state != "none" for reason in reasons):
            return list(reasons)

        await sleep(self._look)
        parts: dict[str, _Partition] = {}
        found = []

        for reason in reasons:
            if reason.state == "none":
                part = parts.setdefault(reason.stream, self._of(reason.stream, MOST))
                reason = await part.again(reason)

            found.append(reason)

        return found

    def _of(self, stream: str, most: int) -> _Partition:
        return _Partition(self._broker, stream, max(0, most), self._patience)


class _Partition:
    """The same of one partition; at most ``most`` events are judged."""

    def __init__(self, broker: Broker, stream: str, most: int, patience: float) -> None:
        self._broker = broker
        self._stream = stream
        self._most = most
        self._patience = patience
        self._inspecting = StatusStore(broker)
        self._status = Status(broker)
        self._levels: list[int] = []
        self._undeclared: Mapping[int, int] = {}
        self._waits: Waits
        self._groups: Mapping[str, Mapping[int, GroupReply]] = {}
        self._scenes: dict[str, GroupState] = {}

    async def ask(self, wanted: Wanted, group: str) -> Reasons:
        await self._look()
        if group and group not in self._groups:
            raise no_group(self._stream, group, self._groups)

        groups = [group] if group else list(self._groups)
        if wanted.event:
            return Reasons(tuple(await self._event(wanted.event, groups, group)))

        self._undeclared = await self._inspecting.undeclared(self._stream, self._levels)

        return await self._several(wanted, groups)

    async def again(self, reason: Reason) -> Reason:
        """The same event as of now."""
        if not self._levels:
            await self._look()

        level = reason.level or 0
        if not reason.group:
            found = await self._scheduled(level, reason.entry_id)
        else:
            found = await self._judged(reason.group, (level, reason.entry_id))

        return found or replace(
            reason,
            state="unknown",
            sentence="it is gone since it was looked at",
            facts={},
        )

    async def runnable(self) -> list[Reason]:
        await self._look()
        before = round((self._broker.clock.now() - self._patience) * 1000)
        oldest = Oldest(self._broker, self._stream)
        reasons = []

        for group, infos in self._groups.items():
            for place in await oldest.of(group, infos, before):
                reason = await self._judged(group, place)
                if reason is not None and reason.state == "none":
                    reasons.append(reason)

        return reasons

    @property
    def _listing(self) -> Listing:
        return Listing(self._broker, self._broker.keys(self._stream))

    async def _look(self) -> None:
        self._levels = await self._inspecting.existing(self._stream)
        self._waits = Waits(self._broker, self._stream, self._levels)
        self._groups = await self._waits.groups()

    async def _event(
        self, name: str, groups: Sequence[str], group: str
    ) -> list[Reason]:
        """One event, wherever it is."""
        states: list[EntryState] = []
        with contextlib.suppress(NotFound):
            states = await self._status.find(
                self._stream, name, group, depth=_DEPTH, partition=0
            )

        reasons = [await self._state(state) for state in states]
        if found := list(filter(None, reasons)):
            return found

        if not groups:  # No worker ever served the stream.
            for place in await places_of(
                self._inspecting, self._stream, name, self._levels
            ):
                if reason := await self._ungrouped(place):
                    return [reason]

        self._undeclared = await self._inspecting.undeclared(self._stream, self._levels)

        for level, entry_id in await places_of(
            self._inspecting, self._stream, name, list(self._undeclared), _DEPTH
        ):
            if await self._inspecting.entry(self._stream, level, entry_id) is not None:
                return [self._unread(level, entry_id)]

        return [
            await self._unless_cancelled(
                await self._judge("", FoundEntry("unknown", None, name)), (name,)
            )
        ]

    async def _unless_cancelled(self, reason: Reason, names: Sequence[str]) -> Reason:
        """The reason; of an event that an operator cancelled, that."""
        with contextlib.suppress(AccessDenied):
            if action := await self._listing.cancelled(names):
                facts = {"by": masked(action[0]), "since": action[1]}
                sentence = f"{told_of(*action)}: nothing of it is kept"

                return replace(reason, sentence=sentence, facts=facts)

        return reason

    async def _state(self, state: EntryState) -> Reason | None:
        if state.state == "scheduled":
            return await self._scheduled(state.level or 0, state.event_id)
        if state.state == "dead" or state.level is None:
            return await self._dead(state)

        if not state.group:
            place = state.level, state.entry_id
            return (
                await self._ungrouped(place)
                if state.level in self._levels
                else self._unread(*place)
            )

        judged = await self._judged(state.group, (state.level, state.entry_id))
        if judged is not None and judged.state == "done":
            return await self._unless_cancelled(
                judged, (member(state.level, state.entry_id),)
            )

        return judged

    async def _dead(self, state: EntryState) -> Reason:
        found = FoundEntry("dead", state.level, state.entry_id)
        return _buried(await self._judge(state.group, found), state)

    async def _several(self, wanted: Wanted, groups: Sequence[str]) -> Reasons:
        """The stored and scheduled events that are not done, the oldest first."""
        reasons: list[Reason] = []
        more, looked = 0, True

        async for place in self._matching(wanted):
            if place is None:
                looked = False
            elif len(reasons) >= self._most:
                more += 1
            elif place[0] in self._undeclared and not place[2]:
                reasons.append(self._unread(*place[:2]))
            else:
                reasons += await self._in_groups(place, groups)

        if wanted.key:
            reasons += await self._dead_of(
                wanted.key, groups, self._most - len(reasons)
            )

        return Reasons(tuple(reasons[: self._most]), more, looked)

    async def _in_groups(
        self, place: tuple[int, str, bool], groups: Sequence[str]
    ) -> list[Reason]:
        level, name, is_scheduled = place
        if is_scheduled:
            reasons = [await self._scheduled(level, name)]
        elif not groups:
            reasons = [await self._ungrouped((level, name))]
        else:
            reasons = [await self._judged(group, (level, name)) for group in groups]

        return [
            reason
            for reason in reasons
            if reason is not None and reason.state not in ("done", "unknown")
        ]

    async def _dead_of(
        self, key: str, groups: Sequence[str], most: int
    ) -> list[Reason]:
        """The dead letters of a key, the newest first: what is behind one may wait for it."""
        found: list[Reason] = []
        for group in groups:
            letters = DeadLetters(self._broker, self._stream, group, partition=0)
            async for letter in letters.latest(_PAGE):
                if len(found) < most and letter.meta.get("key") == key:
                    state = dead_state(self._stream, group, letter)
                    found.append(await self._dead(state))

        return found

    async def _matching(
        self, wanted: Wanted
    ) -> AsyncIterator[tuple[int, str, bool] | None]:
        """Level and id of each event that is wanted, and whether it is scheduled.

        None: not all were looked at.
        """
        for level in sorted({*self._levels, *self._undeclared}, reverse=True):
            if wanted.level in (None, level):
                async for place in self._stored(wanted, level):
                    yield place

        listed = await self._listing.scheduled(0, _PAGE)

        for row in listed:
            if wanted.takes(row.level, row.fields):
                yield row.level, row.place, True

        if len(listed) == _PAGE:
            yield None

    async def _stored(
        self, wanted: Wanted, level: int
    ) -> AsyncIterator[tuple[int, str, bool] | None]:
        seen = 0
        async for entry_id, fields in self._inspecting.walk(
            self._stream, level, _DEPTH
        ):
            seen += 1
            if wanted.takes(level, fields):
                yield level, entry_id, False

        if seen >= _DEPTH:
            yield None

    async def _scheduled(self, level: int, name: str) -> Reason | None:
        """A scheduled event.

        Every worker of the stream brings a scheduler, whichever group it serves.
        """
        found = await self._inspecting.scheduled(self._stream, name, [level])
        if found is None:
            return None  # Put on the stream meanwhile.

        scenes = [await self._scene(group) for group in self._groups]
        scene = replace(
            await self._scene(""),
            workers=[worker for one in scenes for worker in one.workers],
        )

        reason = judge(Case(scene, Wait(found), self._patience))

        return replace(reason, event_id=ident(event_id(found) or name))

    def _unread(self, level: int, entry_id: str) -> Reason:
        """An event on an undeclared level."""
        declared = ", ".join(map(str, self._levels))
        wanted = ",".join(map(str, sorted({*self._levels, level})))
        sentence = (
            f"no worker looks at level {level}, which no program of this package "
            f"declared: the levels are {declared}; "
            f"workers started with STREAMS_LEVELS={wanted} handle what is there"
        )

        facts = {"levels": self._levels, "workers": []}

        return Reason(
            "level-unserved", sentence, self._stream, "", level, entry_id, facts=facts
        )

    async def _ungrouped(self, place: tuple[int, str]) -> Reason | None:
        level, entry_id = place
        fields = await self._inspecting.entry(self._stream, level, entry_id)
        if fields is None:
            return None

        found = FoundEntry("pending", level, entry_id, fields=fields)

        return await self._judge("", found)

    async def _judged(self, group: str, place: tuple[int, str]) -> Reason | None:
        """One entry in one group; None: the group is not there on its level."""
        try:
            found = await self._inspecting.find(self._stream, group, *place)
            # Looked at again: it may have been acknowledged between.
            if found.state == "done" and found.fields:
                found = await self._inspecting.find(self._stream, group, *place)
        except GroupMissing:
            return None

        return await self._judge(group, found)

    async def _judge(
        self, group: str, found: FoundEntry, *, with_head: bool = True
    ) -> Reason:
        scene = await self._scene(group)
        wait = await self._waits.wait(scene, found)
        case = Case(scene, wait, self._patience)
        reason = judge(case)
        if not with_head or reason.state != "key-busy":
            return reason

        return replace(reason, because=await self._head(group, head_of(case)))

    async def _head(self, group: str, head: str) -> Reason | None:
        """The reason of the first event of a key.

        It is one step: that event waits for no other of its key.
        """
        with contextlib.suppress(GroupMissing):
            level, entry_id = parse_member(head)
            found = await self._inspecting.find(self._stream, group, level, entry_id)

            return await self._judge(group, found, with_head=False)

        return None

    async def _scene(self, group: str) -> GroupState:
        if group not in self._scenes:
            self._scenes[group] = await self._waits.scene(group, self._groups)

        return self._scenes[group]


def _buried(reason: Reason, state: EntryState) -> Reason:
    """Of a dead letter: what it died of, and what an operator does with it."""
    letter = state.dead_letter
    if letter is None:
        return reason

    why = ident(letter.reason)
    if letter.last_error:
        why += f", {masked(letter.last_error)}"

    what = (
        f"it is a dead letter since {moment(letter.died_at)} ({why}), and waits for an "
        "operator, who replays or "
        f"discards it: streams dead show {state.stream} {state.group} {letter.id}"
    )

    facts = {
        "error": ident(letter.reason),
        "letter": letter.id,
        "since": letter.died_at,
    }

    return replace(reason, event_id=ident(state.event_id), sentence=what, facts=facts)


def _together(found: Sequence[Reasons]) -> Reasons:
    """Those of several partitions; where one knows an event, that another does not says nothing."""
    reasons = [reason for part in found for reason in part.reasons]
    known = [reason for reason in reasons if reason.state != "unknown"] or reasons[:1]

    return Reasons(
        tuple(known),
        sum(part.more for part in found),
        all(part.is_complete for part in found),
    )
