"""The outcome of the events that operators put back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streams.admin.dead_letters import DeadLetters
from streams.admin.operating import Operating
from streams.admin.partitioned import partitions_of
from streams.broker.admin.inspect import StatusStore
from streams.broker.admin.listing import Listing
from streams.events.names import member

_ACTIONS = ("replay", "edit-and-replay")
_AUDITED = 500
_LETTERS = 2000


@dataclass(slots=True)
class ReplayView:
    """One replay on one partition, however many steps it took.

    Attributes:
        at: Unix seconds of its last step.
        by: the operator.
        count: events that were put back so far.
        edited: with another body.
        now: where they stand: ``waiting``, ``processing``, ``retrying``, ``dead``
            (again), or ``ended``: handled or cancelled, of which nothing is kept. Of
            the first 500; so their sum may be less than ``count``.
        where: the filter, in words; '' if its dead letters were named.
    """

    at: float
    by: str
    count: int
    edited: bool
    now: Counter[str] = field(default_factory=Counter)
    where: str = ""


class Outcomes:
    """Asks what became of replays on one stream.

    Args:
        pipeline: open while it is used.
        stream: the stream's name.
    """

    def __init__(self, pipeline: Operating, stream: str) -> None:
        self._pipeline = pipeline
        self._stream = stream

    async def replays(
        self, group: str, most: int = 10, partition: int | None = None
    ) -> list[ReplayView]:
        """The latest replays of a group, the latest first.

        One command for each, and at most six more per partition.
        """
        names = await partitions_of(self._pipeline.broker, self._stream, partition)
        found = [view for name in names for view in await self._on(name, group, most)]

        return sorted(found, key=lambda view: -view.at)[:most]

    async def _on(self, stream: str, group: str, most: int) -> list[ReplayView]:
        broker = self._pipeline.broker
        audit = await Listing(broker, broker.keys(stream)).audit("", _AUDITED)
        rows = [
            (ident, facts)
            for ident, facts in audit
            if facts.get("action") in _ACTIONS and facts.get("group") == group
        ][:most]

        if not rows:
            return []

        levels = await self._pipeline.status().levels(stream)
        letters = DeadLetters(broker, stream, group, partition=0).latest(_LETTERS)
        dead = {member(letter.level, letter.entry_id) async for letter in letters}
        found = []

        for ident, facts in rows:
            places = facts.get("entries", "").split()
            stand = await StatusStore(broker).whereabouts(stream, group, levels, places)
            view = ReplayView(
                float(ident.partition("-")[0]) / 1000,
                facts.get("by", ""),
                int(facts.get("count", 0)),
                facts["action"] != "replay",
                where=facts.get("filter", ""),
            )

            for place, state in zip(places, stand, strict=True):
                is_dead = state == "ended" and place in dead
                view.now["dead" if is_dead else state] += 1

            found.append(view)

        return found
