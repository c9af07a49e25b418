"""Spans of time and counts: how callers give them, and how messages print them. Pure.

Command options and environment variables hold spans as text; see ``read_span``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

Seconds = float | timedelta
"""A span of time: a number of seconds, or a ``timedelta``."""
When = float | timedelta | datetime
"""A moment: seconds from now, a ``timedelta``, or a ``datetime`` with a zone."""

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[0-9]{1,2})?", re.ASCII)
_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PARTS = re.compile(
    "".join(rf"(?:(?P<{unit}>(?:{_NUMBER.pattern})){unit}\s*)?" for unit in _UNITS),
    re.ASCII | re.IGNORECASE,
)


def read_span(text: str) -> float:
    """Parse a span such as ``90``, ``1.5``, ``500ms``, ``5m`` or ``1d12h`` to seconds.

    Raises:
        ValueError: the text is not a span.
    """
    given = text.strip()
    if _NUMBER.fullmatch(given):
        return float(given)

    found = _PARTS.fullmatch(given)
    if not given or found is None:
        raise ValueError(
            "a span is a number of seconds, "
            "or written as 500ms, 90s, 5m, 2h, 7d or 1d12h"
        )

    numbers = found.groupdict("0")
    return sum(float(numbers[unit]) * seconds for unit, seconds in _UNITS.items())


def seconds_of(value: object, now: Callable[[], float] | None = None) -> float | None:
    """The seconds that a value stands for; None if it is not a span.

    Args:
        value: a caller's argument.
        now: returns the Unix time from which a ``datetime`` is counted. A moment in the
            past is 0 seconds away. None: a ``datetime`` is not a span.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()

    if isinstance(value, datetime):
        if now is None or value.tzinfo is None:
            return None
        return max(0.0, value.timestamp() - now())

    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value


def spoken(value: object) -> str:
    """The representation of a refused value, with a hint for a ``datetime`` without zone."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return f"{value!r}, which has no zone (e.g. datetime.now(UTC) has one)"
    return repr(value)


def span_of(
    what: str, low: float, high: float, *, is_moment: bool = False, above: bool = False
) -> str:
    """The rule for a span of time, as every error about one words it.

    Args:
        what: the name of the argument.
        low: the least, in seconds.
        high: the most, in seconds.
        is_moment: whether a ``datetime`` is accepted, too.
        above: whether ``low`` itself is refused.
    """
    bounds = f"above {low:g}, up to {high:g}" if above else f"from {low:g} to {high:g}"
    kinds = "a timedelta or a datetime with a zone" if is_moment else "a timedelta"
    return f"{what} is a number of seconds {bounds}, or {kinds}"


def counted(number: int, one: str, several: str = "", *, form: str = "") -> str:
    """A number with its noun in the right form: ``1 event``, ``2 events``.

    Args:
        number: the number.
        one: the words for exactly one.
        several: the words for all other numbers; ``one`` with an s if empty.
        form: the format of the number, e.g. ``,`` for thousands.
    """
    words = one if number == 1 else several or f"{one}s"
    return f"{number:{form}} {words}"
