"""A producer whose events know the trace that they belong to, and are counted."""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from streams.event import Event, EventAttributes
from streams.producer import Producer
from streams.receipt import Receipt
from streams.telemetry import names
from streams.telemetry.context import injected
from streams.telemetry.metrics import Metrics
from streams.telemetry.tracing import Tracing


class InstrumentedProducer(Producer):
    """As ``Producer``; ``tracing`` and ``metrics`` are set by who makes it.

    An event that carries a trace context keeps it: who forwards somebody's event does not break its trace.
    """

    tracing: Tracing | None = None
    metrics: Metrics | None = None

    async def publish(self, data: Any, *, type: str | None = None, **attributes: Unpack[EventAttributes]) -> Receipt:
        """Publish one event; see ``Producer.publish``."""
        with self._sending() as (span, carrier):
            if carrier and isinstance(data, Event):
                data = _carrying(data, carrier)
            elif carrier and "traceparent" not in attributes:
                attributes |= carrier  # type: ignore[typeddict-item]
            receipt = await super().publish(data, type=type, **attributes)
            if span is not None:
                span.set_attributes({names.MESSAGE: receipt.event_id, names.LEVEL: receipt.level})
            self._count(1)
            return receipt

    async def publish_batches(
        self,
        events: Iterable[Any] | AsyncIterable[Any],
        *,
        type: str | None = None,
        **attributes: Unpack[EventAttributes],
    ) -> AsyncIterator[list[Receipt]]:
        """Publish many; see ``Producer.publish_batches``. One span for all of them."""
        with self._sending() as (span, carrier):
            if carrier:
                events = _all_carrying(events, carrier)
                if type is not None and "traceparent" not in attributes:
                    attributes |= carrier  # type: ignore[typeddict-item]
            sent = 0
            async for receipts in super().publish_batches(events, type=type, **attributes):
                sent += len(receipts)
                self._count(len(receipts))
                yield receipts
            if span is not None:
                span.set_attribute(names.BATCH, sent)

    @contextmanager
    def _sending(self) -> Iterator[tuple[Span | None, Mapping[str, str]]]:
        """While inside, something is sent: a span, what events carry of it, and the time it took."""
        began, span, carrier, kind = time.perf_counter(), None, {}, ""
        if self.tracing is not None:
            span = self.tracing.tracer.start_span(
                f"send {self.stream}", kind=SpanKind.PRODUCER, attributes=names.attributes("send", "send", self.stream)
            )
            carrier = injected(trace.set_span_in_context(span, contexts.get_current()))
        try:
            yield span, carrier
        except GeneratorExit:
            raise
        except BaseException as error:
            kind = error.__class__.__qualname__
            if span is not None:
                span.set_attribute(names.ERROR, kind)
                span.set_status(Status(StatusCode.ERROR, kind))
            raise
        finally:
            if span is not None:
                span.end()
            if self.metrics is not None:
                facts = names.attributes("send", "send", self.stream, **({names.ERROR: kind} if kind else {}))
                self.metrics.operation.record(time.perf_counter() - began, facts)

    def _count(self, sent: int) -> None:
        if self.metrics is not None:
            self.metrics.sent.add(sent, names.attributes("send", "send", self.stream))


def _carrying(event: Event[Any], carrier: Mapping[str, str]) -> Event[Any]:
    if "traceparent" in event.meta:
        return event
    made = copy.copy(event)
    made.meta = {**event.meta, **carrier}
    return made


def _all_carrying(
    events: Iterable[Any] | AsyncIterable[Any], carrier: Mapping[str, str]
) -> Iterable[Any] | AsyncIterable[Any]:
    if isinstance(events, AsyncIterable):
        return _each_carrying(events, carrier)
    return (_carrying(item, carrier) if isinstance(item, Event) else item for item in events)


async def _each_carrying(events: AsyncIterable[Any], carrier: Mapping[str, str]) -> AsyncIterator[Any]:
    async for item in events:
        yield _carrying(item, carrier) if isinstance(item, Event) else item
