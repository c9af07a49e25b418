"""What waits for its time on a stream, scheduled or for a retry, by the ids that people have of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.admin.status import EntryState, Status, entry_state
from streams.broker import Broker
from streams.broker.admin.cancel import Cancelling
from streams.broker.admin.inspect import Inspecting
from streams.errors import GroupMissing, InvalidName, NotFound, NotWaiting
from streams.events.names import checked_name, member, parse_member


class Waiting:
    """Finds what waits for its time on one stream.

    Args:
        broker: an open broker.
        stream: the stream's name.
    """

    def __init__(self, broker: Broker, stream: str) -> None:
        self.stream = checked_name(stream, "stream")
        self._broker = broker
        self._status = Status(broker)
        self._inspecting = Inspecting(broker)

    async def look(self, group: str) -> Lookup:
        """Prepare to look, in one group or ('') in all.

        Raises:
            NotFound: the stream or the group is missing.
        """
        row = await self._status.stream(self.stream, partition=0)
        groups = [found.group for found in row.groups]
        if group and group not in groups:
            raise NotFound(
                f"stream {self.stream!r} has no group {group!r}; it has: {', '.join(groups) or 'none'}"
            )
        levels = await self._status.levels(self.stream)
        cancelling = Cancelling(self._broker, self._broker.keys(self.stream), levels)
        return Lookup(
            self.stream,
            [group] if group else groups,
            levels,
            cancelling,
            self._inspecting,
        )

    async def elsewhere(self, id: str, group: str) -> tuple[list[EntryState], str]:
        """Where an event is that does not wait: its states, and the same in words.

        Raises:
            NotFound: there is no trace of it.
        """
        states = await self._status.find(self.stream, id, group, partition=0)
        return states, "; ".join(
            f"{state.state}"
            + (f" in group {state.group}" if state.group else "")
            + (f" with {state.consumer}" if state.consumer else "")
            for state in states
        )


class Lookup:
    """One look at one stream; ``levels`` and ``groups`` are those that it has."""

    def __init__(
        self,
        stream: str,
        groups: Sequence[str],
        levels: Sequence[int],
        cancelling: Cancelling,
        inspecting: Inspecting,
    ) -> None:
        self.stream = stream
        self.levels = levels
        self.cancelling = cancelling
        self._groups = groups
        self._inspecting = inspecting

    async def find(self, ids: Sequence[str]) -> dict[str, list[EntryState]]:
        """What waits for its time, by id."""
        levels = self.levels
        found: dict[str, list[EntryState]] = {}
        members = {member(level, id): id for id in ids for level in levels} | {
            id: id for id in ids if "|" in id
        }
        for name, later in (
            await self._inspecting.scheduled_many(self.stream, list(members))
        ).items():
            found.setdefault(members[name], []).append(
                entry_state(self.stream, "", later)
            )
        for name in self._groups:
            places = [
                (id, level, entry_id)
                for id in ids
                for level, entry_id in _places(id, levels)
            ]
            places += await self.cancelling.find_retrying(name, ids)
            for id, level, entry_id in dict.fromkeys(places):
                try:
                    entry = await self._inspecting.find(
                        self.stream, name, level, entry_id
                    )
                except (GroupMissing, InvalidName):
                    continue
                if entry.state == "retrying":
                    found.setdefault(id, []).append(
                        entry_state(self.stream, name, entry)
                    )
        return found


async def holders(
    waitings: Sequence[Waiting], ids: Sequence[str], group: str
) -> tuple[dict[str, Waiting], dict[str, NotWaiting]]:
    """On which partition each id waits for its time, and why it cannot be said of others: it is an id of several.

    Of those that wait nowhere nothing is said.

    Raises:
        NotFound: the group is on none of them.
    """
    where: dict[str, list[tuple[Waiting, EntryState]]] = {}
    missing: NotFound | None = None
    looked = 0
    for waiting in waitings:
        try:
            found = await (await waiting.look(group)).find(ids)
        except NotFound as error:
            missing = missing or error
            continue
        looked += 1
        for id, states in found.items():
            where.setdefault(id, []).append((waiting, states[0]))
    if missing is not None and not looked:
        raise missing
    several = {
        id: NotWaiting(
            id,
            some[0][1].state,
            f"{id} means events on {' and '.join(waiting.stream for waiting, _ in some)}: say which with --partition, "
            "or partition=",
        )
        for id, some in where.items()
        if len(some) > 1
    }
    return {id: some[0][0] for id, some in where.items() if len(some) == 1}, several


def scheduled_name(id: str, level: int) -> str:
    """What a scheduled event is called in the keys."""
    return id if id.startswith(f"{level}|") else member(level, id)


def _places(id: str, levels: Sequence[int]) -> list[tuple[int, str]]:
    """Level and entry id that an id may name by itself."""
    try:
        level, rest = parse_member(id)
        wanted = [level] if level in levels else []
    except InvalidName:
        rest, wanted = id, list(levels)
    milliseconds, dash, sequence = rest.partition("-")
    if (
        dash
        and milliseconds.isdigit()
        and sequence.isdigit()
        and len(milliseconds) <= 15
        and len(sequence) <= 19
    ):
        return [(level, rest) for level in wanted]
    return []


def only(
    stream: str, found: Mapping[str, Sequence[EntryState]], group: str
) -> tuple[dict[str, EntryState], dict[str, str]]:
    """What is meant by each id, and why an id does not say which event is meant."""
    single: dict[str, EntryState] = {}
    unclear: dict[str, str] = {}
    for id, states in found.items():
        if group and (retrying := [state for state in states if state.group]):
            states = retrying
        if len(states) > 1 or (group and not states[0].group):
            unclear[id] = _ambiguous(stream, id, states)
        else:
            single[id] = states[0]
    return single, unclear


def _ambiguous(stream: str, id: str, states: Sequence[EntryState]) -> str:
    if not states[0].group and len(states) == 1:
        return f"{id} is scheduled on {stream!r} for every group: do so without naming a group"
    if len({state.group for state in states}) == len(states) and all(
        state.group for state in states
    ):
        names = ", ".join(state.group for state in states)
        return f"{id} waits for a retry in several groups ({names}): say in which, with --group or group="
    names = ", ".join(
        (member(state.level or 0, state.entry_id or state.event_id))
        + f" ({state.state})"
        for state in states
    )
    return f"{id} means several events: name one of {names}"
