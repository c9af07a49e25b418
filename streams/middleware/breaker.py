"""Breaker: a circuit breaker per key, which pauses what is behind a service that does not work."""

from __future__ import annotations

import asyncio
import contextlib
import time

from streams.broker.entries.holding import CLOSES, IS_OPEN, OPENED, Breaking
from streams.common.arguments import checked_seconds
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
"""Seconds within which a consumer has heard of a pause."""


class Breaker(Middleware):
    """Opens when the attempts of a key fail too often, and then nothing of that key starts until a probe succeeds.

    While it is open the key is paused like an operator would pause it: ``streams pause --list`` shows it, ``streams
    resume`` ends it. After ``open_for`` seconds one event is let through. If it succeeds, the breaker closes and what
    was held comes back; if it fails, it waits again. Neither the probe nor what failed while the breaker was open
    burns an attempt.

    The workers of a group share their counts. An attempt that succeeds costs nothing, one that fails one round trip.

    Args:
        by: the attribute of the event whose value is the key, e.g. ``instance``; an event without it is not counted.
        failures: share of failed attempts from which on it opens, above 0 and up to 1.
        minimum: attempts within the window from which on the share counts.
        window: seconds, or a ``timedelta``, for which attempts are counted.
        open_for: seconds or a ``timedelta`` from opening to the probe, and from probe to probe.

    Raises:
        ConfigurationError: a value is refused.

    ``Unavailable`` opens it at once. ``Reject``, ``Snooze`` and ``Skip`` are no failures.
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
        for name, value, low, high in (
            ("failures", failures, 0.01, 1),
            ("minimum", minimum, 1, 1_000_000),
        ):
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not low <= value <= high
            ):
                raise ConfigurationError(
                    f"Breaker: {name} is from {low} to {high}, not {value!r}"
                )
        quiet = checked_seconds("Breaker: window", window, 0.1, 86_400)
        probe = checked_seconds("Breaker: open_for", open_for, 0.1, 86_400)
        self._by = by
        self._rule = (
            round(quiet * 1000),
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
        """Let nothing start that was fetched before the consumer heard of the pause.

        Raises:
            Snooze: the breaker opened a moment ago.
        """
        if self._opened and not attempt.probing:
            key = self._key(attempt.event)
            left = (
                0.0
                if key is None
                else self._opened.get((attempt.place, key), 0.0) - time.monotonic()
            )
            if left > 0:
                raise Snooze(left, "the breaker is open")

    async def after(self, attempt: Attempt) -> None:
        """Count a success; that of a probe closes the breaker."""
        key = self._key(attempt.event)
        if key is None or attempt.skipped:
            return
        if attempt.probing:
            with contextlib.suppress(BrokerError):  # It stays open, and probes again.
                await self._ended(attempt, key, "ok")
            return
        counted = (attempt.place, key)
        if counted in self._well or len(self._well) < _MOST_KEYS:
            self._well[counted] = self._well.get(counted, 0) + 1

    async def failed(
        self, attempt: Attempt, error: BaseException
    ) -> BaseException | None:
        """Count a failure; what fails while the breaker is open is put back, at no cost."""
        key = self._key(attempt.event)
        unavailable = isinstance(error, Unavailable)
        if key is None or isinstance(error, (HandlerSignal, asyncio.CancelledError)):
            return None
        try:
            state, seconds = await self._ended(
                attempt, key, "unavailable" if unavailable else "failed"
            )
        except BrokerError as trouble:
            logger.warning(
                "a breaker cannot count",
                extra={"where": _where(attempt.place), "error": str(trouble)},
            )
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
        self._opened = {
            known: until for known, until in self._opened.items() if until > now
        }
        if state in (OPENED, IS_OPEN):
            self._opened[place, key] = now + _NEWS
        if state == OPENED:
            logger.error(
                "breaker opened",
                extra={"where": _where(place), "by": self._by, "probe_in": seconds},
            )
        elif state == CLOSES:
            back = await breaking.bring_back(where)
            logger.info(
                "breaker closed",
                extra={"where": _where(place), "by": self._by, "came_back": back},
            )
        return state, seconds

    def _key(self, event: Event[object]) -> str | None:
        value = getattr(event, self._by)
        return value if isinstance(value, str) and value else None


def _where(place: Place) -> str:
    return f"{place.stream}/{place.group}"
