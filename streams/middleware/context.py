"""Context: makes the current event known to user code and its log lines."""

from __future__ import annotations

from streams.events.current import handling
from streams.middleware.base import Attempt, Middleware


class Context(Middleware):
    """Sets the event for ``current_event()`` and for the facts in log lines.

    It is not reset at the end, because the next attempt of the runner sets it again.
    """

    def before(self, attempt: Attempt) -> None:
        """Set the event."""
        handling.set(attempt.event)
