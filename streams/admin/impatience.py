"""Running now what is scheduled, or waits for a retry."""

from __future__ import annotations

from streams.admin.partitioned import OnPartitions
from streams.admin.status import EntryState
from streams.admin.waiting import Waiting, holders, only, scheduled_name
from streams.broker import Broker
from streams.errors import NotFound, NotWaiting
from streams.events.names import member

_TRIES = 3
_INSTEAD = {
    "pending": "it is due, and starts when it is its turn; 'streams ls' says what is before it",
    "processing": "its handler runs",
    "dead": "it is a dead letter; 'streams dead replay' puts it back",
    "done": "it was handled already",
    "orphaned": "no worker has it; 'streams doctor --repair' makes it due",
}


class Impatience(OnPartitions):
    """Lets events of one stream run before their time. Limits, pauses and the order of keys hold as ever.

    They are looked for on all partitions of the stream, or on one.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: who acts, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self, broker: Broker, stream: str, *, by: str = "", partition: int | None = None
    ) -> None:
        super().__init__(broker, stream, partition)
        self._waiting = Waiting(broker, stream)
        self._by = by or "unknown"

    def _twin(self, stream: str) -> Impatience:
        return Impatience(self._broker, stream, by=self._by)

    async def run_now(self, id: str, group: str = "") -> EntryState:
        """Make one event due; returns what it was, as it stood until then.

        Args:
            id: an event id, an entry id, ``LEVEL|ENTRY-ID``, or ``LEVEL|EVENT-ID`` of a scheduled event.
            group: where it waits for a retry; needed if it does in several.

        Raises:
            NotWaiting: it is pending, processing, dead or done, or the id means several; the message says what to do.
            NotFound: the stream, the group, or any trace of the event is missing.
        """
        parts = await self._parts()
        if len(parts) == 1:
            return await parts[0]._run_now(id, group)  # noqa: SLF001 - of this class
        by_stream = {part.stream: part for part in parts}
        waitings = [part._waiting for part in parts]  # noqa: SLF001 - of this class
        places, several = await holders(waitings, [id], group)
        if several:
            raise several[id]
        if id in places:
            return await by_stream[places[id].stream]._run_now(id, group)  # noqa: SLF001 - of this class
        refusals: list[NotFound | NotWaiting] = []
        for part in parts:
            try:
                return await part._run_now(id, group)  # noqa: SLF001 - of this class
            except (NotFound, NotWaiting) as error:
                refusals.append(error)
        raise next(
            (error for error in refusals if isinstance(error, NotWaiting)), refusals[0]
        )

    async def _run_now(self, id: str, group: str) -> EntryState:
        lookup = await self._waiting.look(group)
        for _ in range(_TRIES):
            # It may start between being found and being hurried, fail, and wait again.
            found = await lookup.find([id])
            single, unclear = only(self._waiting.stream, found, group)
            if unclear:
                raise NotWaiting(id, found[id][0].state, unclear[id])
            if not single:
                break
            (state,) = single.values()
            level = state.level or 0
            name = (
                member(level, state.entry_id)
                if state.group
                else scheduled_name(id, level)
            )
            if await lookup.cancelling.run_now(state.group, name, self._by):
                return state
        states, where = await self._waiting.elsewhere(id, group)
        if not states:
            raise NotFound(f"stream {self._waiting.stream!r} has no trace of {id!r}")
        instead = "; ".join(
            dict.fromkeys(_INSTEAD.get(state.state, "try again") for state in states)
        )
        raise NotWaiting(id, states[0].state, f"{id} is {where}: {instead}")
