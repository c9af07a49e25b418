"""The trace context in an event's metadata: W3C ``traceparent`` and ``tracestate``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.broker.entries.delivery import Delivery
from streams.events.attributes import RULES

_PROPAGATOR = TraceContextTextMapPropagator()
_CARRIED = re.compile(rb'"(traceparent|tracestate)":"([^"\\]{1,512})"')
NAMES = ("traceparent", "tracestate")


def injected(context: Context) -> dict[str, str]:
    """The attributes of an event in this trace; empty without tracing."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    # W3C allows to drop a state that is too long. The event must not fail for it.
    fitting = [name for name in NAMES if RULES[name].fits(carrier.get(name))]
    return {name: carrier[name] for name in fitting}


def extracted(meta: Mapping[str, Any]) -> Context:
    """The trace context of an event; without a span if it has none."""
    carrier = {name: meta[name] for name in NAMES if isinstance(meta.get(name), str)}
    return _PROPAGATOR.extract(carrier, Context())


def carried(delivery: Delivery) -> Context:
    """The trace context of a delivery, without parsing its metadata."""
    if delivery.event is not None:
        return extracted(delivery.event.meta)

    fields = delivery.fields
    for at in range(0, len(fields) - 1, 2):
        if fields[at] == b"meta":
            meta = {}
            for name, value in _CARRIED.findall(fields[at + 1]):
                meta[name.decode()] = value.decode("ascii", "replace")

            return extracted(meta)

    return Context()


def link(context: Context, **attributes: str) -> Link | None:
    """A link to the span of a trace context; None if it has none."""
    origin: SpanContext = trace.get_current_span(context).get_span_context()
    return Link(origin, attributes) if origin.is_valid else None
