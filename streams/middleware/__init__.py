"""Middleware around every attempt, listed in ``Pipeline(middleware=[...])``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streams.errors import Skip
from streams.events.current import current_event
from streams.middleware.base import Attempt, Middleware, Place
from streams.middleware.chain import Chain
from streams.middleware.context import Context

if TYPE_CHECKING:
    from streams.middleware.breaker import Breaker
    from streams.middleware.dedupe import Dedupe
    from streams.middleware.django_connections import DjangoConnections
    from streams.middleware.error_rules import ErrorRules
    from streams.middleware.timeout import Timeout

__all__ = [
    "Attempt",
    "Breaker",
    "Chain",
    "Context",
    "Dedupe",
    "DjangoConnections",
    "ErrorRules",
    "Middleware",
    "Place",
    "Skip",
    "Timeout",
    "current_event",
]

_ON_DEMAND = {
    "Breaker": "breaker",
    "Dedupe": "dedupe",
    "DjangoConnections": "django_connections",
    "ErrorRules": "error_rules",
    "Timeout": "timeout",
}


def __getattr__(name: str) -> Any:
    """Import a middleware at its first use, so that ``import streams`` stays light."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    module = import_module(f"{__name__}.{_ON_DEMAND[name]}")
    return getattr(module, name)
