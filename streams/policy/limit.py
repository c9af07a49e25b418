"""Limit: how often events of one key may start, declared with a handler."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from streams.common.arguments import checked_items
from streams.errors import ConfigurationError
from streams.events.event import Event

KeyFunction = Callable[[Event[Any]], Any]

ATTRIBUTES = ("key", "tenant", "instance", "subject", "type", "source")
"""Attributes of an event that a limit may be named by."""
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(
    r"\s*(?P<count>\d{1,9})\s*/\s*(?P<many>\d{0,6}(?:\.\d{1,6})?)\s*(?P<unit>[smhd])\s*"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_KEY = 200
MOST_LIMITS = 8
_LOOK_AHEAD = 0.1
"""Seconds' worth of starts that a limit lets through at once if it does not say how many: workers do not look at every
moment."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts per time; ``burst`` of them may come at once after a quiet time.

    Attributes:
        interval: seconds between two starts in the long run.
        burst: how many may start at once, 1 or more.
    """

    interval: float
    burst: int = 1

    @classmethod
    def parse(cls, text: str, burst: int | None = None) -> Rate:
        """Read ``60/s``, ``1/6s``, ``100/m``, ``5000/h``, ``10/d``; ``burst`` None: what comes in a tenth of a second.

        Raises:
            ConfigurationError: it cannot be read.
        """
        found = _RATE.fullmatch(text) if isinstance(text, str) else None
        count = int(found["count"]) if found else 0
        if found is None or not count or found["many"] == ".":
            raise ConfigurationError(
                f"rate is a count per time, e.g. '60/s', '1/6s' or '5000/h', not {text!r}"
            )
        interval = float(found["many"] or 1) * _UNITS[found["unit"]] / count
        if not 1e-4 <= interval <= 31 * 86_400:
            raise ConfigurationError(
                f"rate is from one in 31 days to 10000 in a second, not {text!r}"
            )
        if burst is None:
            burst = max(1, math.floor(_LOOK_AHEAD / interval))
        if (
            isinstance(burst, bool)
            or not isinstance(burst, int)
            or not 1 <= burst <= 1_000_000
        ):
            raise ConfigurationError(
                f"burst is an integer from 1 to 1000000, not {burst!r}"
            )
        return cls(interval, burst)

    def __str__(self) -> str:
        """As it could be written in a declaration."""
        return f"{self._text()} burst {self.burst}"

    def _text(self) -> str:
        if 1 < self.interval < 60 and math.isclose(self.interval, round(self.interval)):
            return f"1/{round(self.interval)}s"
        for unit in ("s", "m", "h", "d"):
            count = _UNITS[unit] / self.interval
            # Stored to the microsecond: what is close to a whole number was one.
            if count >= 0.99 and math.isclose(
                count, round(count), rel_tol=5e-7 / self.interval + 1e-9
            ):
                return f"{round(count)}/{unit}"
        return f"1/{self.interval:g}s"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many starts of events of one key.

    Args:
        by: what the key is: an attribute of the event (``key``, ``tenant``, ``instance``, ``subject``, ``type``,
            ``source``), several of them, or a function of the event. An event whose key, or a part of it, is None or
            empty is not limited.
        rate: ``60/s``, ``1/6s``, ``5000/h``. None: no rate; only ``Throttle`` and ``streams limits set`` hold it back.
        burst: how many may start at once after a quiet time. None: what the rate lets through in a tenth of a second.
        concurrency: how many events of a key are with handlers at the same time, over all workers. None: any number.
        name: under which its state is kept, and what ``Throttle`` and the commands call it. '': the attributes' names,
            or ``limit2`` for a function that is the second limit of its handler; better give it one. Handlers of a
            group that use the same name share the limit.

    Raises:
        ConfigurationError: a value is refused.
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
                        f"a limit is by {', '.join(ATTRIBUTES)}, several of them, or a function of the event, "
                        f"not by {name!r}"
                    )
            if not names:
                raise ConfigurationError("a limit is by one attribute or more")
            object.__setattr__(self, "name", self.name or "-".join(names))
        elif not callable(names) or inspect.iscoroutinefunction(names):
            raise ConfigurationError(
                f"a limit is by an attribute's name or a function of the event, which is not awaited, not {self.by!r}"
            )
        if not isinstance(self.name, str) or (
            self.name and not _NAME.fullmatch(self.name)
        ):
            raise ConfigurationError(
                f"name of a limit: use 1 to 64 letters, digits, dots, underscores and hyphens, not {self.name!r}"
            )
        most = self.concurrency
        if most is not None and (
            isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 1000
        ):
            raise ConfigurationError(
                f"concurrency of a limit is an integer from 1 to 1000, not {most!r}"
            )
        if self.rate is None and self.burst is not None:
            raise ConfigurationError("burst belongs to a rate: give both, or neither")
        if self.rate is not None:
            object.__setattr__(self, "parsed", Rate.parse(self.rate, self.burst))

    @property
    def text(self) -> str:
        """What is declared, in words."""
        slots = f"concurrency {self.concurrency}" if self.concurrency else ""
        rate = str(self.parsed) if self.parsed is not None else ""
        return ", ".join(filter(None, (rate, slots))) or "no rate"

    def key_of(self, event: Event[Any]) -> str | None:
        """The event's key under this limit; None: the event is not limited by it."""
        if isinstance(self.by, str):
            found: Any = getattr(event, self.by)
        elif isinstance(self.by, tuple):
            found = tuple(getattr(event, name) for name in self.by)
        else:
            found = self.by(event)
        return key_text(found)


def key_text(value: Any) -> str | None:
    """A key as text that can be stored, at most 200 characters; None for what is None or empty, or has such a part."""
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if not parts or any(part is None or part == "" for part in parts):
        return None
    text = ",".join(map(str, parts))
    if len(text) <= _LONGEST_KEY and (text.isascii() or _can_be_sent(text)):
        return text
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=16
    ).hexdigest()


def _can_be_sent(text: str) -> bool:
    """Whether text has no half of a pair of surrogates, which has no bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def checked_limits(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """The limits of a handler, each with a name.

    Raises:
        ConfigurationError: one is no limit, two have the same name, or there are more than 8.
    """
    named: dict[str, Limit] = {}
    for position, limit in enumerate(
        checked_items("limits", limits, "limits=[Limit('tenant', rate='10/s')]"), 1
    ):
        if not isinstance(limit, Limit):
            raise ConfigurationError(
                f"limits is a list of Limit(...), not of {type(limit).__name__}"
            )
        name = limit.name or f"limit{position}"
        if name in named:
            raise ConfigurationError(
                f"two limits are named {name!r}: give one of them another name=, e.g. Limit(..., name='{name}-2')"
            )
        named[name] = replace(limit, name=name)
    if len(named) > MOST_LIMITS:
        raise ConfigurationError(
            f"a handler has at most {MOST_LIMITS} limits, not {len(named)}"
        )
    return tuple(named.values())
