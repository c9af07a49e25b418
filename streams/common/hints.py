"""Hints for method names that people know from other libraries. Pure.

An ``AttributeError`` for such a name says which call to use here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

_DECLARE = "declare a handler: @pipeline.handler('orders', group='billing')"
_PUBLISH = (
    "publish what it handles: "
    "pipeline.publish('orders', {'id': 1}, type='order.created')"
)
_OUTCOME = (
    "a receipt says where the event is stored; a handler gives no result back. "
    "Where the event stands: pipeline.status().find(stream, receipt.event_id)"
)
PIPELINE = {
    **dict.fromkeys(
        ("task", "shared_task", "subscriber", "actor", "on_event", "on_message"),
        _DECLARE,
    ),
    **dict.fromkeys(("send_task", "publisher", "enqueue", "send", "kiq"), _PUBLISH),
}
RECEIPT = dict.fromkeys(
    ("get", "wait", "wait_result", "ready", "result", "successful", "failed", "state"),
    _OUTCOME,
)
_CALLS = ("delay", "apply_async")


def missing(kind: str, name: str, hints: Mapping[str, str]) -> AttributeError:
    """The error for a missing attribute, with a hint if there is one."""
    hint = f": {hints[name]}" if name in hints else ""
    return AttributeError(f"a {kind} has no attribute {name!r}{hint}")


def hint_calls(function: object) -> None:
    """Add ``delay`` and ``apply_async`` to a handler, which raise with a hint.

    A function keeps its own attributes of these names.
    """
    if not inspect.isfunction(function):
        return

    for name in _CALLS:
        if not hasattr(function, name):
            setattr(function, name, _refusing(function.__name__, name))


def _refusing(handler: str, name: str) -> Callable[..., NoReturn]:
    def refused(*_: Any, **__: Any) -> NoReturn:
        raise AttributeError(
            f"handler {handler} has no attribute {name!r}: "
            f"{_PUBLISH}, with delay= for later"
        )

    return refused
