"""publish, schedule, promote: how events get onto their streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.errors import BrokerError, BrokerUnavailable, OutOfMemory
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
    """An event ready to be stored: type, level, timing, body and metadata (JSON; empty for none)."""

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
    """Cut a batch where the way of storing changes or one request would get too large; order is kept."""
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


class Stored(NamedTuple):
    """What the server answered for one event: ``place`` is an entry id, or ``level|event id`` while scheduled."""

    place: str
    event_id: str
    level: int
    duplicate: bool = False


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
    """

    def __init__(
        self,
        broker: Broker,
        keys: Keys,
        levels: Levels,
        *,
        max_len: int = 0,
        dedup_window: float = 3600.0,
    ) -> None:
        self._keys = keys
        self._levels = levels
        self._max_len = max_len
        self._window_ms = max(1, round(dedup_window * 1000))
        self._link = broker.link(depth=2)
        self._observers = broker.observers
        self._streams = [keys.level(level) for level in levels.descending]
        self._index = {level: i + 1 for i, level in enumerate(levels.descending)}
        self._stream_of = dict(zip(levels.descending, self._streams, strict=True))

    async def register(self) -> Partitions:
        """Write down that the stream exists; returns how it is spread. Idempotent.

        The index may be on another server than the stream. It is written later if that one is away.
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

    async def add_one(self, event: Prepared) -> str:
        """Store one event for now; returns its entry id, '' if the stream is full. One plain command, no script."""
        if self._max_len:
            return (await self.add((event,)))[0]
        reply: bytes = await self._link.call(
            "XADD", self._stream_of[event.level], "*", *event.fields
        )
        place = reply.decode()
        if self._observers:
            self._tell((event,), (place,))
        return place

    async def add(self, events: Sequence[Prepared]) -> list[str]:
        """Store events for now, all in one script; returns entry ids, '' where the stream was full."""
        return await self.send(events, self.adding(events))

    async def send(self, events: Sequence[Prepared], adding: Packed) -> list[str]:
        """As ``add``, with the command that ``adding`` made; one can be made while another is under way."""
        places = [place.decode() for place in await self._link.send(adding)]
        if self._observers:
            self._tell(events, places)
        return places

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

    async def schedule(self, events: Sequence[Prepared]) -> list[str]:
        """Store events for later; returns their members, '' where the stream was full."""
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
        members = [
            member.decode()
            for member in await self._link.call(*_SCHEDULE.command(keys, *arguments))
        ]
        if self._observers:
            self._tell(events, members)
        return members

    async def add_once(
        self, events: Sequence[Prepared]
    ) -> list[Stored | BrokerError | None]:
        """Store events that have a dedup id; None where the stream was full, the refusal where one was refused.

        Safe to send again after a lost answer.
        """
        replies = await self._link.batch([self._once(event) for event in events])
        for reply in replies:
            if isinstance(reply, BrokerUnavailable):
                raise reply
        answers = [
            reply if isinstance(reply, BrokerError) else _stored(*reply)
            for reply in replies
        ]
        if self._observers:
            self._tell(events, [_new_place(answer) for answer in answers])
        return answers

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


def _stored(code: int, event_id: bytes, level: bytes, place: bytes) -> Stored | None:
    return (
        None
        if code < 0
        else Stored(place.decode(), event_id.decode(), int(level), code == 0)
    )


def _new_place(answer: Stored | BrokerError | None) -> str:
    """Where an event was stored by this call; '' for a duplicate, which was stored by another one."""
    return answer.place if isinstance(answer, Stored) and not answer.duplicate else ""


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
