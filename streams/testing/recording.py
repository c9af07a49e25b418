"""The records of a harness: published events and ended attempts."""

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
    """The events since the harness was opened, in order.

    Several threads fill it. Appending to a list is atomic.
    """

    def __init__(self) -> None:
        self._published: list[_Published] = []
        self.done: list[Event[Any]] = []
        self.failures: list[Failure] = []
        self.running: dict[int, tuple[Event[Any], float]] = {}

    @property
    def attempts(self) -> int:
        """The number of ended attempts."""
        return len(self.done) + len(self.failures)

    def published(self, stream: str, kind: str | None) -> list[Event[Any]]:
        """The events that were stored on a stream, decoded from the stored fields."""
        found = []
        for row in list(self._published):
            if stream in (row.stream, base_of(row.stream)):
                event = _event(row)
                if kind in (None, event.type):
                    found.append(event)

        return found

    def streams(self) -> set[str]:
        """The streams of published events, without the suffixes of partitions."""
        return {base_of(row.stream) for row in list(self._published)}

    def types(self, stream: str) -> set[str]:
        """The types of the events that were published on a stream."""
        return {event.type for event in self.published(stream, None)}

    def add(
        self, stream: str, events: Sequence[Prepared], places: Sequence[str]
    ) -> None:
        """Record stored events. The place of an event that was not stored is ''."""
        for event, place in zip(events, places, strict=True):
            if place:
                self._published.append(_Published(stream, event, place))


class Recorder(Middleware, Observer):
    """Records stored events, and the final outcomes of attempts as outermost middleware."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def published(
        self, stream: str, events: Sequence[Prepared], places: Sequence[str]
    ) -> None:
        """Record stored events."""
        self._record.add(stream, events, places)

    def before(self, attempt: Attempt) -> None:
        """Record the start of an attempt."""
        self._record.running[id(attempt)] = (attempt.event, time.monotonic())

    def after(self, attempt: Attempt) -> None:
        """Record a success, unless a middleware has skipped the handler."""
        self._record.running.pop(id(attempt), None)
        if not attempt.skipped:
            self._record.done.append(attempt.event)

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """Record a failure. An attempt that the worker cancelled will run again."""
        self._record.running.pop(id(attempt), None)
        if attempt.cancelled not in ("lost", "shutdown"):
            self._record.failures.append(Failure(attempt.event, error))


def _event(row: _Published) -> Event[Any]:
    prepared = row.prepared
    fields = []
    for field in prepared.fields:
        fields.append(field.encode() if isinstance(field, str) else bytes(field))

    event = decode(fields)
    event.stream = row.stream
    event.priority = prepared.level
    event.delay = prepared.delay_ms / 1000
    event.dedup_id = prepared.dedup_id
    event.entry_id = "" if "|" in row.place else row.place
    return event
