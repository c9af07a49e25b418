"""Spans: one trace shows who published an event, each attempt, what became of it, and replays."""

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
    """Makes spans of attempts and trips.

    An attempt is a child of the span that published its event: there is one event in it, and a trace reads like its
    life. Reads and acknowledgements, which carry many, are traces of their own, linked to the events; reads that bring
    nothing make no span. Neither bodies nor ids of people are in a span; what an exception says is masked.

    Args:
        provider: makes the tracer; None: the one of the process.

    Attributes:
        tracer: that makes the spans.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.tracer = trace.get_tracer("streams", __version__, provider)

    # --- attempts

    def before(self, attempt: Attempt) -> None:
        """Begin the span, which is current for whatever runs inside."""
        event = attempt.event
        origin = extracted(event.meta)
        span = self.tracer.start_span(
            f"process {event.stream}",
            origin,
            SpanKind.CONSUMER,
            names.attributes(
                "process",
                "process",
                event.stream,
                event.group,
                **{
                    names.MESSAGE: event.id,
                    names.CLIENT: attempt.place.consumer,
                    names.LEVEL: event.priority,
                    names.ATTEMPT: event.attempt,
                    names.EVENT_TYPE: event.type,
                },
            ),
        )
        attempt.state[self] = (
            span,
            contexts.attach(trace.set_span_in_context(span, contexts.get_current())),
        )

    def after(self, attempt: Attempt) -> None:
        """End it."""
        self._end(attempt, "skipped" if attempt.skipped else "done")

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """End it, with what went wrong; what a handler chose is no error."""
        kind = type(error)
        if attempt.cancelled in ("lost", "shutdown"):
            self._end(attempt, attempt.cancelled)
        elif isinstance(error, HandlerSignal):
            self._end(attempt, kind.__name__.lower())
        else:
            span: Span = attempt.state[self][0]
            span.set_attribute(
                names.ERROR,
                "timeout" if isinstance(error, TimeoutError) else kind.__qualname__,
            )
            span.set_status(
                Status(StatusCode.ERROR, masked(f"{kind.__qualname__}: {_text(error)}"))
            )
            self._end(attempt, "failed")

    def _end(self, attempt: Attempt, outcome: str) -> None:
        span, token = attempt.state[self]
        span.set_attribute(names.OUTCOME, outcome)
        span.end()
        contexts.detach(token)

    # --- trips

    def sending(self, stream: str, *, is_batch: bool) -> TracedSend:
        """A call publishes."""
        return TracedSend(self.tracer, stream, is_batch=is_batch)

    def received(
        self, consumer: ConsumerId, deliveries: Sequence[Delivery], began: int
    ) -> None:
        """A read that brought something."""
        self._trip("receive", "receive", consumer, deliveries, began)

    def settled(self, consumer: ConsumerId, settled: Settled) -> None:
        """What became of entries."""
        if settled.done:
            self._trip("ack", "settle", consumer, settled.done, settled.began)
        for row, why in settled.postponed:
            delay = {names.DELAY: row.delay_ms / 1000, names.REASON: why}
            self._settled(
                _OPERATIONS[why],
                consumer,
                row.delivery,
                settled.began,
                row.record,
                delay,
            )
        for letter in settled.buried:
            reason = {names.REASON: letter.reason}
            self._settled(
                "dead_letter",
                consumer,
                letter.delivery,
                settled.began,
                letter.record,
                reason,
            )

    def replayed(
        self,
        stream: str,
        group: str,
        letters: Sequence[StoredLetter],
        places: Sequence[str],
    ) -> None:
        """Dead letters that were put back: each belongs to the trace of its event."""
        for letter, place in zip(letters, places, strict=True):
            if place:
                origin = _origin(letter.fields)
                ident = _stored_id(letter.fields) or member(
                    letter.level, letter.entry_id
                )
                facts = {
                    names.MESSAGE: ident,
                    names.LEVEL: letter.level,
                    names.REASON: letter.reason,
                }
                span = self.tracer.start_span(
                    f"replay {stream}",
                    origin,
                    SpanKind.PRODUCER,
                    names.attributes("replay", "send", stream, group, **facts),
                )
                span.end()

    def _trip(
        self,
        operation: str,
        kind: str,
        consumer: ConsumerId,
        deliveries: Sequence[Delivery],
        began: int,
    ) -> None:
        links: list[Link] = []
        for delivery in deliveries[:_MOST_LINKS]:
            found = link(carried(delivery), **{names.MESSAGE: _ident(delivery)})
            if found is not None:
                links.append(found)
        span = self.tracer.start_span(
            f"{operation} {consumer.stream}",
            Context(),
            SpanKind.CLIENT,
            names.attributes(
                operation,
                kind,
                consumer.stream,
                consumer.group,
                **{names.CLIENT: consumer.name, names.BATCH: len(deliveries)},
            ),
            links=links,
            start_time=began,
        )
        span.end()

    def _settled(
        self,
        operation: str,
        consumer: ConsumerId,
        delivery: Delivery,
        began: int,
        record: bytes,
        more: dict[str, Any],
    ) -> None:
        span = self.tracer.start_span(
            f"{operation} {consumer.stream}",
            carried(delivery),
            SpanKind.CLIENT,
            names.attributes(
                operation,
                "settle",
                consumer.stream,
                consumer.group,
                **{
                    names.CLIENT: consumer.name,
                    names.MESSAGE: _ident(delivery),
                    names.LEVEL: delivery.level,
                },
                **more,
            ),
            start_time=began,
        )
        if record and span.is_recording():
            span.set_attribute(names.ATTEMPT, AttemptRecord.from_json(record).attempts)
        span.end(time.time_ns())


def _ident(delivery: Delivery) -> str:
    return _stored_id(delivery.fields) or member(delivery.level, delivery.entry_id)


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
    except Exception:  # noqa: BLE001 - somebody else's class
        return ""
