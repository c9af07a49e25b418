"""From what a caller publishes to the fields of an entry.

Every limit is checked before anything is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple, cast

from streams.broker import ServerClock
from streams.broker.entries.publish import Prepared
from streams.common.arguments import checked_seconds
from streams.errors import ConfigurationError, EventError, EventTooLarge, StreamsError
from streams.events.attributes import LONGEST_DELAY, LONGEST_EXPIRY
from streams.events.codec import (
    BYTES_TYPE,
    check_id,
    check_type,
    encode_all,
    encode_body,
    encode_meta,
    is_json,
)
from streams.events.event import Event, EventAttributes, meta_of, new_event_id
from streams.policy.levels import Levels
from streams.quantities import When

_BINARY = (bytes, bytearray, memoryview)
_NO_PLAIN_BODY = (Event, *_BINARY)
_OWN = frozenset({"id", "dedup_id", "expires"})
"""Attributes that differ from event to event, so that no shape has them."""
_MOST_SHAPES = 1000
_NO_CARRIER: Mapping[str, str] = {}
_PREPARED = partial(tuple.__new__, Prepared)
"""From a tuple of its attributes, without the constructor, which is written in Python."""


class _Shape(NamedTuple):
    """The common part of events published with the same type and attributes."""

    kind: str
    level: int
    meta: bytes
    delay_ms: int
    content_type: str | None


class Preparing:
    """Prepares events for one stream.

    Args:
        clock: the server's, for expiry.
        levels: of the stream.
        max_event_bytes: the largest body, and the largest metadata.
    """

    def __init__(
        self, clock: ServerClock, levels: Levels, max_event_bytes: int
    ) -> None:
        self._clock = clock
        self._levels = levels
        self._limit = max_event_bytes
        self._shapes: dict[str, _Shape] = {}

    def one(
        self,
        data: Any,
        kind: str | None,
        attributes: EventAttributes,
        carrier: Mapping[str, str] = _NO_CARRIER,
    ) -> Prepared:
        """Prepare one event; it gets the trace of ``carrier`` where it has none.

        Raises:
            StreamsError: it breaks a limit or the wire format.
        """
        if (
            not attributes
            and not carrier
            and kind is not None
            and not isinstance(data, _NO_PLAIN_BODY)
        ):
            return self._like(self._plain(kind), data)
        if isinstance(data, Event):
            _refuse_keywords(kind, attributes)
            return self._event(_carrying(data, carrier) if carrier else data)
        return self._event(
            Event(
                _missing_type() if kind is None else kind,
                data,
                **_traced(attributes, carrier),
            )
        )

    def all(
        self,
        items: Sequence[Any],
        kind: str | None,
        attributes: EventAttributes,
        carrier: Mapping[str, str] = _NO_CARRIER,
    ) -> tuple[list[Prepared], StreamsError | None]:
        """The events before the first that is refused, and why it is refused.

        The events before it are still published.
        """
        prepared: list[Prepared] = []
        try:
            if kind is not None and _OWN.isdisjoint(attributes):
                prepared = self._alike(
                    items, self._shape(kind, _traced(attributes, carrier))
                )
            for item in items[len(prepared) :]:
                prepared.append(self.one(item, kind, attributes, carrier))
        except StreamsError as error:
            return prepared, error
        return prepared, None

    def _alike(self, items: Sequence[Any], shape: _Shape) -> list[Prepared]:
        """As ``_like`` of each, in half the time.

        Nothing if one of them is no plain body within the limits.
        """
        kind, level, meta, delay_ms, content_type = shape
        if any(map(isinstance, items, repeat(_NO_PLAIN_BODY))) or not is_json(
            content_type
        ):
            return []
        try:
            bodies = encode_all(items)
        except EventError:
            return []
        if max(map(len, bodies), default=0) > self._limit:
            return []
        ids = (new_event_id() for _ in bodies)
        rest = map(repeat, (kind, level, meta, delay_ms, None))
        return list(map(_PREPARED, zip(ids, bodies, *rest, strict=False)))

    def _like(self, shape: _Shape, data: Any) -> Prepared:
        kind, level, meta, delay_ms, content_type = shape
        body = encode_body(data, self._limit, content_type)
        return _PREPARED((new_event_id(), body, kind, level, meta, delay_ms, None))

    def _plain(self, kind: str) -> _Shape:
        shape = self._shapes.get(kind) if isinstance(kind, str) else None
        if shape is None:
            shape = self._shape(kind, {})
            if len(self._shapes) < _MOST_SHAPES:
                self._shapes[kind] = shape
        return shape

    def _shape(self, kind: str, attributes: EventAttributes) -> _Shape:
        meta = meta_of(attributes)
        return _Shape(
            check_type(kind),
            self._levels.level_for(attributes.get("priority", 0)),
            self._meta(meta),
            self._milliseconds(attributes.get("delay", 0.0)),
            meta.get("datacontenttype"),
        )

    def _event(self, event: Event[Any]) -> Prepared:
        meta = event.meta
        body = encode_body(event.data, self._limit, meta.get("datacontenttype"))
        event_id = check_id(event.id) if event.id else new_event_id()
        if event.dedup_id is not None:
            check_id(event.dedup_id, "dedup_id")
        binary = isinstance(event.data, _BINARY)
        if event.expires_in is not None or (binary and "datacontenttype" not in meta):
            meta = dict(meta)
            if event.expires_in is not None:
                meta["expires"] = self._expiry(event.expires_in)
            if binary:
                meta.setdefault("datacontenttype", BYTES_TYPE)
        level = self._levels.level_for(event.priority)
        delay_ms = self._milliseconds(event.delay)
        return Prepared(
            event_id,
            body,
            check_type(event.type),
            level,
            self._meta(meta),
            delay_ms,
            event.dedup_id,
        )

    def _meta(self, meta: dict[str, Any]) -> bytes:
        if not meta:
            return b""
        encoded = encode_meta(meta)
        if len(encoded) > self._limit:
            raise EventTooLarge(len(encoded), self._limit)
        return encoded

    def _milliseconds(self, delay: When) -> int:
        if delay in (0, None):
            return 0
        return round(
            checked_seconds("delay", delay, 0, LONGEST_DELAY, now=self._clock.now)
            * 1000
        )

    def _expiry(self, expires: When) -> float:
        """The Unix time after which the event must not be handled."""
        if isinstance(expires, datetime) and expires.tzinfo is not None:
            return round(expires.timestamp(), 3)
        seconds = checked_seconds(
            "expires", expires, 0, LONGEST_EXPIRY, now=self._clock.now, above=True
        )
        return round(self._clock.now() + seconds, 3)


def _traced(attributes: EventAttributes, carrier: Mapping[str, str]) -> EventAttributes:
    """Attributes with a trace.

    An event that has one keeps it, so that forwarding does not break it.
    """
    if not carrier or "traceparent" in attributes:
        return attributes
    # The names of a trace are attributes.
    return cast("EventAttributes", {**attributes, **carrier})


def _carrying(event: Event[Any], carrier: Mapping[str, str]) -> Event[Any]:
    """As ``_traced``, for an ``Event``, which stays as its caller has it."""
    if "traceparent" in event.meta:
        return event
    made = copy.copy(event)
    made.meta = {**event.meta, **carrier}
    return made


def _missing_type() -> str:
    raise ConfigurationError("publish needs type=..., e.g. type='order.created'")


def _refuse_keywords(kind: str | None, attributes: EventAttributes) -> None:
    """Refuse keywords beside an ``Event``, which says everything itself.

    They would be lost, a delay or a ``dedup_id`` among them.
    """
    meta_of(attributes)  # An unknown name has its own sentence.
    names = [
        name
        for name, value in {"type": kind, **attributes}.items()
        if value is not None
    ]
    if names:
        example = next((name for name in names if name != "type"), "key")
        given = ", ".join(f"{name}=" for name in names)
        raise ConfigurationError(
            f"{given} cannot be given beside an "
            "Event: what describes an event "
            f"stands in the Event itself, e.g. Event('order.created', data, {example}=...)"
        )
