"""The ordered keys of a group: which are at work, which are held, and how a held one goes on."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Literal

from streams.admin.dead_letter import Filter
from streams.admin.dead_letters import DeadLetters
from streams.admin.partitioned import OnGroup, first, joined, on_each
from streams.broker.entries.ordering import Heads, HeldKey
from streams.broker.server.stored import real
from streams.common.annotated import holds_to_annotations
from streams.errors import NotFound
from streams.policy.ordering import lane_key

OrderedKeyList = list["OrderedKey"]
"""Spelled out here: inside the class below ``list`` is a method."""
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class OrderedKey:
    """A key whose order is kept, and that has work.

    Attributes:
        key: its value; a long one by its hash.
        state: ``working``: its first event runs, or waits for its start or retry;
            ``held``: that one died.
        head: ``level|entry id`` of the first event.
        event_id: of the dead event; '' while it is working.
        since: when that died, Unix seconds; 0.0 while it is working.
        behind: how many events wait behind it; at most 1,000 are counted.
    """

    key: str
    state: Literal["working", "held"]
    head: str
    event_id: str
    since: float
    behind: int


@holds_to_annotations
class OrderedKeys(OnGroup):
    """The keys of one group with ``order_by``, on all partitions of its stream, or on one.

    Args:
        broker: an open broker.
        stream, group: names.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    async def list(
        self, limit: int = 100, *, state: Literal["working", "held"] | None = "held"
    ) -> OrderedKeyList:
        """At most ``limit`` keys with work, those with the most behind them first.

        It walks through all of them.

        Raises:
            NotFound: there is no such stream, or the group has no ``order_by``.
        """
        chosen = await self._chosen(state)

        return heapq.nlargest(limit, chosen, key=lambda key: (key.behind, -key.since))

    @on_each(joined)
    async def _chosen(self, state: Literal["working", "held"] | None) -> OrderedKeyList:
        heads = await self._heads()
        found = [_read(row) async for row in heads.all(held=state == "held")]

        return [key for key in found if state is None or key.state == state]

    @on_each(first)
    async def release(self, key: str) -> str:
        """Try a held key's dead event again, before all that waits behind it.

        Returns ``level|entry id`` of its replay.

        Raises:
            NotFound: the key is not held, or its dead letter was discarded or replayed
                already.
        """
        stored = await self._held(await self._heads(), key)
        held = _read(HeldKey(key, stored, 0))
        letters = DeadLetters(
            self._broker, self.stream, self.group, by=self._by, partition=0
        )
        start = f"{max(0, round(held.since * 1000) - _HOUR_MS)}-0"

        async for letter in letters.iterate(
            Filter(event_id=held.event_id), after=start
        ):
            if f"{letter.level}|{letter.entry_id}" == held.head:
                moved = (await letters.replay([letter.id])).moved
                if letter.id in moved:
                    return moved[letter.id]

                break  # Another operator replayed it at the same moment.

        raise NotFound(
            "the event that holds the key has no dead letter (any more): if it was "
            "replayed, the key goes on with it; "
            f"if it was discarded, skip it: streams keys skip {self.stream} "
            f"{self.group} KEY"
        )

    @on_each(first)
    async def skip(self, key: str) -> None:
        """Let a held key go on with what waits behind its dead event, which stays a dead letter.

        Raises:
            NotFound: the key is not held.
        """
        heads = await self._heads()
        stored = await self._held(heads, key)
        if not await heads.skip(lane_key(key.encode()), stored, self._by):
            raise self._not_held()

    async def _held(self, heads: Heads, key: str) -> str:
        stored = await heads.get(lane_key(key.encode()))
        if stored is None or not stored.startswith("held "):
            raise self._not_held()

        return stored

    def _not_held(self) -> NotFound:
        return NotFound(
            f"this key is not held in group {self.group!r} of stream {self.stream!r}"
        )

    async def _heads(self) -> Heads:
        heads = Heads(self._broker, self._keys, await self._levels(), self.group)
        rules = await heads.rules()
        # A deploy may have taken the order away: keys that were held until then are
        # held still.
        if not rules.get("order_by") and not any(
            way.partition("|")[0] for way in rules.get("ways", "").split(";")
        ):
            raise NotFound(
                f"group {self.group!r} of stream {self.stream!r} keeps no order by "
                "key: its handlers declare order_by, "
                "and a worker writes it down when it starts"
            )

        return heads


def _read(row: HeldKey) -> OrderedKey:
    if not row.head.startswith("held "):
        return OrderedKey(row.key, "working", row.head, "", 0.0, row.waiting)

    _, at, head, event_id, *_ = [*row.head.split(" ", 3), "", "", ""]

    return OrderedKey(row.key, "held", head, event_id, real(at) / 1000, row.waiting)
