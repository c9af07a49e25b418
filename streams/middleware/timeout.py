"""Timeout: a limit for every attempt, by default and by event type."""

from __future__ import annotations

from collections.abc import Mapping

from streams.common.arguments import checked_mapping, checked_seconds
from streams.errors import ConfigurationError
from streams.middleware.base import Middleware
from streams.quantities import Seconds


class Timeout(Middleware):
    """Cancels attempts that take too long; they fail with a ``TimeoutError``.

    The runners' deadlines enforce it, without a timer and a hook. A handler's own
    ``timeout`` comes first.

    Args:
        seconds: seconds, or a ``timedelta``, for every type; None: no limit for types
            that are not in ``types``.
        types: seconds, or a ``timedelta``, by event type.

    Raises:
        ConfigurationError: a limit is not a number of seconds above 0, or there is no
            limit.
    """

    def __init__(
        self,
        seconds: Seconds | None = None,
        *,
        types: Mapping[str, Seconds] | None = None,
    ) -> None:
        limits: dict[str | None, Seconds] = checked_mapping(
            "Timeout: types", types, "types={'order.paid': 5.0}"
        )
        if seconds is not None:
            limits[None] = seconds

        if not limits:
            raise ConfigurationError(
                "Timeout takes seconds, e.g. Timeout(30.0) "
                "or Timeout(types={'order.paid': 5.0})"
            )

        self._limits: dict[str | None, float] = {}
        for kind, limit in limits.items():
            name = "Timeout: seconds" if kind is None else f"Timeout: types[{kind!r}]"
            checked = checked_seconds(name, limit, 0, 999_999_999, above=True)
            self._limits[kind] = checked

    def timeouts(self) -> Mapping[str | None, float]:
        """The limits."""
        return self._limits
