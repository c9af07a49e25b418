"""Timeout: a limit for every attempt, by default and by event type."""

from __future__ import annotations

from collections.abc import Mapping

from streams.errors import ConfigurationError
from streams.middleware.base import Middleware


class Timeout(Middleware):
    """Cancels attempts that take too long; they count as failed with a ``TimeoutError``.

    Enforced by the runners' deadlines, so it costs no timer and no hook. A handler's own ``timeout`` wins.

    Args:
        seconds: for every type; None: no limit for types that are not in ``types``.
        types: seconds by event type.

    Raises:
        ConfigurationError: a limit is not a number of seconds above 0, or there is none at all.
    """

    def __init__(self, seconds: float | None = None, *, types: Mapping[str, float] | None = None) -> None:
        limits: dict[str | None, float] = {kind: limit for kind, limit in (types or {}).items()}  # noqa: C416
        if seconds is not None:
            limits[None] = seconds
        if not limits:
            raise ConfigurationError("Timeout takes seconds, e.g. Timeout(30.0) or Timeout(types={'order.paid': 5.0})")
        for kind, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < 1e9:
                where = "seconds" if kind is None else f"types[{kind!r}]"
                raise ConfigurationError(f"Timeout: {where} is a number of seconds above 0, not {limit!r}")
        self._limits = limits

    def timeouts(self) -> Mapping[str | None, float]:
        """The limits."""
        return self._limits
