"""Context: user code, and its log lines, know which event they are about."""

from __future__ import annotations

from streams.events.current import handling
from streams.middleware.base import Attempt, Middleware


class Context(Middleware):
    """Makes the event known to whatever runs inside the attempt: ``current_event()``, and the facts in log lines.

    Nothing is undone at the end: the variable belongs to the runner, and its next attempt sets it anew.
    """

    def before(self, attempt: Attempt) -> None:
        """Set the event."""
        handling.set(attempt.event)
