"""Breaker: a circuit breaker per key, which pauses events while a service is down."""

from __future__ import annotations

import asyncio
import contextlib
import time

from streams.broker.entries.holding import CLOSES, IS_OPEN, OPENED, Breaking
from streams.common.arguments import checked_seconds, is_number
from streams.common.log_facts import logger_of
from streams.errors import (
    BrokerError,
    ConfigurationError,
    HandlerSignal,
    Snooze,
    Unavailable,
)
from streams.events.event import Event
from streams.events.names import member, scope
from streams.middleware.base import Attempt, Middleware, Place
from streams.policy.limit import ATTRIBUTES
from streams.policy.ordering import lane_key
from streams.quantities import Seconds

logger = logger_of("middleware")
_MOST_KEYS = 100_000
_NEWS = 0.6
"""Seconds after which every consumer knows of a pause."""


class Breaker(Middleware):
    """Opens when attempts of a key fail too often. No event of the key starts then.

    While the breaker is open, the key is paused as if by an operator:
    ``streams pause --list`` shows the pause, and ``streams resume`` ends it. After
    ``open_for`` seconds one event is tried as a probe. If it succeeds, the breaker closes
    and the deferred events come back. If it fails, the breaker waits again. Neither the
    probe nor a failure while the breaker is open uses up an attempt.

    ``Unavailable`` opens it at once. ``Reject``, ``Snooze`` and ``Skip`` are not failures.
    The workers of a group share their counts. A success costs nothing, and a failure one
    round trip.

    Args:
        by: the attribute of the event with the key, e.g. ``instance``. Events without it
            are not counted.
        failures: the share of failed attempts that opens it, above 0 and up to 1.
        minimum: the fewest attempts in the window for which the share counts.
        window: seconds, or a ``timedelta``, for which attempts are counted.
        open_for: seconds, or a ``timedelta``, from opening to the probe, and from probe
            to probe.

    Raises:
        ConfigurationError: a value is invalid.
    """

    def __init__(
        self,
        by: str,
        *,
        failures: float = 0.5,
        minimum: int = 10,
        window: Seconds = 60.0,
        open_for: Seconds = 30.0,
    ) -> None:
        if by not in ATTRIBUTES:
            raise ConfigurationError(
                f"Breaker: by is one of {', '.join(ATTRIBUTES)}, not {by!r}"
            )

        if not is_number(failures, 0.01, 1):
            raise ConfigurationError(
                f"Breaker: failures is from 0.01 to 1, not {failures!r}"
            )

        if not is_number(minimum, 1, 1_000_000):
            raise ConfigurationError(
                f"Breaker: minimum is from 1 to 1000000, not {minimum!r}"
            )

        counted = checked_seconds("Breaker: window", window, 0.1, 86_400)
        probe = checked_seconds("Breaker: open_for", open_for, 0.1, 86_400)
        self._by = by
        self._rule = (
            round(counted * 1000),
            int(minimum),
            float(failures),
            round(probe * 1000),
            "breaker",
        )
        self._breaking: dict[Place, Breaking] = {}
        self._well: dict[tuple[Place, str], int] = {}
        self._opened: dict[tuple[Place, str], float] = {}

    def start(self, place: Place) -> None:
        """Get ready for one consumer."""
        self._breaking[place] = Breaking(place.broker, place.stream, place.group)

    async def stop(self, place: Place) -> None:
        """Close the connection."""
        await self._breaking.pop(place).close()

    def before(self, attempt: Attempt) -> None:
        """Stop an event that was fetched before the consumer knew of the pause.

        Raises:
            Snooze: the breaker opened a moment ago.
        """
        if not self._opened or attempt.probing:
            return

        key = self._key(attempt.event)
        if key is not None:
            left = self._opened.get((attempt.place, key), 0.0) - time.monotonic()
            if left > 0:
                raise Snooze(left, "the breaker is open")

    async def after(self, attempt: Attempt) -> None:
        """Count a success. The success of a probe closes the breaker."""
        key = self._key(attempt.event)
        if key is None or attempt.skipped:
            return

        if attempt.probing:
            # Without the server it stays open, and probes again.
            with contextlib.suppress(BrokerError):
                await self._ended(attempt, key, "ok")

            return

        counted = (attempt.place, key)
        if counted in self._well or len(self._well) < _MOST_KEYS:
            self._well[counted] = self._well.get(counted, 0) + 1

    async def failed(
        self, attempt: Attempt, error: BaseException
    ) -> BaseException | None:
        """Count a failure. While the breaker is open, a failure uses up no attempt."""
        key = self._key(attempt.event)
        unavailable = isinstance(error, Unavailable)
        if key is None or isinstance(error, (HandlerSignal, asyncio.CancelledError)):
            return None

        outcome = "unavailable" if unavailable else "failed"
        try:
            state, seconds = await self._ended(attempt, key, outcome)
        except BrokerError as trouble:
            extra = {"where": _where(attempt.place), "error": str(trouble)}
            logger.warning("a breaker cannot count", extra=extra)
            return None

        if state == IS_OPEN or (state == OPENED and unavailable):
            return Snooze(seconds, f"the breaker is open: {type(error).__name__}")
        return None

    async def _ended(
        self, attempt: Attempt, key: str, outcome: str
    ) -> tuple[int, float]:
        place, event = attempt.place, attempt.event
        where = scope(place.group, attribute=(self._by, key))
        breaking = self._breaking[place]
        well = self._well.pop((place, key), 0)
        entry = member(event.priority, event.entry_id)
        state, seconds = await breaking.ended(
            where, lane_key(key.encode()), entry, outcome, well, self._rule
        )

        now = time.monotonic()
        for known in [known for known, until in self._opened.items() if until <= now]:
            del self._opened[known]

        if state in (OPENED, IS_OPEN):
            self._opened[place, key] = now + _NEWS

        told: dict[str, object] = {"where": _where(place), "by": self._by}
        if state == OPENED:
            logger.error("breaker opened", extra=told | {"probe_in": seconds})
        elif state == CLOSES:
            back = await breaking.bring_back(where)
            logger.info("breaker closed", extra=told | {"came_back": back})

        return state, seconds

    def _key(self, event: Event[object]) -> str | None:
        value = getattr(event, self._by)
        return value if isinstance(value, str) and value else None


def _where(place: Place) -> str:
    return f"{place.stream}/{place.group}"
