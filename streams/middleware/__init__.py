"""Middleware: what wraps every attempt. One file each, one visible list: ``Pipeline(middleware=[...])``."""

from streams.current import current_event
from streams.errors import Skip
from streams.middleware.base import Attempt, Middleware, Place
from streams.middleware.chain import Chain
from streams.middleware.context import Context
from streams.middleware.dedupe import Dedupe
from streams.middleware.error_rules import ErrorRules
from streams.middleware.timeout import Timeout

__all__ = [
    "Attempt",
    "Chain",
    "Context",
    "Dedupe",
    "ErrorRules",
    "Middleware",
    "Place",
    "Skip",
    "Timeout",
    "current_event",
]
