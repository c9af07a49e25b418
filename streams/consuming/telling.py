"""The log lines about one entry: each has the facts that find the entry again."""

from __future__ import annotations

import logging
from typing import Any

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.observing import ConsumerId
from streams.common.log_facts import logger_of
from streams.consuming.state import ConsumerState
from streams.events.current import trace_id_of
from streams.events.event import Event
from streams.events.names import member

logger = logger_of("consumer")


def log_entry(
    state: ConsumerState,
    level: int,
    what: str,
    delivery: Delivery,
    event: Event[Any] | None,
    **facts: Any,
) -> None:
    """Log what becomes of an entry in a consumer."""
    extra = _places(state.where, delivery) | _named(event) | facts
    logger.log(level, what, exc_info=extra.pop("exc_info", None), extra=extra)


def log_death(
    consumer: ConsumerId,
    delivery: Delivery,
    reason: str,
    event: Event[Any] | None = None,
    *,
    said_by: logging.Logger,
    **facts: Any,
) -> None:
    """Log that an entry becomes a dead letter, whichever part of a worker decides it."""
    named = _named(event)
    if not named["event_id"]:
        named |= _written(delivery)
    names = f"{consumer.stream} {consumer.group}"
    after = f"it waits for a replay or a discard: streams dead ls {names}"
    extra = (
        _places(consumer.where, delivery)
        | named
        | {"reason": reason}
        | facts
        | {"next": after}
    )
    said_by.error("dead letter", extra=extra)


def _places(where: str, delivery: Delivery) -> dict[str, Any]:
    return {
        "where": where,
        "level_of_stream": delivery.level,
        "entry": delivery.entry_id,
    }


def _named(event: Event[Any] | None) -> dict[str, Any]:
    """The facts that name an event.

    They are empty where there is none, or a handler has made something else of it.
    """
    if event is not None:
        try:
            trace_id = trace_id_of(event.meta.get("traceparent"))
            return {
                "event_id": event.id,
                "event_type": event.type,
                "attempt": event.attempt,
                "trace_id": trace_id,
            }
        except Exception:
            logger.debug("an event cannot be named", exc_info=True)
    return {"event_id": "", "event_type": "", "attempt": 0, "trace_id": ""}


def _written(delivery: Delivery) -> dict[str, str]:
    """Id and type as the entry has them: it was not read as an event, or cannot be."""
    fields = dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=False))
    found = {
        name: fields.get(name.encode(), b"").decode("utf-8", "replace")
        for name in ("id", "type")
    }
    return {
        "event_id": found["id"] or member(delivery.level, delivery.entry_id),
        "event_type": found["type"],
    }
