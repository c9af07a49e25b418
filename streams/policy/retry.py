"""Retry: a pure decision from the attempts so far to the next step.

Consumer and reclaimer share it. It uses neither the clock nor the server.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import orjson

from streams.common.arguments import (
    checked_number,
    checked_seconds,
    is_integer,
    is_number,
)
from streams.errors import ConfigurationError, MalformedEvent, Reject
from streams.quantities import Seconds, seconds_of

MAX_ERRORS_KEPT = 5
LONGEST_DELAY = 1e9
"""Seconds."""
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""The errors of reading a stored value that has another form."""
Backoff = Literal["exponential", "linear", "fixed"]

if TYPE_CHECKING:

    class _SecondsField:
        """A field that takes a span and keeps seconds; for type checkers."""

        def __init__(self, default: float) -> None: ...

        def __get__(self, instance: object, owner: object) -> float: ...

        def __set__(self, instance: object, value: Seconds) -> None: ...

else:
    _SecondsField = float

_FIRST_DELAY = _SecondsField(5.0)
_HOUR = _SecondsField(3600.0)


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Decision: try again after ``delay`` seconds, or a ``timedelta``; from 0 to 1e9."""

    delay: float

    # The argument may also be a timedelta; the field is always seconds.
    if TYPE_CHECKING:

        def __init__(self, delay: Seconds) -> None: ...

    def __post_init__(self) -> None:
        if isinstance(self.delay, timedelta):
            object.__setattr__(self, "delay", self.delay.total_seconds())


@dataclass(frozen=True, slots=True)
class Bury:
    """Decision: move to the dead letters.

    ``reason`` is a stable word of at most 100 printable characters; see
    ``docs/dead-letters.md``.
    """

    reason: str


Decision = RetryIn | Bury


def checked_decision(decision: object) -> Decision:
    """The decision of a policy, which may be a user's class, if it is valid.

    Raises:
        TypeError: it is not a decision, its delay is not 0 to 1e9 seconds, or its reason
            is not a short text.
    """
    if isinstance(decision, RetryIn) and is_number(decision.delay, 0, LONGEST_DELAY):
        return decision
    if isinstance(decision, Bury) and _is_reason(decision.reason):
        return decision

    raise TypeError(
        "a retry policy decides for RetryIn with seconds from 0 to 1e+09, "
        "or for Bury with a reason of 1 to 100 printable characters, "
        f"not for {decision!r:.100}"
    )


def _is_reason(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 100 and text.isprintable()


@dataclass(slots=True)
class AttemptRecord:
    """The earlier attempts of an entry. An entry that never failed has no record.

    Attributes:
        failures: attempts that raised.
        stalls: deliveries whose consumer went silent after the attempt had started.
        first, last: Unix time (server clock) of the first and the latest failure or
            stall.
        errors: the latest five, oldest first: ``{"at", "attempt", "kind", "type",
            "message", "where", "consumer"}``, and ``traceback`` of the latest.
        suspect: whether its next stall is its last, so that it runs alone.
        reserved: the reservations per limit, from older versions. It is never written.
        held: the target of the pause that the entry waits for, from older versions. It is
            never written.
    """

    failures: int = 0
    stalls: int = 0
    first: float = 0.0
    last: float = 0.0
    errors: list[dict[str, Any]] = field(default_factory=list)
    suspect: bool = False
    reserved: dict[str, int] = field(default_factory=dict)
    held: str = ""

    @property
    def attempts(self) -> int:
        """The number of started attempts that the server knows of."""
        return self.failures + self.stalls

    def add(
        self, kind: Literal["failure", "stall"], error: dict[str, Any], *, at: float
    ) -> None:
        """Count one more failure or stall at Unix time ``at`` (seconds)."""
        if kind == "failure":
            self.failures += 1
        else:
            self.stalls += 1

        self.first = self.first or at
        for earlier in self.errors:  # Only the latest error keeps its traceback.
            earlier.pop("traceback", None)

        self._keep(kind, error, at)

    def note(self, error: dict[str, Any], *, at: float) -> None:
        """Record the reason of an entry that ends without an attempt. Counts nothing."""
        self._keep("refused", error, at)

    def _keep(self, kind: str, error: dict[str, Any], at: float) -> None:
        self.last = at
        self.errors.append({"at": at, "attempt": self.attempts, "kind": kind, **error})
        del self.errors[:-MAX_ERRORS_KEPT]

    def to_json(self) -> bytes:
        """The form in the attempts hash and in a dead letter."""
        record: dict[str, Any] = {
            "failures": self.failures,
            "stalls": self.stalls,
            "first": self.first,
            "last": self.last,
            "errors": self.errors,
        }
        if self.suspect:
            record["suspect"] = True

        return orjson.dumps(record)

    @classmethod
    def from_json(cls, text: bytes | None) -> AttemptRecord:
        """Read a stored record; an unreadable one counts as none."""
        if not text:
            return cls()

        try:
            stored = orjson.loads(text)
            reserved = stored.get("reserved", {})
            return cls(
                failures=int(stored["failures"]),
                stalls=int(stored["stalls"]),
                first=float(stored["first"]),
                last=float(stored["last"]),
                errors=[error for error in stored["errors"] if isinstance(error, dict)],
                suspect=bool(stored.get("suspect")),
                held=str(stored.get("held", "")),
                reserved={str(name): int(reserved[name]) for name in reserved},
            )
        except UNREADABLE:
            return cls()


@runtime_checkable
class RetryPolicy(Protocol):
    """The interface of ``retry=``: ``Retry``, or any object with these two methods.

    Both must decide at once, from the record alone, because any worker may call them. If
    one raises or returns an invalid decision, the worker logs that, and ``Retry()``
    decides for the attempt.
    """

    def after_failure(
        self,
        error: BaseException,
        record: AttemptRecord,
        *,
        max_retries: int | None = None,
        retry_delay: float | None = None,
    ) -> Decision:
        """Decide after an attempt that raised.

        Args:
            error: the raised exception.
            record: the record of the attempts so far, including this one.
            max_retries: the event's own value, if it has one.
            retry_delay: the event's own value in seconds, if it has one.
        """

    def after_stall(
        self, record: AttemptRecord, *, max_retries: int | None = None
    ) -> Decision:
        """Decide after a delivery whose worker went silent; ``record`` already counts it.

        Set ``record.suspect`` if the next stall is the last one: the event then runs
        alone.
        """


@dataclass(frozen=True)
class Retry:
    """When a failed event is tried again.

    A subclass may have its own attributes and ``__init__``. Values that it does not pass
    to this class keep their defaults.

    Args:
        max_retries: retries after the first attempt; 0: none. An entry is dead when its
            failures and stalls exceed this number. An entry that stalled has one more
            attempt, alone in its process.
        delay: seconds, or a ``timedelta``, before the first retry.
        backoff: ``exponential`` doubles the delay each time, ``linear`` adds it,
            ``fixed`` keeps it.
        max_delay: the longest computed delay, in seconds or as a ``timedelta``.
        jitter: the share by which a computed delay varies up and down, 0 to 1.
        retry_on: only these exceptions are retried; empty: all.
        reject_on: these exceptions make the event a dead letter at once, also if they
            are in ``retry_on``.

    Raises:
        ConfigurationError: a value is out of range; the message names it.
    """

    max_retries: int = 3
    delay: _SecondsField = _FIRST_DELAY
    backoff: Backoff = "exponential"
    max_delay: _SecondsField = _HOUR
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = ()
    reject_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if not is_integer(self.max_retries, 0, math.inf):
            raise ConfigurationError(
                "Retry.max_retries is an integer of 0 or more, "
                f"not {self.max_retries!r}"
            )

        if self.backoff not in get_args(Backoff):
            raise ConfigurationError(
                f"Retry.backoff is exponential, linear or fixed, not {self.backoff!r}"
            )

        for name in ("delay", "max_delay"):
            given = getattr(self, name)
            seconds = checked_seconds(f"Retry.{name}", given, 0, LONGEST_DELAY)
            object.__setattr__(self, name, seconds)

        checked_number("Retry.jitter", self.jitter, 0, 1, kinds=(int, float))
        for name in ("retry_on", "reject_on"):
            kinds = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(map(_is_exception, kinds)):
                raise ConfigurationError(
                    f"Retry.{name} takes a tuple of exception classes, not {kinds!r}"
                )

    def limit(self, override: int | None) -> int:
        """The most retries of an event, whose own ``max_retries`` wins."""
        return self.max_retries if override is None else override

    def delay_for(
        self,
        failures: int,
        override: float | None = None,
        rng: random.Random | None = None,
    ) -> float:
        """Seconds before the next attempt, with jitter, never above ``max_delay``."""
        wait = self.delay if override is None else override
        step = max(1, failures)
        if self.backoff == "exponential":
            wait *= 2.0 ** min(step - 1, 60)
        elif self.backoff == "linear":
            wait *= step

        uniform = rng.uniform if rng is not None else random.uniform
        varied = uniform(1 - self.jitter, 1 + self.jitter)
        return min(min(wait, self.max_delay) * varied, self.max_delay)

    def after_failure(
        self,
        error: BaseException,
        record: AttemptRecord,
        *,
        max_retries: int | None = None,
        retry_delay: float | None = None,
        rng: random.Random | None = None,
    ) -> Decision:
        """Decide after an attempt that raised ``error``; ``record`` already counts it."""
        if isinstance(error, Reject):
            return Bury("rejected")
        if isinstance(error, MalformedEvent):
            return Bury("malformed")
        if isinstance(error, self.reject_on):
            return Bury("not-retryable")
        if self.retry_on and not isinstance(error, self.retry_on):
            return Bury("not-retryable")

        allowed = self.limit(max_retries)
        if record.attempts > allowed:
            return Bury("retries-used-up")

        record.suspect = record.stalls > 0 and record.attempts >= allowed
        delay = _retry_after(error)
        if delay is None:
            delay = self.delay_for(record.failures, retry_delay, rng)

        return RetryIn(delay)

    def after_stall(
        self, record: AttemptRecord, *, max_retries: int | None = None
    ) -> Decision:
        """Decide after a delivery whose consumer went silent; ``record`` already counts it.

        The retry is due at once, because the lease was the wait. One stall before the
        last makes the entry a suspect, which runs alone in its process: if it kills its
        worker again, it is dead and no other event is affected. An entry that was not
        suspect may only have run beside the one that killed the worker. Therefore it gets
        one attempt alone, even if its retries are used up.
        """
        allowed, was_alone = self.limit(max_retries), record.suspect
        if record.attempts > allowed and was_alone:
            return Bury("stalled")

        record.suspect = record.attempts >= allowed
        return RetryIn(0.0)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _retry_after(error: BaseException) -> float | None:
    """The seconds of the exception's ``retry_after``: a span, a moment or a number's text.

    None if the exception has no valid one.
    """
    try:
        asked = getattr(error, "retry_after", None)
    except BaseException:  # noqa: BLE001 - a property of a user's class may raise anything
        return None

    try:
        if isinstance(asked, str):
            asked = float(asked)
        seconds = seconds_of(asked, time.time)
    except (ValueError, OverflowError):
        return None

    if seconds is None or not 0 <= seconds <= LONGEST_DELAY:
        return None
    return float(seconds)
