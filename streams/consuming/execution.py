"""One attempt in progress."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from streams.broker.entries.delivery import Delivery
from streams.common.exception_text import Setting
from streams.handlers.routes import Route
from streams.middleware.base import Attempt


class Ending:
    """Whether the runners of a consumer are told to end. Shared by all of them."""

    __slots__ = ("is_near",)

    def __init__(self) -> None:
        self.is_near = False


class Execution(Attempt):
    """One attempt in progress.

    ``why`` says why it was cancelled: timeout, lost or shutdown; '' if it was not.

    The decoder fills in ``event`` and ``route`` before the attempt can wait for
    anything. The executor fills in ``place``, and the fields that only middleware
    needs, where there is middleware.
    """

    __slots__ = (
        "_ending",
        "abandoned",
        "cancelled_at",
        "deadline",
        "delivery",
        "route",
        "seen_at",
        "task",
    )

    def __init__(
        self, delivery: Delivery, task: asyncio.Task[Any], ending: Ending
    ) -> None:
        self._ending = ending
        self.delivery = delivery
        self.task = task
        self.route: Route
        self.deadline = math.inf
        self.why = ""
        self.cancelled_at = math.inf
        self.abandoned = False
        self.seen_at = 0.0
        """When the watch first saw it run (monotonic seconds); 0.0: not yet.

        That is about its start, which does not have to read the clock.
        """

    @property
    def deliveries(self) -> int:
        """The server's delivery count."""
        return self.delivery.count

    @property
    def probing(self) -> str:
        """The pause of a circuit breaker that lets it through."""
        return self.delivery.probing

    def explained(self, error: BaseException) -> BaseException:
        """The reason for which the handler, or a hook, was cancelled.

        Raises:
            BaseException: ``error`` itself, where this runner is told to end or the
                loop is gone. No hook may run then.
        """
        if self.is_ending(error):
            raise error
        if isinstance(error, asyncio.CancelledError) and self.why == "timeout":
            # Where it was cancelled is where it waited for too long.
            return self.timed_out().with_traceback(error.__traceback__)
        return error

    def is_ending(self, error: BaseException) -> bool:
        """Whether ``error`` means that this runner ends, and says nothing of the attempt.

        The task's own count of requests to cancel does not tell: libraries leave
        requests behind, and handlers cancel the task that they run in.
        """
        if isinstance(error, GeneratorExit):
            return asyncio.current_task() is not self.task
        return (
            isinstance(error, asyncio.CancelledError)
            and self._ending.is_near
            and not self.why
        )

    def timed_out(self, more: str = "") -> TimeoutError:
        """The error of an attempt that took too long."""
        return TimeoutError(
            f"the handler exceeded its timeout of {self.route.timeout} s{more}"
        )


def setting_of(run: Execution) -> Setting:
    """Give what the text of a failure depends on.

    An event that its handler has made unreadable is left out.
    """
    try:
        raw = run.event.raw
    except Exception:  # noqa: BLE001 - an event is its handler's to change
        raw = b""
    return Setting(run.route.function, raw if isinstance(raw, bytes) else b"")
