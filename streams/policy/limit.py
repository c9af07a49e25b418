"""Limits: how often, and how many at once, events of one key may start."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from streams.common.arguments import checked_items, checked_number
from streams.errors import ConfigurationError
from streams.events.event import Event

KeyFunction = Callable[[Event[Any]], Any]

ATTRIBUTES = ("key", "tenant", "instance", "subject", "type", "source")
"""Attributes of an event that can be the key of a limit."""
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(
    r"\s*(?P<count>\d{1,9})\s*/\s*(?P<many>\d{0,6}(?:\.\d{1,6})?)\s*(?P<unit>[smhd])\s*"
)
_NAME_OR_NONE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which cannot be encoded as UTF-8."""
_LONGEST_KEY = 200
MOST_LIMITS = 8
_LOOK_AHEAD = 0.1
"""The default burst is the starts of so many seconds, because workers poll."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of starts. After a quiet time, ``burst`` of them may come at once.

    Attributes:
        interval: the mean seconds between two starts.
        burst: the most starts at once, 1 or more.
    """

    interval: float
    burst: int = 1

    @classmethod
    def parse(cls, text: str, burst: int | None = None) -> Rate:
        """Parse ``60/s``, ``1/6s``, ``100/m``, ``5000/h`` or ``10/d``.

        Without a ``burst`` it is the number of starts in a tenth of a second.

        Raises:
            ConfigurationError: the text has another form, or a value is out of range.
        """
        found = _RATE.fullmatch(text) if isinstance(text, str) else None
        count = int(found["count"]) if found else 0
        if found is None or not count or found["many"] == ".":
            raise ConfigurationError(
                "rate is a count per time, e.g. '60/s', '1/6s' or '5000/h', "
                f"not {text!r}"
            )

        interval = float(found["many"] or 1) * _UNITS[found["unit"]] / count
        if not 1e-4 <= interval <= 31 * 86_400:
            raise ConfigurationError(
                f"rate is from one in 31 days to 10000 in a second, not {text!r}"
            )

        if burst is None:
            burst = max(1, math.floor(_LOOK_AHEAD / interval))

        checked_number("burst", burst, 1, 1_000_000)
        return cls(interval, burst)

    def __str__(self) -> str:
        """The rate in the form of a declaration."""
        return f"{self._text()} burst {self.burst}"

    def _text(self) -> str:
        seconds = round(self.interval)
        if 1 < self.interval < 60 and math.isclose(self.interval, seconds):
            return f"1/{seconds}s"

        # The interval is stored to the microsecond, so that counts are not exact.
        tolerance = 5e-7 / self.interval + 1e-9
        for unit in ("s", "m", "h", "d"):
            count = _UNITS[unit] / self.interval
            if count >= 0.99 and math.isclose(count, round(count), rel_tol=tolerance):
                return f"{round(count)}/{unit}"

        return f"1/{self.interval:g}s"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on the starts of the events of one key.

    Args:
        by: the key: an attribute of the event (``key``, ``tenant``, ``instance``,
            ``subject``, ``type``, ``source``), several of them, or a function of the
            event. An event is not limited if its key, or a part of it, is None or empty.
        rate: e.g. ``60/s``, ``1/6s`` or ``5000/h``. None: no rate. ``Throttle`` and
            ``streams limits set`` still apply.
        burst: the most starts at once after a quiet time. None: the starts in a tenth of
            a second at this rate.
        concurrency: the most events of a key in handlers at once, over all workers. None:
            any number.
        name: the name of its stored state, for ``Throttle`` and the commands. '': the
            names of the attributes, or ``limit2`` for a function that is the second limit
            of its handler. A function should have a name. Handlers of a group share the
            limits with the same name.

    Raises:
        ConfigurationError: a value is invalid.
    """

    by: str | tuple[str, ...] | KeyFunction
    rate: str | None = None
    burst: int | None = None
    concurrency: int | None = None
    name: str = ""
    parsed: Rate | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        names = (self.by,) if isinstance(self.by, str) else self.by
        if isinstance(names, tuple):
            for name in names:
                if name not in ATTRIBUTES:
                    raise ConfigurationError(
                        f"a limit is by {', '.join(ATTRIBUTES)}, several of them, "
                        f"or a function of the event, not by {name!r}"
                    )

            if not names:
                raise ConfigurationError("a limit is by one attribute or more")

            object.__setattr__(self, "name", self.name or "-".join(names))
        elif not callable(names) or inspect.iscoroutinefunction(names):
            raise ConfigurationError(
                "a limit is by an attribute's name or a function of the event, "
                f"which is not awaited, not {self.by!r}"
            )

        if not isinstance(self.name, str) or not _NAME_OR_NONE.fullmatch(self.name):
            raise ConfigurationError(
                "name of a limit: use 1 to 64 letters, digits, dots, underscores "
                f"and hyphens, not {self.name!r}"
            )

        if self.concurrency is not None:
            checked_number("concurrency of a limit", self.concurrency, 1, 1000)

        if self.rate is None and self.burst is not None:
            raise ConfigurationError("burst belongs to a rate: give both, or neither")

        if self.rate is not None:
            object.__setattr__(self, "parsed", Rate.parse(self.rate, self.burst))

    @property
    def text(self) -> str:
        """The declared limit in words."""
        slots = f"concurrency {self.concurrency}" if self.concurrency else ""
        rate = str(self.parsed) if self.parsed is not None else ""
        return ", ".join(filter(None, (rate, slots))) or "no rate"

    def key_of(self, event: Event[Any]) -> str | None:
        """The event's key under this limit; None if the event is not limited."""
        if isinstance(self.by, str):
            found: Any = getattr(event, self.by)
        elif isinstance(self.by, tuple):
            found = tuple(getattr(event, name) for name in self.by)
        else:
            found = self.by(event)

        return key_text(found)


def key_text(value: Any) -> str | None:
    """The stored form of a key, at most 200 characters.

    None if the key, or a part of it, is None or empty.
    """
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if not parts or any(part is None or part == "" for part in parts):
        return None

    text = ",".join(map(str, parts))
    if len(text) <= _LONGEST_KEY and (text.isascii() or not _SURROGATE.search(text)):
        return text

    encoded = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def checked_limits(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """The limits of a handler, each with a name.

    Raises:
        ConfigurationError: an item is not a limit, two limits have the same name, or
            there are more than 8.
    """
    named: dict[str, Limit] = {}
    given = checked_items("limits", limits, "limits=[Limit('tenant', rate='10/s')]")
    for position, limit in enumerate(given, 1):
        if not isinstance(limit, Limit):
            raise ConfigurationError(
                f"limits is a list of Limit(...), not of {type(limit).__name__}"
            )

        name = limit.name or f"limit{position}"
        if name in named:
            raise ConfigurationError(
                f"two limits are named {name!r}: give one of them another name=, "
                f"e.g. Limit(..., name='{name}-2')"
            )

        named[name] = replace(limit, name=name)

    if len(named) > MOST_LIMITS:
        raise ConfigurationError(
            f"a handler has at most {MOST_LIMITS} limits, not {len(named)}"
        )

    return tuple(named.values())
