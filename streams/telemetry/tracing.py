"""Spans: one trace shows an event's publishing, its attempts, its outcome and replays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from streams.broker.entries.observing import ConsumerId, Observer, Settled
from streams.common.masking import masked
from streams.errors import HandlerSignal
from streams.events.names import member
from streams.middleware.base import Attempt, Middleware
from streams.policy.retry import AttemptRecord
from streams.telemetry import names
from streams.telemetry.context import carried, extracted, link
from streams.telemetry.sending import TracedSend
from streams.version import __version__

if TYPE_CHECKING:
    from streams.broker.admin.dead_letters import StoredLetter
    from streams.broker.entries.delivery import Delivery

_MOST_LINKS = 100
_OPERATIONS = {
    "retried": "retry",
    "snoozed": "snooze",
    "limited": "delay",
    "released": "release",
    "stalled": "retry",
}


class Tracing(Middleware, Observer):
    """Makes spans of attempts and of round trips to the server.

    An attempt is a child of the span that published its event, so that a trace shows the
    life of one event. Reads and acknowledgements of several events are separate traces
    with links to the events; reads without events make no span. Spans contain neither
    bodies nor ids of people, and messages of exceptions are masked.

    Args:
        provider: the provider of the tracer; None: the one of the process.

    Attributes:
        tracer: the tracer of the spans.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.tracer = trace.get_tracer("streams", __version__, provider)

    # --- attempts

    def before(self, attempt: Attempt) -> None:
        """Start the span, which is current inside the attempt."""
        event = attempt.event
        facts: dict[str, Any] = {
            names.MESSAGE: event.id,
            names.CLIENT: attempt.place.consumer,
            names.LEVEL: event.priority,
            names.ATTEMPT: event.attempt,
            names.EVENT_TYPE: event.type,
        }
        place = (event.stream, event.group)
        span = self.tracer.start_span(
            f"process {event.stream}",
            extracted(event.meta),
            SpanKind.CONSUMER,
            names.attributes("process", "process", *place, **facts),
        )
        inside = trace.set_span_in_context(span, contexts.get_current())
        attempt.state[self] = (span, contexts.attach(inside))

    def after(self, attempt: Attempt) -> None:
        """End the span."""
        self._end(attempt, "skipped" if attempt.skipped else "done")

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """End the span with the error. An outcome that the handler chose is not one."""
        kind = type(error)
        if attempt.cancelled in ("lost", "shutdown"):
            self._end(attempt, attempt.cancelled)
        elif isinstance(error, HandlerSignal):
            self._end(attempt, kind.__name__.lower())
        else:
            span: Span = attempt.state[self][0]
            text = masked(f"{kind.__qualname__}: {_text(error)}")
            span.set_attribute(names.ERROR, names.error_type(error))
            span.set_status(Status(StatusCode.ERROR, text))
            self._end(attempt, "failed")

    def _end(self, attempt: Attempt, outcome: str) -> None:
        span, token = attempt.state[self]
        span.set_attribute(names.OUTCOME, outcome)
        span.end()
        contexts.detach(token)

    # --- trips

    def sending(self, stream: str, *, is_batch: bool) -> TracedSend:
        """Start the span of a call that publishes."""
        return TracedSend(self.tracer, stream, is_batch=is_batch)

    def received(
        self, consumer: ConsumerId, deliveries: Sequence[Delivery], began: int
    ) -> None:
        """Make the span of a read with events."""
        self._trip("receive", consumer, deliveries, began)

    def settled(self, consumer: ConsumerId, settled: Settled) -> None:
        """Make the spans of stored outcomes."""
        began = settled.began
        if settled.done:
            self._trip("ack", consumer, settled.done, began)

        for row, why in settled.postponed:
            facts = self._facts(row.delivery, row.record)
            facts |= {names.DELAY: row.delay_ms / 1000, names.REASON: why}
            self._settled(_OPERATIONS[why], consumer, row.delivery, facts, began)

        for letter in settled.buried:
            facts = self._facts(letter.delivery, letter.record)
            facts[names.REASON] = letter.reason
            self._settled("dead_letter", consumer, letter.delivery, facts, began)

    def replayed(
        self,
        stream: str,
        group: str,
        letters: Sequence[StoredLetter],
        places: Sequence[str],
    ) -> None:
        """Make the spans of replayed dead letters, in the traces of their events."""
        for letter, place in zip(letters, places, strict=True):
            if not place:
                continue

            facts: dict[str, Any] = {
                names.MESSAGE: _ident(letter),
                names.LEVEL: letter.level,
                names.REASON: letter.reason,
            }
            span = self.tracer.start_span(
                f"replay {stream}",
                _origin(letter.fields),
                SpanKind.PRODUCER,
                names.attributes("replay", "send", stream, group, **facts),
            )
            span.end()

    def _trip(
        self,
        operation: str,
        consumer: ConsumerId,
        deliveries: Sequence[Delivery],
        began: int,
    ) -> None:
        links: list[Link] = []
        for delivery in deliveries[:_MOST_LINKS]:
            found = link(carried(delivery), **{names.MESSAGE: _ident(delivery)})
            if found is not None:
                links.append(found)

        kind = "settle" if operation == "ack" else operation
        place = (consumer.stream, consumer.group)
        facts: dict[str, Any] = {
            names.CLIENT: consumer.name,
            names.BATCH: len(deliveries),
        }
        span = self.tracer.start_span(
            f"{operation} {consumer.stream}",
            Context(),
            SpanKind.CLIENT,
            names.attributes(operation, kind, *place, **facts),
            links=links,
            start_time=began,
        )
        span.end()

    @staticmethod
    def _facts(delivery: Delivery, record: bytes) -> dict[str, Any]:
        facts = {names.MESSAGE: _ident(delivery), names.LEVEL: delivery.level}
        if record:
            facts[names.ATTEMPT] = AttemptRecord.from_json(record).attempts

        return facts

    def _settled(
        self,
        operation: str,
        consumer: ConsumerId,
        delivery: Delivery,
        facts: dict[str, Any],
        began: int,
    ) -> None:
        facts[names.CLIENT] = consumer.name
        place = (consumer.stream, consumer.group)
        span = self.tracer.start_span(
            f"{operation} {consumer.stream}",
            carried(delivery),
            SpanKind.CLIENT,
            names.attributes(operation, "settle", *place, **facts),
            start_time=began,
        )
        span.end(time.time_ns())


def _ident(entry: Delivery | StoredLetter) -> str:
    return _stored_id(entry.fields) or member(entry.level, entry.entry_id)


def _stored_id(fields: Sequence[bytes]) -> str:
    for at in range(0, len(fields) - 1, 2):
        if fields[at] == b"id":
            return fields[at + 1].decode("utf-8", "replace")

    return ""


def _origin(fields: Sequence[bytes]) -> Context:
    from streams.broker.entries.delivery import Delivery

    return carried(Delivery(0, "0-0", fields))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - __str__ of a user's class may raise anything
        return ""
