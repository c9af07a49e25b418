"""Which event the code that runs now handles: set by the context middleware, read by log lines and whoever asks."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

from streams.events.event import Event

handling: ContextVar[Event[Any] | None] = ContextVar("streams_handling", default=None)
"""The event of the attempt in progress in this context; tasks and threads that a handler starts inherit it."""


def current_event() -> Event[Any] | None:
    """The event that is being handled, seen from its handler and whatever that calls; None elsewhere."""
    return handling.get()


def current_facts() -> dict[str, str | int]:
    """What log lines say of the event that is being handled: never its body, key or tenant. Empty elsewhere."""
    event = handling.get()
    if event is None:
        return {}
    facts: dict[str, str | int] = {
        "stream": event.stream,
        "group": event.group,
        "event_id": event.id,
        "event_type": event.type,
        "entry": event.entry_id,
        "attempt": event.attempt,
    }
    span = current_span()
    trace_id = span[0] or trace_id_of(event.meta.get("traceparent"))
    if trace_id:
        facts["trace_id"] = trace_id
    if span[1]:
        facts["span_id"] = span[1]
    return facts


def current_span() -> tuple[str, str]:
    """Trace id and span id of the span that is current, '' for each where nobody traces; imports nothing for it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return "", ""
    found = trace.get_current_span().get_span_context()
    return (
        (f"{found.trace_id:032x}", f"{found.span_id:016x}")
        if found.is_valid
        else ("", "")
    )


def trace_id_of(traceparent: str | None) -> str:
    """The trace id in a W3C ``traceparent``; '' if there is none that can be one."""
    parts = traceparent.split("-") if traceparent else []
    if (
        len(parts) < 4
        or len(parts[1]) != 32
        or not set(parts[1]) <= set("0123456789abcdef")
        or not parts[1].strip("0")
    ):
        return ""
    return parts[1]
