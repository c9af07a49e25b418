"""The spans and metrics of publishing calls. Events carry the trace of their call."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from streams.broker.entries.observing import ObservedSend
from streams.events.receipt import Receipt
from streams.telemetry import names
from streams.telemetry.context import injected


class TracedSend(ObservedSend):
    """The span of one call. Its events belong to its trace, unless they have another.

    Args:
        tracer: the tracer of the span.
        stream: the stream of the call.
        is_batch: whether the span counts the events. Otherwise it names its event.
    """

    def __init__(self, tracer: Tracer, stream: str, *, is_batch: bool) -> None:
        self._span: Span = tracer.start_span(
            f"send {stream}",
            kind=SpanKind.PRODUCER,
            attributes=names.attributes("send", "send", stream),
        )
        self._is_batch = is_batch
        self._sent = 0
        context = trace.set_span_in_context(self._span, contexts.get_current())
        self.carrier = injected(context)

    def stored(self, receipts: Sequence[Receipt]) -> None:
        """Name the event, or count the events of a batch."""
        self._sent += len(receipts)
        if not self._is_batch:
            (receipt,) = receipts
            self._span.set_attribute(names.MESSAGE, receipt.event_id)
            self._span.set_attribute(names.LEVEL, receipt.level)

    def ended(self, error: BaseException | None) -> None:
        """End the span, with the kind of the error."""
        if self._is_batch:
            self._span.set_attribute(names.BATCH, self._sent)

        if error is not None:
            kind = error.__class__.__qualname__
            self._span.set_attribute(names.ERROR, kind)
            self._span.set_status(Status(StatusCode.ERROR, kind))

        self._span.end()


class MeasuredSend(ObservedSend):
    """Counts the events of one call, and measures its duration.

    Args:
        sent: the counter of events.
        duration: the histogram of seconds.
        stream: the stream of the call.
    """

    def __init__(self, sent: Counter, duration: Histogram, stream: str) -> None:
        self._sent = sent
        self._duration = duration
        self._stream = stream
        self._began = time.perf_counter()

    def stored(self, receipts: Sequence[Receipt]) -> None:
        """Count the events."""
        self._sent.add(len(receipts), names.attributes("send", "send", self._stream))

    def ended(self, error: BaseException | None) -> None:
        """Measure the whole call."""
        more = {} if error is None else {names.ERROR: error.__class__.__qualname__}
        facts = names.attributes("send", "send", self._stream, **more)
        self._duration.record(time.perf_counter() - self._began, facts)
