"""Spans of time and counts: as callers give them, and as sentences say them. Pure.

People write spans as text, in options of commands and in variables of the environment; see ``read_span``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

Seconds = float | timedelta
"""A span of time: a number of seconds, or a ``timedelta``."""
When = float | timedelta | datetime
"""How long from now: a number of seconds, a ``timedelta``, or the moment itself as a ``datetime`` with a zone."""

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[0-9]{1,2})?", re.ASCII)
_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PARTS = re.compile(
    "".join(rf"(?:(?P<{unit}>(?:{_NUMBER.pattern})){unit}\s*)?" for unit in _UNITS),
    re.ASCII | re.IGNORECASE,
)


def read_span(text: str) -> float:
    """The seconds of a span as people write it: ``90``, ``1.5``, ``500ms``, ``90s``, ``5m``, ``2h``, ``7d``, ``1d12h``.

    Raises:
        ValueError: it is no span.
    """
    given = text.strip()
    if _NUMBER.fullmatch(given):
        return float(given)
    found = _PARTS.fullmatch(given)
    if not given or found is None:
        raise ValueError(
            "a span is a number of seconds, or written as 500ms, 90s, 5m, 2h, 7d or 1d12h"
        )
    return sum(
        float(number) * _UNITS[unit]
        for unit, number in found.groupdict().items()
        if number
    )


def seconds_of(value: object, now: Callable[[], float] | None = None) -> float | None:
    """The seconds that a value stands for; None where it stands for none.

    Args:
        value: what a caller gave.
        now: tells the Unix time from which a ``datetime`` is counted; a moment that is over is 0 seconds away. None: a
            ``datetime`` is refused.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return (
            None
            if now is None or value.tzinfo is None
            else max(0.0, value.timestamp() - now())
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value


def spoken(value: object) -> str:
    """A value that is refused, as an error names it; of a ``datetime`` also what it lacks."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return f"{value!r}, which has no zone (e.g. datetime.now(UTC) has one)"
    return repr(value)


def span_of(
    what: str, low: float, high: float, *, is_moment: bool = False, above: bool = False
) -> str:
    """What a span of time is, as every refusal of one says it.

    Args:
        what: how the sentence calls it.
        low: seconds, the least.
        high: seconds, the most.
        is_moment: whether a ``datetime`` says it, too.
        above: whether ``low`` itself is too little.
    """
    bounds = f"above {low:g}, up to {high:g}" if above else f"from {low:g} to {high:g}"
    kinds = "a timedelta or a datetime with a zone" if is_moment else "a timedelta"
    return f"{what} is a number of seconds {bounds}, or {kinds}"


def counted(number: int, one: str, several: str = "", *, form: str = "") -> str:
    """``1 event``, ``2 events``: a number and what it counts, which may be a verb, too.

    Args:
        number: how many.
        one: what stands behind a single one.
        several: what stands behind all other numbers; ``one`` with an s if empty.
        form: how the number is written, e.g. ``,`` for thousands.
    """
    return f"{number:{form}} {one if number == 1 else several or one + 's'}"
