"""Erasure: delete every event of a stream that is about a person, in every state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.admin.dead_letters import DeadLetters
from streams.admin.partitioned import OnPartitions, on_each
from streams.broker.admin.cancel import MOST, CancelStore
from streams.broker.admin.erase import EraseStore
from streams.broker.admin.groups import GroupStore
from streams.broker.server.stored import parts
from streams.common.annotated import holds_to_annotations
from streams.errors import ConfigurationError
from streams.events.codec import read_meta
from streams.events.event import META_NAMES

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Erased:
    """How many events were deleted, by where they stood."""

    stored: int = 0
    scheduled: int = 0
    dead: int = 0

    def __add__(self, other: Erased) -> Erased:
        return Erased(
            self.stored + other.stored,
            self.scheduled + other.scheduled,
            self.dead + other.dead,
        )

    @property
    def total(self) -> int:
        """All of them."""
        return self.stored + self.scheduled + self.dead


def _sum(found: Sequence[Erased]) -> Erased:
    return sum(found, Erased())


@holds_to_annotations
class Erasure(OnPartitions):
    """Deletes events of one stream by an attribute, for every group.

    It is for people who ask to be forgotten.

    They are looked for on all partitions of the stream, or on one.

    It reads the whole stream, so its cost grows with what is stored. A handler that
    runs at that moment ends its attempt; if that fails, no retry follows. Where the
    order of keys is kept, a key whose first event was deleted goes on with the next
    look of a reclaimer. The errors and audit records of an event stay: they have no body.

    Args:
        broker: an open broker.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    @on_each(_sum)
    async def erase(self, attribute: str, value: str) -> Erased:
        """Delete every event that has this value.

        Events are deleted whether they wait, are scheduled, wait for a retry, run or
        are dead. An erasure that was interrupted is run again.

        Args:
            attribute: ``subject``, ``key``, ``tenant``, ``instance``, ``source``, or
                the name of a header.
            value: exactly this.

        Raises:
            ConfigurationError: the attribute or the value is empty.
        """
        if not attribute or not value or not isinstance(value, str):
            raise ConfigurationError(
                f"name what to erase, e.g. subject and its value; {sorted(META_NAMES)}"
            )

        levels = await self._inspecting.levels(self.stream)
        wanted = {attribute: value}
        # Scheduled ones first: they only ever move on to a level, which is read after
        # that.
        scheduled = await self._scheduled(levels, wanted)
        stored = 0

        for level in levels:
            stored += await self._stored(level, wanted)

        return Erased(stored, scheduled, await self._dead(levels, wanted))

    async def _scheduled(self, levels: Sequence[int], wanted: Mapping[str, str]) -> int:
        cancelling = CancelStore(self._broker, self._keys, levels)
        found: list[str] = []
        async for page in EraseStore(self._broker, self._keys).scheduled():
            found += [name for name, fields in page if _has(read_meta(fields), wanted)]

        gone = 0

        for some in parts(found, MOST):
            gone += sum(await cancelling.scheduled(some, self._by))

        return gone

    async def _stored(self, level: int, wanted: Mapping[str, str]) -> int:
        gone, after = 0, ""
        store = EraseStore(self._broker, self._keys)
        while page := await self._inspecting.scan(self.stream, level, after, _PAGE):
            found = [
                entry_id for entry_id, fields in page if _has(read_meta(fields), wanted)
            ]
            if found:
                gone += await store.erase(level, found, self._by)

            after = page[-1][0]

        return gone

    async def _dead(self, levels: Sequence[int], wanted: Mapping[str, str]) -> int:
        if not levels:
            return 0

        gone = 0
        written = await GroupStore(self._broker, self._keys, levels).config()
        groups = {*await self._groups(), *written.groups, *written.dropped}

        # A group that was given up may have left dead letters.
        for group in sorted(groups):
            letters = DeadLetters(
                self._broker, self.stream, group, by=self._by, partition=0
            )
            found = [
                letter.id
                async for letter in letters.iterate()
                if _has(letter.meta, wanted)
            ]

            if found:
                gone += await letters.discard(found)

        return gone


def _has(meta: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> bool:
    return bool(meta) and all(
        meta.get(name) == value  # type: ignore[union-attr]
        for name, value in wanted.items()
    )
