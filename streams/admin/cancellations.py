"""Cancellations: take an event out that is scheduled, or that waits for a retry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from streams.admin.partitioned import OnPartitions
from streams.admin.status import EntryState
from streams.admin.waiting import Waiting, holders, only, scheduled_name
from streams.broker import Broker
from streams.broker.admin.cancel import MOST, Cancelling
from streams.common.annotated import holds_to_annotations
from streams.errors import NotCancelled, NotFound

_TRIES = 3
_INSTEAD = {
    "pending": "it has not started, and may at any moment; its handler can reject it, and 'streams pause' gains time",
    "processing": "its handler runs; if that fails and the event waits for a retry, it can be cancelled",
    "dead": "it is a dead letter already; 'streams dead discard' deletes it",
    "done": "it was handled already",
    "orphaned": "no worker has it; 'streams doctor --repair' makes it due, and then it can be cancelled",
}


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Outcome of cancelling many: by id, what was cancelled as it stood until then, and why the others were not."""

    cancelled: dict[str, EntryState] = field(default_factory=dict)
    refused: dict[str, NotCancelled | NotFound] = field(default_factory=dict)


@holds_to_annotations
class Cancellations(OnPartitions):
    """Cancels events of one stream that are scheduled, or that wait for a retry in a group.

    They are looked for on all partitions of the stream, or on one.

    A cancelled event is gone, with its attempt record; who cancelled it is written down. Another group that still needs
    it keeps it. Whether it is cancelled or starts is decided on the server, in one step.

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

    def _twin(self, stream: str) -> Cancellations:
        return Cancellations(self._broker, stream, by=self._by)

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
        wanted = list(dict.fromkeys(ids))
        parts = await self._parts()
        if len(parts) == 1:
            return await parts[0]._cancel_here(wanted, group)  # noqa: SLF001 - of this class
        outcome = Cancellation()
        by_stream = {part.stream: part for part in parts}
        waitings = [part._waiting for part in parts]  # noqa: SLF001 - of this class
        places, several = await holders(waitings, wanted, group)
        for id, error in several.items():
            outcome.refused[id] = NotCancelled(id, error.state, str(error))
        left: dict[str, list[str]] = {}
        for id, waiting in places.items():
            left.setdefault(waiting.stream, []).append(id)
        for stream, some in left.items():
            done = await by_stream[stream]._cancel_here(some, group)  # noqa: SLF001 - of this class
            outcome.cancelled.update(done.cancelled)
            outcome.refused.update(done.refused)
        for id in wanted:
            if id not in outcome.cancelled and id not in outcome.refused:
                outcome.refused[id] = await self._refusal_anywhere(parts, id, group)
        return outcome

    @staticmethod
    async def _refusal_anywhere(
        parts: Sequence[Cancellations], id: str, group: str
    ) -> NotCancelled | NotFound:
        """Why it cannot be cancelled: as a partition says that knows it, else that none does."""
        found = [await part._refusal(id, group) for part in parts]  # noqa: SLF001 - of this class
        return next((one for one in found if isinstance(one, NotCancelled)), found[0])

    async def _cancel_here(self, wanted: Sequence[str], group: str) -> Cancellation:
        outcome = Cancellation()
        lookup = await self._waiting.look(group)
        for at in range(0, len(wanted), MOST):
            left = list(wanted[at : at + MOST])
            for _ in range(_TRIES):
                # Who slips away between being found and being cancelled may wait again: look once more.
                found = await lookup.find(left)
                await self._cancel(lookup.cancelling, found, outcome, group)
                left = [
                    id
                    for id in left
                    if id in found
                    and id not in outcome.cancelled
                    and id not in outcome.refused
                ]
                if not left:
                    break
            for id in wanted[at : at + MOST]:
                if id not in outcome.cancelled and id not in outcome.refused:
                    outcome.refused[id] = await self._refusal(id, group)
        return outcome

    async def _cancel(
        self,
        cancelling: Cancelling,
        found: dict[str, list[EntryState]],
        outcome: Cancellation,
        group: str,
    ) -> None:
        single, unclear = only(self.stream, found, group)
        for id, why in unclear.items():
            outcome.refused[id] = NotCancelled(id, found[id][0].state, why)
        batches: dict[tuple[str, int], list[str]] = {}
        for id, state in single.items():
            batches.setdefault((state.group, state.level or 0), []).append(id)
        for (name, level), ids in batches.items():
            if name:
                done = await cancelling.retrying(
                    name, level, [single[id].entry_id for id in ids], self._by
                )
            else:
                done = await cancelling.scheduled(
                    [scheduled_name(id, level) for id in ids], self._by
                )
            outcome.cancelled.update(
                (id, single[id]) for id, gone in zip(ids, done, strict=True) if gone
            )

    async def _refusal(self, id: str, group: str) -> NotCancelled | NotFound:
        try:
            states, where = await self._waiting.elsewhere(id, group)
        except NotFound as error:
            return error
        instead = "; ".join(
            dict.fromkeys(_INSTEAD.get(state.state, "try again") for state in states)
        )
        return NotCancelled(id, states[0].state, f"{id} is {where}: {instead}")
