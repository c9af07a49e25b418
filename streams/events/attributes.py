"""The rules for the attributes of published events, with one sentence for each. Pure.

Python, the blocking form, commands and HTTP use the same rules. Stored events are read by
the wider rules of the wire format (``codec.check_meta``), because other programs and
older versions wrote them. No sentence repeats a given text, which may be personal.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from streams.common.arguments import checked_seconds, is_integer
from streams.errors import ConfigurationError
from streams.quantities import seconds_of

LONGEST_TEXT = 500
LONGEST_STATE = 512
"""Characters of ``tracestate`` that every system has to pass on (W3C)."""
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


class AttributeRule(NamedTuple):
    """The allowed values of an attribute.

    Attributes:
        fits: returns whether a value is allowed.
        words: the allowed values in words, to stand behind ``NAME is``.
        span: for seconds, the least, the most, and whether the least itself is refused;
            None for other attributes.
        is_moment: whether a ``datetime`` is allowed, too.
    """

    fits: Callable[[object], bool]
    words: str
    span: tuple[float, float, bool] | None = None
    is_moment: bool = False


def is_time(value: object) -> bool:
    """Whether a value is a valid time of RFC 3339 with a zone."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False

    try:
        datetime.fromisoformat(value.upper().replace(":60", ":59"))
    except ValueError:
        return False

    return True


def _text(longest: int, example: str = "", *, printable: bool = False) -> AttributeRule:
    def fits(value: object) -> bool:
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            return False
        return value.isprintable() or not printable

    kind = "printable characters" if printable else "characters"
    return AttributeRule(fits, f"a text of 1 to {longest} {kind}{example}")


def _matching(pattern: re.Pattern[str], words: str) -> AttributeRule:
    def fits(value: object) -> bool:
        return isinstance(value, str) and pattern.fullmatch(value) is not None

    return AttributeRule(fits, words)


def _is_priority(value: object) -> bool:
    return is_integer(value, -math.inf, math.inf)


def _is_count(value: object) -> bool:
    return is_integer(value, 0, MOST_RETRIES)


def _seconds(
    low: float, high: float, *, above: bool = False, is_moment: bool = False
) -> AttributeRule:
    def fits(value: object) -> bool:
        if is_moment and isinstance(value, datetime):
            return value.tzinfo is not None

        seconds = seconds_of(value)
        if seconds is None or (above and seconds == low):
            return False
        return low <= seconds <= high

    bounds = f"above {low:g}, up to" if above else f"from {low:g} to"
    words = f"a number of seconds {bounds} {high:g}"
    return AttributeRule(fits, words, (low, high, above), is_moment)


_TEXT = _text(LONGEST_TEXT)
_ID = _text(LONGEST_TEXT, printable=True)
RULES: dict[str, AttributeRule] = {
    **dict.fromkeys(
        ("source", "subject", "key", "tenant", "instance", "dataschema", "version"),
        _TEXT,
    ),
    **dict.fromkeys(("id", "dedup_id"), _ID),
    "type": _text(LONGEST_TYPE, ", e.g. order.created", printable=True),
    "time": AttributeRule(
        is_time, "a time of RFC 3339 with a zone, e.g. 2026-01-31T12:00:00Z"
    ),
    "datacontenttype": _matching(_MEDIA_TYPE, "a media type, e.g. text/plain"),
    "traceparent": _matching(
        _TRACEPARENT,
        "a W3C trace context: 2, 32, 16 and 2 hexadecimal digits, joined by hyphens",
    ),
    "tracestate": _text(LONGEST_STATE),
    "priority": AttributeRule(_is_priority, "an integer"),
    "max_retries": AttributeRule(_is_count, f"an integer from 0 to {MOST_RETRIES}"),
    "delay": _seconds(0, LONGEST_DELAY, is_moment=True),
    "expires": _seconds(0, LONGEST_EXPIRY, above=True, is_moment=True),
    "retry_delay": _seconds(0, LONGEST_RETRY_DELAY),
}
"""The rules by name. ``data`` may be anything, and headers have their own rules."""


def sentence(name: str) -> str:
    """The rule of an attribute, as every error words it."""
    return f"{name} is {RULES[name].words}"


def check_attribute(name: str, value: object) -> None:
    """Check an attribute of an event to publish.

    Raises:
        ConfigurationError: the value is not allowed; the message has the rule.
    """
    rule = RULES.get(name)
    if rule is None or rule.fits(value):
        return

    if rule.span is not None:
        # Python also accepts a timedelta or datetime, and this error says so.
        low, high, above = rule.span
        now = time.time if rule.is_moment else None
        checked_seconds(name, value, low, high, above=above, now=now)

    raise ConfigurationError(sentence(name))
