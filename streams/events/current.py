"""The event that the running code handles, set by the context middleware."""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import Any

from streams.events.event import Event

_TRACEPARENT = re.compile(r"[^-]*-(?!0{32})([0-9a-f]{32})-[^-]*-")
"""Wider than W3C's form, because later versions may add fields."""

handling: ContextVar[Event[Any] | None] = ContextVar("streams_handling", default=None)
"""The event of the current attempt. Tasks and threads of a handler inherit it."""


def current_event() -> Event[Any] | None:
    """The event of the current attempt; None outside of a handler."""
    return handling.get()


def current_facts() -> dict[str, str | int]:
    """The facts of the current event for log lines; empty outside of a handler.

    They never contain its body, key or tenant.
    """
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
    trace_id, span_id = current_span()
    trace_id = trace_id or trace_id_of(event.meta.get("traceparent"))
    if trace_id:
        facts["trace_id"] = trace_id

    if span_id:
        facts["span_id"] = span_id

    return facts


def current_span() -> tuple[str, str]:
    """Trace id and span id of the current span; two '' without one. Imports nothing."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return "", ""

    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return "", ""
    return f"{found.trace_id:032x}", f"{found.span_id:016x}"


def trace_id_of(traceparent: str | None) -> str:
    """The trace id in a W3C ``traceparent``; '' if there is no valid one."""
    found = _TRACEPARENT.match(traceparent or "")
    return found[1] if found else ""
