"""Tracking: the state of single events, for code that follows them beyond the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from streams.broker import Broker, checked_broker
from streams.broker.server.stored import json_object
from streams.broker.state.tracking import Count as Count
from streams.broker.state.tracking import TrackedState, TrackStore
from streams.common.annotated import holds_to_annotations
from streams.common.arguments import checked_mapping, checked_seconds
from streams.errors import ConfigurationError
from streams.events.codec import check_id
from streams.quantities import Seconds

_OWN = frozenset({"state", "rank", "rows"})


class Noted(NamedTuple):
    """Outcome of a note: whether the state moved, and what it was before ('' for nothing)."""

    moved: bool
    before: str


@dataclass(frozen=True, slots=True)
class Tracked:
    """The known facts of an event.

    Attributes:
        id: as tracked.
        state: the furthest that it reached.
        fields: facts that belong to the event.
        timeline: the latest 50 notes, oldest first: ``at`` (Unix seconds), ``state``,
            and the facts that were given.
    """

    id: str
    state: str
    fields: dict[str, str]
    timeline: list[dict[str, Any]]


@holds_to_annotations
class Tracking:
    """Follows events of one stream.

    Each note is one command. Tracked events are forgotten after ``retention``.

    Args:
        broker: an open broker.
        stream: the stream's name.
        ranks: the states, with their ranks: a state moves to one of the same rank or a
            higher one.
        retention: seconds, or a ``timedelta``, after the latest note.

    Raises:
        ConfigurationError: a value is refused.
    """

    def __init__(
        self, broker: Broker, stream: str, ranks: Mapping[str, int], retention: Seconds
    ) -> None:
        self._ranks = checked_mapping("ranks", ranks, "ranks={'pending': 0, 'sent': 1}")
        if not self._ranks or not all(
            str(s).isidentifier() and isinstance(rank, int) for s, rank in ranks.items()
        ):
            raise ConfigurationError(
                "ranks are names of states to integers, e.g. {'pending': 0, 'sent': 1}"
            )

        self._retention = float(
            checked_seconds("retention", retention, 1, 400 * 86_400)
        )
        self._store = TrackStore(broker, checked_broker(broker).keys(stream))

    async def note(
        self,
        id: str,
        state: str,
        facts: Mapping[str, Any] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        counts: Sequence[Count] = (),
        anew: bool = False,
    ) -> Noted:
        """Write down that an event reached a state.

        Args:
            id: of the event.
            state: one of the ranks.
            facts: for this row of the timeline; JSON values.
            fields: facts of the event itself, set if the state moves; '' removes one.
            counts: counters that grow in the same step, if the state is another one
                than before: so they add up.
            anew: begin again, e.g. with a replay: the state moves whatever it was.

        Raises:
            ConfigurationError: there is no such state, or a field has a name of this
                module's own.
        """
        rank = self._ranks.get(state)
        if rank is None:
            raise ConfigurationError(
                f"state {state!r} is none of {', '.join(self._ranks)}"
            )

        fields = fields or {}
        if any(name in _OWN or name.startswith("row:") for name in fields):
            raise ConfigurationError(
                "the names state, rank, rows and row:... of fields are taken"
            )

        text = orjson.dumps(dict(facts)).decode()[1:-1] if facts else ""
        reached = TrackedState(
            state=state,
            rank=rank,
            retention=self._retention,
            facts=text and f",{text}",
            fields=fields,
            counts=counts,
            is_anew=anew,
        )

        return Noted(*await self._store.track(check_id(id), reached))

    async def get(self, id: str) -> Tracked | None:
        """The known facts of an event; None if it is not tracked (any more). One command."""
        stored = await self._store.get(check_id(id))
        if "state" not in stored:
            return None

        numbers = sorted(
            int(name[4:])
            for name in stored
            if name.startswith("row:") and name[4:].isdigit()
        )

        rows = (json_object(stored.get(f"row:{number}")) for number in numbers)
        timeline = [row for row in rows if row is not None]
        fields = {
            name: value
            for name, value in stored.items()
            if name not in _OWN and not name.startswith("row:")
        }

        return Tracked(id, stored["state"], fields, timeline)

    async def totals(self) -> dict[str, int]:
        """How many events reached which state, since ever; each move counts."""
        return await self._store.totals()

    async def counted(self, names: Sequence[str]) -> list[dict[str, int]]:
        """The counts under each name. One round trip.

        A name is empty where nothing was counted, or not any more.
        """
        return await self._store.counted([check_id(name, "name") for name in names])

    async def link(self, name: str, id: str) -> None:
        """Let an event be found by another name, e.g. the id that a provider gave it."""
        await self._store.link(check_id(name, "name"), id, self._retention)

    async def linked(self, name: str) -> str | None:
        """The id of the event with that name; None if there is none (any more)."""
        return await self._store.linked(check_id(name, "name"))

    async def file(self, name: str, id: str) -> None:
        """Let an event be found with others that have something in common.

        That may be a customer. A name keeps the latest 1,000.
        """
        await self._store.file(check_id(name, "name"), id, self._retention)

    async def filed(self, name: str, *, most: int = 100) -> list[str]:
        """Ids of the events that were filed under a name, the latest first. One command."""
        return await self._store.filed(check_id(name, "name"), max(1, most))

    def known(self) -> AsyncIterator[list[str]]:
        """The ids of all tracked events, some at a time, in no order.

        An id may come twice. It reads all keys of the server.
        """
        return self._store.known()

    async def forget(
        self,
        ids: Sequence[str],
        *,
        links: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> int:
        """Forget events, their other names, and the names that they were filed under.

        Returns how many of them were known.
        """
        return await self._store.forget([check_id(id) for id in ids], links, files)
