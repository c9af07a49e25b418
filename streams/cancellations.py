"""Cancellations: take an event out that is scheduled, or that waits for a retry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from streams.broker import Broker
from streams.broker.cancel import MOST, Cancelling
from streams.broker.inspect import Inspecting
from streams.errors import GroupMissing, InvalidName, NotCancelled, NotFound
from streams.keys import checked_name, member, parse_member
from streams.status import EntryState, Status, entry_state

_TRIES = 3
_INSTEAD = {
    "pending": "it has not started, and may at any moment; its handler can reject it, and 'streams pause' gains time",
    "processing": "its handler runs; if that fails and the event waits for a retry, it can be cancelled",
    "dead": "it is a dead letter already; 'streams dead discard' deletes it",
    "done": "it was handled already",
}


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Outcome of cancelling many: by id, what was cancelled as it stood until then, and why the others were not."""

    cancelled: dict[str, EntryState] = field(default_factory=dict)
    refused: dict[str, NotCancelled | NotFound] = field(default_factory=dict)


class Cancellations:
    """Cancels events of one stream that are scheduled, or that wait for a retry in a group.

    A cancelled event is gone, with its attempt record; who cancelled it is written down. Another group that still needs
    it keeps it. Whether it is cancelled or starts is decided on the server, in one step.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: who acts, for the audit record.
    """

    def __init__(self, broker: Broker, stream: str, *, by: str = "") -> None:
        self.stream = checked_name(stream, "stream")
        self._broker = broker
        self._by = by or "unknown"
        self._status = Status(broker)
        self._inspecting = Inspecting(broker)

    async def cancel(self, id: str, group: str = "") -> EntryState:
        """Cancel one event; returns what it was, as it stood until then.

        Args:
            id: an event id, an entry id, ``LEVEL|ENTRY-ID``, or ``LEVEL|EVENT-ID`` of a scheduled event.
            group: where it waits for a retry; needed if it does in several.

        Raises:
            NotCancelled: it is pending, processing, dead or done, or the id means several; the message says what to do.
            NotFound: the stream, the group, or any trace of the event is missing.
        """
        outcome = await self.cancel_many((id,), group)
        for refusal in outcome.refused.values():
            raise refusal
        return outcome.cancelled[id]

    async def cancel_many(self, ids: Iterable[str], group: str = "") -> Cancellation:
        """Cancel events; one that cannot be does not hold up the others.

        Raises:
            NotFound: the stream or the group is missing.
        """
        outcome = Cancellation()
        wanted = list(dict.fromkeys(ids))
        row = await self._status.stream(self.stream)
        groups = [found.group for found in row.groups]
        if group and group not in groups:
            raise NotFound(f"stream {self.stream!r} has no group {group!r}; it has: {', '.join(groups) or 'none'}")
        levels = (await self._status.streams())[self.stream]
        cancelling = Cancelling(self._broker, self._broker.keys(self.stream), levels)
        for at in range(0, len(wanted), MOST):
            left = wanted[at : at + MOST]
            for _ in range(_TRIES):
                # Who slips away between being found and being cancelled may wait again: look once more.
                found = await self._find(cancelling, left, [group] if group else groups, levels)
                await self._cancel(cancelling, found, outcome, group)
                left = [id for id in left if id in found and id not in outcome.cancelled and id not in outcome.refused]
                if not left:
                    break
            for id in wanted[at : at + MOST]:
                if id not in outcome.cancelled and id not in outcome.refused:
                    outcome.refused[id] = await self._refusal(id, group)
        return outcome

    async def _find(
        self, cancelling: Cancelling, ids: Sequence[str], groups: Sequence[str], levels: Sequence[int]
    ) -> dict[str, list[EntryState]]:
        """What can be cancelled, by id."""
        found: dict[str, list[EntryState]] = {}
        members = {member(level, id): id for id in ids for level in levels} | {id: id for id in ids if "|" in id}
        for name, later in (await self._inspecting.scheduled_many(self.stream, list(members))).items():
            found.setdefault(members[name], []).append(entry_state(self.stream, "", later))
        for name in groups:
            places = [(id, level, entry_id) for id in ids for level, entry_id in _places(id, levels)]
            places += await cancelling.find_retrying(name, ids)
            for id, level, entry_id in dict.fromkeys(places):
                try:
                    entry = await self._inspecting.find(self.stream, name, level, entry_id)
                except (GroupMissing, InvalidName):
                    continue
                if entry.state == "retrying":
                    found.setdefault(id, []).append(entry_state(self.stream, name, entry))
        return found

    async def _cancel(
        self, cancelling: Cancelling, found: dict[str, list[EntryState]], outcome: Cancellation, group: str
    ) -> None:
        single: dict[str, EntryState] = {}
        for id, states in found.items():
            if group and (retrying := [state for state in states if state.group]):
                states = retrying
            if len(states) > 1 or (group and not states[0].group):
                outcome.refused[id] = _ambiguous(self.stream, id, states)
            else:
                single[id] = states[0]
        batches: dict[tuple[str, int], list[str]] = {}
        for id, state in single.items():
            batches.setdefault((state.group, state.level or 0), []).append(id)
        for (name, level), ids in batches.items():
            if name:
                done = await cancelling.retrying(name, level, [single[id].entry_id for id in ids], self._by)
            else:
                done = await cancelling.scheduled([_scheduled_name(id, level) for id in ids], self._by)
            outcome.cancelled.update((id, single[id]) for id, gone in zip(ids, done, strict=True) if gone)

    async def _refusal(self, id: str, group: str) -> NotCancelled | NotFound:
        try:
            states = await self._status.find(self.stream, id, group)
        except NotFound as error:
            return error
        where = "; ".join(
            f"{state.state}"
            + (f" in group {state.group}" if state.group else "")
            + (f" with {state.consumer}" if state.consumer else "")
            for state in states
        )
        instead = "; ".join(dict.fromkeys(_INSTEAD.get(state.state, "try again") for state in states))
        return NotCancelled(id, states[0].state, f"{id} is {where}: {instead}")


def _scheduled_name(id: str, level: int) -> str:
    return id if id.startswith(f"{level}|") else member(level, id)


def _places(id: str, levels: Sequence[int]) -> list[tuple[int, str]]:
    """Level and entry id that an id may name by itself."""
    try:
        level, rest = parse_member(id)
        wanted = [level] if level in levels else []
    except InvalidName:
        rest, wanted = id, list(levels)
    milliseconds, dash, sequence = rest.partition("-")
    if dash and milliseconds.isdigit() and sequence.isdigit() and len(milliseconds) <= 15 and len(sequence) <= 19:
        return [(level, rest) for level in wanted]
    return []


def _ambiguous(stream: str, id: str, states: Sequence[EntryState]) -> NotCancelled:
    if not states[0].group and len(states) == 1:
        text = f"{id} is scheduled on {stream!r} for every group: cancel it without naming a group"
    elif len({state.group for state in states}) == len(states) and all(state.group for state in states):
        names = ", ".join(state.group for state in states)
        text = f"{id} waits for a retry in several groups ({names}): say in which, with --group or group="
    else:
        names = ", ".join(
            (member(state.level or 0, state.entry_id or state.event_id)) + f" ({state.state})" for state in states
        )
        text = f"{id} means several events: name one of {names}"
    return NotCancelled(id, states[0].state, text)
