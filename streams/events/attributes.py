"""The rules for an event's attributes: Python, the blocking form, commands and HTTP refuse by the same sentence. Pure.

They are for what is published. What is stored is read by the wider rules of the wire format (``codec.check_meta``), as
other programs and older versions wrote it. No sentence repeats a text that was given: it may be somebody's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from streams.common.arguments import checked_seconds
from streams.errors import ConfigurationError
from streams.quantities import seconds_of

LONGEST_TEXT = 500
LONGEST_STATE = 512
"""Characters of ``tracestate`` that W3C asks everybody to hand on."""
LONGEST_TYPE = 200
LONGEST_DELAY = 1e10
LONGEST_EXPIRY = 1e11
LONGEST_RETRY_DELAY = 1e9
MOST_RETRIES = 1_000_000
TIME = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
MEDIA_TYPE = (
    r"^[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}(; ?[ -~]{1,200})?$"
)
TRACEPARENT = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

_TIME = re.compile(TIME, re.ASCII)
_MEDIA_TYPE = re.compile(MEDIA_TYPE)
_TRACEPARENT = re.compile(TRACEPARENT)


class Rule(NamedTuple):
    """What an attribute may be.

    Attributes:
        fits: whether a value is allowed.
        words: what is allowed, as it stands behind ``NAME is``.
        span: of seconds: the least and the most, and whether the least itself is too little; None: of no seconds.
        is_moment: whether a ``datetime`` says it, too.
    """

    fits: Callable[[object], bool]
    words: str
    span: tuple[float, float, bool] | None = None
    is_moment: bool = False


def is_time(value: object) -> bool:
    """Whether a value is a time of RFC 3339, with a zone, that there is."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper().replace(":60", ":59"))
    except ValueError:
        return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT


def _is_state(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_STATE


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_TEXT
        and value.isprintable()
    )


def _is_type(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_TYPE
        and value.isprintable()
    )


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value <= MOST_RETRIES
    )


def _seconds(
    low: float, high: float, *, above: bool = False, is_moment: bool = False
) -> Rule:
    def fits(value: object) -> bool:
        if is_moment and isinstance(value, datetime):
            return value.tzinfo is not None
        seconds = seconds_of(value)
        return (
            seconds is not None
            and low <= seconds <= high
            and not (above and seconds == low)
        )

    words = f"a number of seconds {f'above {low:g}, up to' if above else f'from {low:g} to'} {high:g}"
    return Rule(fits, words, (low, high, above), is_moment)


_TEXT = Rule(_is_text, f"a text of 1 to {LONGEST_TEXT} characters")
_ID = Rule(_is_id, f"a text of 1 to {LONGEST_TEXT} printable characters")
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("source", "subject", "key", "tenant", "instance", "dataschema", "version"),
        _TEXT,
    ),
    **dict.fromkeys(("id", "dedup_id"), _ID),
    "type": Rule(
        _is_type,
        f"a text of 1 to {LONGEST_TYPE} printable characters, e.g. order.created",
    ),
    "time": Rule(is_time, "a time of RFC 3339 with a zone, e.g. 2026-01-31T12:00:00Z"),
    "datacontenttype": Rule(_matches(_MEDIA_TYPE), "a media type, e.g. text/plain"),
    "traceparent": Rule(
        _matches(_TRACEPARENT),
        "a W3C trace context: 2, 32, 16 and 2 hexadecimal digits, joined by hyphens",
    ),
    "tracestate": Rule(_is_state, f"a text of 1 to {LONGEST_STATE} characters"),
    "priority": Rule(_is_integer, "an integer"),
    "max_retries": Rule(_is_count, f"an integer from 0 to {MOST_RETRIES}"),
    "delay": _seconds(0, LONGEST_DELAY, is_moment=True),
    "expires": _seconds(0, LONGEST_EXPIRY, above=True, is_moment=True),
    "retry_delay": _seconds(0, LONGEST_RETRY_DELAY),
}
"""By name; ``data`` may be anything, and headers have rules of their own."""


def sentence(name: str) -> str:
    """What an attribute is, as every refusal says it."""
    return f"{name} is {RULES[name].words}"


def check_attribute(name: str, value: object) -> None:
    """Let an attribute pass that an event may be published with.

    Raises:
        ConfigurationError: it may not; the message names the attribute and says what it is.
    """
    rule = RULES.get(name)
    if rule is None or rule.fits(value):
        return
    # In Python a span or a moment says it, too, and what was given is told.
    if rule.span is not None:
        low, high, above = rule.span
        checked_seconds(
            name,
            value,
            low,
            high,
            above=above,
            now=time.time if rule.is_moment else None,
        )
    raise ConfigurationError(sentence(name))
