"""publish, schedule, promote: how events get onto their streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.errors import BrokerError, BrokerUnavailable, OutOfMemory
from streams.events.receipt import Receipt
from streams.policy.levels import Levels
from streams.policy.partitions import Partitions

if TYPE_CHECKING:
    from streams.broker.server.wire import Packed

_PUBLISH = Script("publish")
_SCHEDULE = Script("schedule")
_PUBLISH_ONCE = Script("publish_once")
_PROMOTE = Script("promote")

_MOST_BYTES = 1024 * 1024
_OVERHEAD = 100


class Prepared(NamedTuple):
    """An event ready to be stored; body and metadata are JSON, empty for none."""

    event_id: str
    body: bytes
    kind: str
    level: int
    meta: bytes = b""
    delay_ms: int = 0
    dedup_id: str | None = None

    @property
    def fields(self) -> tuple[bytes | str, ...]:
        """The entry's fields and values, in the order of the wire format."""
        tail = ("meta", self.meta) if self.meta else ()
        return ("type", self.kind, "id", self.event_id, "data", self.body, *tail)

    @property
    def size(self) -> int:
        """Bytes of body and metadata."""
        return len(self.body) + len(self.meta)

    @property
    def way(self) -> tuple[bool, bool]:
        """How it is stored: with a dedup id or without, later or now."""
        return self.dedup_id is not None, self.delay_ms > 0


def parts(events: list[Prepared]) -> Iterator[list[Prepared]]:
    """Cut a batch where the way of storing changes, or a request would get too large.

    The order is kept.
    """
    if _is_one_part(events):
        yield events
        return
    part: list[Prepared] = []
    size = 0
    later = once = False
    for event in events:
        more = len(event.body) + len(event.meta)
        if part and (
            size + more > _MOST_BYTES
            or later != (event.delay_ms > 0)
            or once != (event.dedup_id is not None)
        ):
            yield part
            part, size = [], 0
        if not part:
            once, later = event.way
        part.append(event)
        size += more + _OVERHEAD
    if part:
        yield part


def _is_one_part(events: list[Prepared]) -> bool:
    """Whether these are plain events that fit into one request, as they mostly are."""
    if not events:
        return False
    _, bodies, _, _, metas, delays, dedup_ids = zip(*events, strict=True)
    size = sum(map(len, bodies)) + sum(map(len, metas)) + _OVERHEAD * len(events)
    return size <= _MOST_BYTES and not any(delays) and not any(dedup_ids)


Answer = Receipt | BrokerError | None
"""Of one event: its receipt, why it was refused, or None where the stream was full."""
_RECEIPT = partial(tuple.__new__, Receipt)
"""A receipt from a tuple, without its constructor, which is written in Python."""
_NO_DUPLICATE = repeat(False)  # noqa: FBT003 - the value of an attribute, not an argument


class Promotion(NamedTuple):
    """Outcome of one ``promote``: ``next_due`` in Unix seconds, or None if nothing is scheduled."""

    moved: int
    next_due: float | None


class Publishing:
    """Writes events of one stream.

    Args:
        broker: the server.
        keys: of the stream.
        levels: of the stream.
        max_len: limit on the stream's unfinished events; 0: none.
        dedup_window: seconds during which a dedup id is remembered.
        partition: its number, for receipts.
    """

    def __init__(
        self,
        broker: Broker,
        keys: Keys,
        levels: Levels,
        *,
        max_len: int = 0,
        dedup_window: float = 3600.0,
        partition: int = 0,
    ) -> None:
        self._keys = keys
        self._levels = levels
        self._max_len = max_len
        self._partition = partition
        self._window_ms = max(1, round(dedup_window * 1000))
        self._link = broker.link(depth=2)
        self._observers = broker.observers
        self._streams = [keys.level(level) for level in levels.descending]
        self._index = {level: i + 1 for i, level in enumerate(levels.descending)}
        self._stream_of = dict(zip(levels.descending, self._streams, strict=True))

    async def register(self) -> Partitions:
        """Write down that the stream exists; returns how it is spread. Idempotent.

        The index may be on another server than the stream. It is written later if that
        one is away.
        """
        levels: Command = ("SADD", self._keys.levels(), *self._levels.ascending)
        refused, spread = await self._link.batch(
            [levels, ("GET", self._keys.partitions())]
        )
        for reply in (refused, spread):
            if isinstance(reply, BrokerError) and not isinstance(reply, OutOfMemory):
                raise reply
        rows = (f"{self._keys.stream}|{level}" for level in self._levels.ascending)
        await self._link.see_to("SADD", self._keys.index(), *rows)
        return Partitions.parse(spread)

    async def store(
        self, events: Sequence[Prepared], adding: Packed | None = None
    ) -> list[Answer]:
        """Store events that are stored the same way; see ``Prepared.way``.

        Sending events with a dedup id again is safe after a lost answer.

        Args:
            events: at least one.
            adding: the command that ``adding`` made of them. It can be made while
                another one is under way.
        """
        first = events[0]
        if first.dedup_id is not None:
            return await self._store_once(events)
        if first.delay_ms:
            places = await self._schedule(events)
            return self._stored(events, places, repeat(""))
        if adding is None and len(events) == 1 and not self._max_len:
            # One plain command costs the server less than a script.
            stream = self._stream_of[first.level]
            replies = [await self._link.send(("XADD", stream, "*", *first.fields))]
        else:
            replies = await self._link.send(adding or self.adding(events))
        places = [place.decode() for place in replies]
        return self._stored(events, places, places)

    def _stored(
        self,
        events: Sequence[Prepared],
        places: Sequence[str],
        entry_ids: Iterable[str],
    ) -> list[Answer]:
        """The receipts; ``places`` is as ``Observer.published`` is told."""
        if self._observers:
            self._tell(events, places)
        ids, _, _, levels, *_ = zip(*events, strict=True)
        partition = repeat(self._partition)
        rows = zip(ids, levels, entry_ids, _NO_DUPLICATE, partition, strict=False)
        receipts: list[Answer] = list(map(_RECEIPT, rows))
        if "" in places:
            pairs = zip(receipts, places, strict=True)
            return [receipt if place else None for receipt, place in pairs]
        return receipts

    def adding(self, events: Sequence[Prepared]) -> Packed:
        """The command that stores events for now."""
        arguments: list[Any] = [self._max_len]
        run: tuple[str, int, bytes] | None = None
        run_at = 0
        for event_id, body, kind, level, meta, _, _ in events:
            if run is None or level != run[1] or kind != run[0] or meta != run[2]:
                run, run_at = (kind, level, meta), len(arguments) + 1
                arguments += (self._index[level], 0, kind, meta)
            arguments[run_at] += 1
            arguments += (event_id, body)
        return self._link.pack(
            _PUBLISH.command((*self._streams, self._keys.scheduled()), *arguments)
        )

    async def _schedule(self, events: Sequence[Prepared]) -> list[str]:
        """Store events for later; gives their members, '' where the stream was full."""
        arguments: list[Any] = [self._max_len]
        for event in events:
            arguments += (
                event.level,
                event.event_id,
                event.delay_ms,
                len(event.fields),
                *event.fields,
            )
        keys = (self._keys.scheduled(), self._keys.scheduled_fields(), *self._streams)
        members = await self._link.send(_SCHEDULE.command(keys, *arguments))
        return [member.decode() for member in members]

    async def _store_once(self, events: Sequence[Prepared]) -> list[Answer]:
        """Store events that have a dedup id."""
        replies = await self._link.batch([self._once(event) for event in events])
        for reply in replies:
            if isinstance(reply, BrokerUnavailable):
                raise reply
        if self._observers:
            self._tell(events, [_new_place(reply) for reply in replies])
        return [
            reply if isinstance(reply, BrokerError) else self._receipt(*reply)
            for reply in replies
        ]

    def _receipt(
        self, code: int, event_id: bytes, level: bytes, place: bytes
    ) -> Receipt | None:
        if code < 0:
            return None
        entry_id = "" if b"|" in place else place.decode()
        return Receipt(
            event_id.decode(), int(level), entry_id, code == 0, self._partition
        )

    def _tell(self, events: Sequence[Prepared], places: Sequence[str]) -> None:
        for observer in self._observers:
            observer.published(self._keys.stream, events, places)

    def _once(self, event: Prepared) -> Command:
        keys = (
            self._keys.dedup(event.dedup_id or ""),
            self._stream_of[event.level],
            self._keys.scheduled(),
            self._keys.scheduled_fields(),
            *self._streams,
        )
        return _PUBLISH_ONCE.command(
            keys,
            self._max_len,
            self._window_ms,
            event.level,
            event.event_id,
            event.delay_ms,
            *event.fields,
        )


def _new_place(reply: Any) -> str:
    """Where this call stored an event; '' for a duplicate, which another call stored."""
    if isinstance(reply, BrokerError):
        return ""
    code, _, _, place = reply
    return str(place, "utf-8") if code > 0 else ""


class Scheduling:
    """Moves scheduled events of one stream onto it when they are due."""

    def __init__(self, broker: Broker, keys: Keys, levels: Levels) -> None:
        self._clock = broker.clock
        self._link = broker.shared
        self.waits_for = keys.scheduled()
        """The key that exists only while something is scheduled."""
        streams = (keys.level(level) for level in levels.descending)
        self._keys = (keys.scheduled(), keys.scheduled_fields(), *streams)
        self._levels = levels.descending

    async def promote(self, limit: int) -> Promotion:
        """Move at most ``limit`` due events."""
        now, next_due, moved = await self._link.call(
            *_PROMOTE.command(self._keys, limit, *self._levels)
        )
        self._clock.observe(now)
        return Promotion(moved, None if next_due < 0 else next_due / 1000)
