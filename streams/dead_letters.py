"""Dead letters: look at them, replay them, discard them, export them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streams.broker import Broker
from streams.broker.dead_letters import DeadLetterStore, StoredLetter
from streams.codec import encode_body
from streams.dead_letter import DeadLetter, Filter, letter_of
from streams.errors import ConfigurationError, NotFound
from streams.keys import checked_name

_PAGE = 500
_BATCH = 100
_LETTER_ID = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(slots=True)
class Replay:
    """Outcome of a replay.

    Attributes:
        matched: how many letters were meant.
        moved: letter id to new ``level|entry id``, of each letter that was put back.
    """

    matched: int = 0
    moved: dict[str, str] = field(default_factory=dict)


class LetterPage(NamedTuple):
    """A part of the dead letters: those that were meant, and where to go on ('' at the end)."""

    letters: list[DeadLetter]
    next: str


class DeadLetters:
    """The dead letters of one group.

    Args:
        broker: an open broker.
        stream: the stream's name.
        group: the group's name.
        by: who acts, for the audit record.
    """

    def __init__(self, broker: Broker, stream: str, group: str, *, by: str = "") -> None:
        keys = broker.keys(stream)
        self.stream = keys.stream
        self.group = checked_name(group, "group")
        self._by = by or "unknown"
        self._observers = broker.observers
        self._store = DeadLetterStore(broker, keys, self.group)

    async def count(self) -> int:
        """How many there are. One command."""
        return await self._store.count()

    async def iterate(self, where: Filter | None = None, *, after: str = "") -> AsyncIterator[DeadLetter]:
        """Dead letters that the filter takes (None: all), oldest first, from behind the id ``after``; page by page."""
        where = where or Filter()
        while page := await self._store.page(_checked_id(after) if after else "", _PAGE):
            for stored in page:
                letter = letter_of(stored)
                if where.takes(letter):
                    yield letter
            after = page[-1].letter_id

    async def page(self, where: Filter | None = None, *, after: str = "", limit: int = 50) -> list[DeadLetter]:
        """At most ``limit`` of those that the filter takes, oldest first; ``after`` is the id of the last one seen."""
        found: list[DeadLetter] = []
        if limit <= 0:
            return found
        async for letter in self.iterate(where, after=after):
            found.append(letter)
            if len(found) >= limit:
                break
        return found

    async def look(
        self, where: Filter | None = None, *, after: str = "", limit: int = 50, examine: int = 5000
    ) -> LetterPage:
        """As ``page``, of at most ``examine`` letters: at most one command per 500 of them, whatever there is."""
        where, found, seen = where or Filter(), list[DeadLetter](), 0
        while seen < examine and (page := await self._store.page(_checked_id(after) if after else "", _PAGE)):
            for stored in page:
                letter = letter_of(stored)
                seen, after = seen + 1, stored.letter_id
                if where.takes(letter):
                    found.append(letter)
                    if len(found) >= limit:
                        return LetterPage(found, after)
        return LetterPage(found, after if seen >= examine else "")

    async def count_matching(self, where: Filter, most: int) -> tuple[int, bool]:
        """How many of the first ``most`` letters the filter takes, and whether there are letters behind them."""
        if not where:
            count = await self.count()
            return count, False
        page = await self.look(where, limit=most, examine=most)
        return len(page.letters), bool(page.next)

    async def latest(self, most: int) -> AsyncIterator[DeadLetter]:
        """The newest, newest first; one command per 500."""
        before = ""
        while most > 0 and (page := await self._store.back(before, min(_PAGE, most))):
            for stored in page:
                yield letter_of(stored)
            before, most = page[-1].letter_id, most - len(page)

    async def show(self, letter_id: str) -> DeadLetter:
        """One of them.

        Raises:
            NotFound: there is none with this id (any more).
        """
        stored = await self._store.get(_checked_id(letter_id))
        if stored is None:
            raise NotFound(f"{self.stream}/{self.group} has no dead letter {letter_id}")
        return letter_of(stored)

    async def replay(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> Replay:
        """Put dead letters back on their levels, with their event ids; counts and audits the replay.

        Args:
            which: a filter, or ids. Letters that die while the replay runs are not taken.
            dry_run: only count.
            rate: at most this many per second.
            limit: at most this many.

        Raises:
            NotFound: an id that was given is not there; nothing was moved.
            GroupDropped: the group was given up, so nothing would handle them; nothing was moved.
            ConfigurationError: ``rate`` is not above 0.
        """
        outcome = Replay()
        async for part in self.replaying(which, dry_run=dry_run, rate=rate, limit=limit):
            outcome.matched += part.matched
            outcome.moved |= part.moved
        return outcome

    async def replaying(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Replay]:
        """As ``replay``, telling of each batch after it was put back; who stops listening stops the replay.

        Raises:
            NotFound: an id that was given is not there; nothing was moved.
            GroupDropped: the group was given up, so nothing would handle them.
            ConfigurationError: ``rate`` is not above 0.
        """
        if rate is not None and not rate > 0:
            raise ConfigurationError(f"rate is a number of letters per second above 0, not {rate!r}")
        batch_size = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 10)))
        async for batch in self._batches(which, batch_size, limit):
            outcome = Replay(len(batch))
            if not dry_run:
                places = await self._store.replay(batch, self._by)
                for observer in self._observers:
                    observer.replayed(self.stream, self.group, batch, places)
                outcome.moved = {s.letter_id: place for s, place in zip(batch, places, strict=True) if place}
            yield outcome
            if rate is not None and not dry_run:
                await asyncio.sleep(len(batch) / rate)

    async def replay_edited(self, letter_id: str, data: Any) -> str:
        """Put one dead letter back with another body; the rest of the event stays, its id too. Returns where it is now.

        Args:
            letter_id: of the letter.
            data: the new body; bytes pass as they are, everything else as the event's media type says.

        Raises:
            NotFound: there is no such letter (any more).
            GroupDropped: the group was given up, so nothing would handle it.
            EventError: ``data`` cannot be a body.
        """
        stored = await self._store.get(_checked_id(letter_id))
        place = ""
        if stored is not None:
            body = encode_body(data, content_type=letter_of(stored).meta.get("datacontenttype"))
            place = await self._store.replay_edited(stored, body, self._by)
            for observer in self._observers:
                observer.replayed(self.stream, self.group, [stored], [place])
        if not place:
            raise NotFound(f"{self.stream}/{self.group} has no dead letter {letter_id}")
        return place

    async def discard(self, which: Filter | Sequence[str], *, dry_run: bool = False) -> int:
        """Delete dead letters for good, audited; returns how many.

        Args:
            which: a filter, or ids.
            dry_run: only count.

        Raises:
            NotFound: an id that was given is not there; nothing was deleted.
        """
        count = 0
        async for batch in self._batches(which, _BATCH, None):
            if dry_run:
                count += len(batch)
            else:
                count += await self._store.discard([stored.letter_id for stored in batch], self._by)
        return count

    async def export(self, where: Filter | None = None) -> AsyncIterator[dict[str, Any]]:
        """Every letter with its stored fields, body included, as plain JSON types."""
        async for letter in self.iterate(where):
            yield letter.as_dict(body=True)

    async def _batches(
        self, which: Filter | Sequence[str], size: int, limit: int | None
    ) -> AsyncIterator[list[StoredLetter]]:
        source = self._matching(which) if isinstance(which, Filter) else _each(await self._all(which))
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
        """Letters that the filter takes, up to the newest one of now: an event that dies again is not met twice."""
        after, last = "", await self._store.newest()
        while page := await self._store.page(after, _PAGE):
            for stored in page:
                if _order(stored.letter_id) > _order(last):
                    return
                if where.takes(letter_of(stored)):
                    yield stored
            after = page[-1].letter_id

    async def _all(self, letter_ids: Iterable[str]) -> list[StoredLetter]:
        found = []
        for letter_id in dict.fromkeys(letter_ids):
            stored = await self._store.get(_checked_id(letter_id))
            if stored is None:
                raise NotFound(f"{self.stream}/{self.group} has no dead letter {letter_id}; nothing was changed")
            found.append(stored)
        return found


async def _each(items: Iterable[StoredLetter]) -> AsyncIterator[StoredLetter]:
    for item in items:
        yield item


def _checked_id(letter_id: str) -> str:
    if not _LETTER_ID.fullmatch(letter_id):
        raise NotFound(
            f"{letter_id!r} is no id of a dead letter: ids look like 1700000000000-0 (see 'streams dead ls')"
        )
    return letter_id


def _order(letter_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = letter_id.partition("-")
    return int(milliseconds or 0), int(sequence or 0)
