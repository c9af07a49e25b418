"""The trace context that travels in the metadata of an event, W3C ``traceparent`` and ``tracestate``."""

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
    """What an event carries away; nothing where nobody traces."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    # A state that is too long is left out, as W3C allows, rather than the event.
    return {
        name: carrier[name] for name in NAMES if RULES[name].fits(carrier.get(name))
    }


def extracted(meta: Mapping[str, Any]) -> Context:
    """Where an event comes from; a context without a span where it does not say."""
    return _PROPAGATOR.extract(
        {name: meta[name] for name in NAMES if isinstance(meta.get(name), str)},
        Context(),
    )


def carried(delivery: Delivery) -> Context:
    """As ``extracted``, for an entry that may not have been read yet: its metadata are not parsed for this."""
    if delivery.event is not None:
        return extracted(delivery.event.meta)
    fields = delivery.fields
    for at in range(0, len(fields) - 1, 2):
        if fields[at] == b"meta":
            found = _CARRIED.findall(fields[at + 1])
            return extracted(
                {
                    name.decode(): value.decode("ascii", "replace")
                    for name, value in found
                }
            )
    return Context()


def link(context: Context, **attributes: str) -> Link | None:
    """A link to where an event comes from; None where it does not say."""
    origin: SpanContext = trace.get_current_span(context).get_span_context()
    return Link(origin, attributes) if origin.is_valid else None
