"""What a harness writes down: events that were published, attempts that ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from streams.broker.entries.observing import Observer
from streams.broker.entries.publish import Prepared
from streams.events.codec import decode
from streams.events.event import Event
from streams.middleware import Attempt, Middleware
from streams.policy.partitions import base_of


class Failure(NamedTuple):
    """An attempt that raised: ``event`` with its ``attempt`` number, and the exception itself."""

    event: Event[Any]
    error: BaseException


class _Published(NamedTuple):
    stream: str
    prepared: Prepared
    place: str


class Record:
    """What happened since the harness was opened, in order. Filled from several threads; appending is atomic."""

    def __init__(self) -> None:
        self._published: list[_Published] = []
        self.done: list[Event[Any]] = []
        self.failures: list[Failure] = []
        self.running: dict[int, tuple[Event[Any], float]] = {}

    @property
    def attempts(self) -> int:
        """How many attempts have ended."""
        return len(self.done) + len(self.failures)

    def published(self, stream: str, kind: str | None) -> list[Event[Any]]:
        """The events that were stored on a stream, decoded anew from what was sent."""
        return [
            event
            for row in list(self._published)
            if stream in (row.stream, base_of(row.stream))
            and (event := _event(row))
            and kind in (None, event.type)
        ]

    def streams(self) -> set[str]:
        """The streams that something was published on, by the name that publishers use."""
        return {base_of(row.stream) for row in list(self._published)}

    def types(self, stream: str) -> set[str]:
        """The types of what was published on a stream."""
        return {event.type for event in self.published(stream, None)}

    def add(
        self, stream: str, events: Sequence[Prepared], places: Sequence[str]
    ) -> None:
        """Write down what was stored; '' stands for what was not."""
        rows = zip(events, places, strict=True)
        self._published += [
            _Published(stream, event, place) for event, place in rows if place
        ]


class Recorder(Middleware, Observer):
    """Writes down what is stored, and how attempts end. As the outermost middleware it sees their final outcome."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def published(
        self, stream: str, events: Sequence[Prepared], places: Sequence[str]
    ) -> None:
        """Events were stored, by whichever way of publishing."""
        self._record.add(stream, events, places)

    def before(self, attempt: Attempt) -> None:
        """The attempt begins."""
        self._record.running[id(attempt)] = (attempt.event, time.monotonic())

    def after(self, attempt: Attempt) -> None:
        """It succeeded; one that a middleware has skipped has not been handled."""
        self._record.running.pop(id(attempt), None)
        if not attempt.skipped:
            self._record.done.append(attempt.event)

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """It failed. A cancelled attempt did not end, unless by its timeout."""
        self._record.running.pop(id(attempt), None)
        if attempt.cancelled not in ("lost", "shutdown"):
            self._record.failures.append(Failure(attempt.event, error))


def _event(row: _Published) -> Event[Any]:
    prepared = row.prepared
    event = decode(
        [
            field.encode() if isinstance(field, str) else bytes(field)
            for field in prepared.fields
        ]
    )
    event.stream = row.stream
    event.priority = prepared.level
    event.delay = prepared.delay_ms / 1000
    event.dedup_id = prepared.dedup_id
    event.entry_id = "" if "|" in row.place else row.place
    return event
