"""Dead letters: look at them, replay them, discard them, export them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from streams.broker import Broker
from streams.broker.dead_letters import DeadLetterStore, StoredLetter
from streams.codec import decode
from streams.errors import ConfigurationError, EventError, NotFound
from streams.keys import checked_name, member
from streams.retry import AttemptRecord

_PAGE = 500
_BATCH = 100
_LETTER_ID = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(slots=True)
class DeadLetter:
    """An event that failed for good.

    Attributes:
        id: of the dead letter; what ``show``, ``replay`` and ``discard`` take.
        reason: a stable word: retries-used-up, stalled, rejected, not-retryable, malformed, too-large, expired,
            invalid, no-handler.
        died_at: Unix time, seconds.
        level, entry_id: where the event was.
        event_id, type: of the event; '' where it cannot be read.
        failures, stalls: attempts that raised, and deliveries whose consumer went silent.
        errors: the latest errors, oldest first; messages are masked.
        consumer: who moved it here.
        replays: how often it was replayed before.
        size: bytes of the body.
        meta: metadata as published, without the body.
        fields: the stored fields, names and values as bytes.
    """

    id: str
    reason: str
    died_at: float
    level: int
    entry_id: str
    event_id: str
    type: str
    failures: int
    stalls: int
    errors: list[dict[str, Any]]
    consumer: str
    replays: int
    size: int
    meta: dict[str, Any]
    fields: list[tuple[bytes, bytes]] = field(repr=False)

    @property
    def attempts(self) -> int:
        """Attempts that were started."""
        return self.failures + self.stalls

    @property
    def last_error(self) -> str:
        """The latest error in one line."""
        if not self.errors:
            return ""
        error = self.errors[-1]
        return f"{error.get('type', '')}: {error.get('message', '')}".rstrip(": ")

    def as_dict(self, *, body: bool = False) -> dict[str, Any]:
        """As plain JSON types; the stored fields, and with them the body, only with ``body``.

        Bytes that are no UTF-8 become ``{"base64": ...}``.
        """
        plain = asdict(self)
        stored = plain.pop("fields")
        if body:
            plain["fields"] = [[_text(name), _text(value)] for name, value in stored]
        return plain


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; what is not given does not narrow.

    Attributes:
        type, reason, event_id, tenant: equal.
        error: part of the latest error's class or message, case ignored.
        level: the level.
        since, until: Unix seconds; when the letter died.
    """

    type: str | None = None
    reason: str | None = None
    error: str | None = None
    event_id: str | None = None
    tenant: str | None = None
    level: int | None = None
    since: float | None = None
    until: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        return (
            (self.type is None or letter.type == self.type)
            and (self.reason is None or letter.reason == self.reason)
            and (self.error is None or self.error.lower() in letter.last_error.lower())
            and (self.event_id is None or letter.event_id == self.event_id)
            and (self.tenant is None or letter.meta.get("tenant") == self.tenant)
            and (self.level is None or letter.level == self.level)
            and (self.since is None or letter.died_at >= self.since)
            and (self.until is None or letter.died_at <= self.until)
        )


@dataclass(slots=True)
class Replay:
    """Outcome of a replay.

    Attributes:
        matched: how many letters were meant.
        moved: letter id to new ``level|entry id``, of each letter that was put back.
    """

    matched: int = 0
    moved: dict[str, str] = field(default_factory=dict)


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
        self._store = DeadLetterStore(broker, keys, self.group)

    async def count(self) -> int:
        """How many there are. One command."""
        return await self._store.count()

    async def iterate(self, where: Filter | None = None, *, after: str = "") -> AsyncIterator[DeadLetter]:
        """Dead letters that the filter takes (None: all), oldest first, from behind the id ``after``; page by page."""
        where = where or Filter()
        while page := await self._store.page(_checked_id(after) if after else "", _PAGE):
            for stored in page:
                letter = _letter(stored)
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

    async def show(self, letter_id: str) -> DeadLetter:
        """One of them.

        Raises:
            NotFound: there is none with this id (any more).
        """
        stored = await self._store.get(_checked_id(letter_id))
        if stored is None:
            raise NotFound(f"{self.stream}/{self.group} has no dead letter {letter_id}")
        return _letter(stored)

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
            ConfigurationError: ``rate`` is not above 0.
        """
        if rate is not None and not rate > 0:
            raise ConfigurationError(f"rate is a number of letters per second above 0, not {rate!r}")
        outcome = Replay()
        batch_size = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 10)))
        async for batch in self._batches(which, batch_size, limit):
            outcome.matched += len(batch)
            if dry_run:
                continue
            places = await self._store.replay(batch, self._by)
            outcome.moved |= {s.letter_id: place for s, place in zip(batch, places, strict=True) if place}
            if rate is not None:
                await asyncio.sleep(len(batch) / rate)
        return outcome

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
                if where.takes(_letter(stored)):
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


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _letter(stored: StoredLetter) -> DeadLetter:
    record = AttemptRecord.from_json(stored.record)
    pairs = list(zip(stored.fields[::2], stored.fields[1::2], strict=False))
    named = dict(pairs)
    meta: dict[str, Any] = {}
    with contextlib.suppress(EventError):
        # Only the metadata is wanted: a body that cannot be read is often why the letter is here.
        meta = dict(decode([b"type", b"x", b"data", b"0", b"meta", named.get(b"meta", b"")]).meta)
    replays = named.get(b"replays", b"0")
    return DeadLetter(
        id=stored.letter_id,
        reason=stored.reason,
        died_at=stored.at,
        level=stored.level,
        entry_id=stored.entry_id,
        event_id=named.get(b"id", b"").decode(errors="replace") or member(stored.level, stored.entry_id),
        type=named.get(b"type", b"").decode(errors="replace"),
        failures=record.failures,
        stalls=record.stalls,
        errors=record.errors,
        consumer=stored.consumer,
        replays=int(replays) if replays.isdigit() and len(replays) < 10 else 0,
        size=len(named.get(b"data", b"")),
        meta=meta,
        fields=pairs,
    )
