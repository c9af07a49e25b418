"""The dead letters of one group on one partition: what ``DeadLetters`` is made of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streams.admin.dead_letter import DeadLetter, Filter, letter_of
from streams.broker import Broker
from streams.broker.admin.dead_letters import (
    DeadLetterStore,
    LetterAction,
    StoredLetter,
)
from streams.errors import NotFound
from streams.events.codec import encode_body
from streams.events.names import entry_order

_PAGE = 500
_BATCH = 100
_LETTER_ID = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(slots=True)
class Replay:
    """Outcome of a replay.

    Attributes:
        matched: how many dead letters were meant.
        moved: dead letter's id to new ``level|entry id``, of each that was put back. As
            partitions may have dead letters of the same id, it stands behind the
            partition's name on all but the first: ``orders.p2/ID``.
    """

    matched: int = 0
    moved: dict[str, str] = field(default_factory=dict)


class LetterPage(NamedTuple):
    """A part of the dead letters: those that were meant, and where to go on ('' at the end)."""

    letters: list[DeadLetter]
    next: str


class Letters:
    """The dead letters of one group of one stream or partition.

    Args:
        broker: an open broker.
        stream, group: names.
        by: the name of the operator, for the audit record.
    """

    def __init__(self, broker: Broker, stream: str, group: str, by: str) -> None:
        self.stream = stream
        self.group = group
        self._by = by
        self._observers = broker.observers
        self._store = DeadLetterStore(broker, broker.keys(stream), group)

    async def count(self) -> int:
        """How many there are."""
        return await self._store.count()

    async def get(self, letter_id: str) -> StoredLetter | None:
        """One of them, as it is stored."""
        return await self._store.get(letter_id)

    def read(self, stored: StoredLetter) -> DeadLetter:
        """A stored dead letter, read."""
        return letter_of(stored, self.stream)

    async def iterate(self, where: Filter, after: str) -> AsyncIterator[DeadLetter]:
        """Those that the filter takes, oldest first."""
        async for stored in self._stored(after):
            letter = self.read(stored)
            if where.takes(letter):
                yield letter

    async def _stored(self, after: str) -> AsyncIterator[StoredLetter]:
        """All of them, as they are stored, oldest first."""
        while page := await self._store.page(after, _PAGE):
            for stored in page:
                yield stored

            after = page[-1].letter_id

    async def look(
        self, where: Filter, after: str, limit: int, examine: int
    ) -> LetterPage:
        """A page of at most ``limit``, of at most ``examine`` that are looked at."""
        found, seen = list[DeadLetter](), 0
        while seen < examine and (page := await self._store.page(after, _PAGE)):
            for stored in page:
                letter = self.read(stored)
                seen, after = seen + 1, stored.letter_id
                if where.takes(letter):
                    found.append(letter)
                    if len(found) >= limit:
                        return LetterPage(found, after)

        return LetterPage(found, after if seen >= examine else "")

    async def latest(self, most: int) -> AsyncIterator[DeadLetter]:
        """The newest, newest first."""
        before = ""
        while most > 0 and (page := await self._store.back(before, min(_PAGE, most))):
            for stored in page:
                yield self.read(stored)

            before, most = page[-1].letter_id, most - len(page)

    async def replaying(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool,
        rate: float | None,
        limit: int | None,
    ) -> AsyncIterator[Replay]:
        """Put them back, batch by batch."""
        size = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 10)))
        action = LetterAction(self._by, _in_words(which), rate)

        async for batch in self._batches(which, size, limit):
            outcome = Replay(len(batch))
            if not dry_run:
                places = await self._store.replay(batch, action)
                for observer in self._observers:
                    observer.replayed(self.stream, self.group, batch, places)

                outcome.moved = {
                    s.letter_id: place
                    for s, place in zip(batch, places, strict=True)
                    if place
                }

            yield outcome
            if rate is not None and not dry_run:
                await asyncio.sleep(len(batch) / rate)

    async def replay_edited(self, letter_id: str, data: Any) -> str:
        """Put one back with another body.

        Returns where it is now; '' if there is none of this id.
        """
        stored = await self._store.get(letter_id)
        if stored is None:
            return ""

        body = encode_body(
            data, content_type=self.read(stored).meta.get("datacontenttype")
        )
        place = await self._store.replay_edited(stored, body, self._by)

        for observer in self._observers:
            observer.replayed(self.stream, self.group, [stored], [place])

        return place

    async def discard(self, which: Filter | Sequence[str], *, dry_run: bool) -> int:
        """Delete them; returns how many."""
        count, action = 0, LetterAction(self._by, _in_words(which))
        async for batch in self._batches(which, _BATCH, None):
            if dry_run:
                count += len(batch)
            else:
                count += await self._store.discard(
                    [stored.letter_id for stored in batch], action
                )

        return count

    async def _batches(
        self, which: Filter | Sequence[str], size: int, limit: int | None
    ) -> AsyncIterator[list[StoredLetter]]:
        source = (
            self._matching(which) if isinstance(which, Filter) else self._named(which)
        )
        batch: list[StoredLetter] = []
        taken = 0

        async for stored in source:
            if limit is not None and taken >= limit:
                break

            batch.append(stored)
            taken += 1
            if len(batch) == size:
                yield batch
                batch = []

        if batch:
            yield batch

    async def _matching(self, where: Filter) -> AsyncIterator[StoredLetter]:
        """Dead letters that the filter takes, up to the newest one of now.

        So an event that dies again is not met twice.
        """
        last = entry_order(await self._store.newest())
        async for stored in self._stored(""):
            if entry_order(stored.letter_id) > last:
                return

            if where.takes(self.read(stored)):
                yield stored

    async def _named(self, letter_ids: Iterable[str]) -> AsyncIterator[StoredLetter]:
        """Dead letters by their ids, which are all looked for before the first is given."""
        found = []
        for letter_id in dict.fromkeys(letter_ids):
            stored = await self._store.get(checked_id(letter_id))
            if stored is None:
                raise NotFound(
                    f"{self.stream}/{self.group} has no dead letter {letter_id}; "
                    "nothing was changed"
                )

            found.append(stored)

        for stored in found:
            yield stored


def _in_words(which: Filter | Sequence[str]) -> str:
    """The filter, for the audit record; '' for dead letters that were named."""
    return which.in_words() if isinstance(which, Filter) else ""


def checked_id(letter_id: str) -> str:
    """The id, if it can be one."""
    if not _LETTER_ID.fullmatch(letter_id):
        raise NotFound(
            f"{letter_id!r} is no id of a dead letter: ids look like 1700000000000-0 "
            "(see 'streams dead ls')"
        )

    return letter_id
