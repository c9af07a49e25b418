"""Retry: a pure decision from what happened so far to what happens next.

Consumer and reclaimer use the same decision; neither the clock nor the server is asked here.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import orjson

from streams.common.arguments import checked_seconds
from streams.errors import ConfigurationError, MalformedEvent, Reject
from streams.quantities import Seconds, seconds_of

MAX_ERRORS_KEPT = 5
LONGEST_DELAY = 1e9
"""Seconds."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Decision: try again after ``delay`` seconds, or a ``timedelta``; from 0 to 1e9."""

    delay: float

    # What may be given is wider than what is kept: a span becomes seconds.
    if TYPE_CHECKING:

        def __init__(self, delay: Seconds) -> None: ...

    def __post_init__(self) -> None:
        if isinstance(self.delay, timedelta):
            object.__setattr__(self, "delay", self.delay.total_seconds())


@dataclass(frozen=True, slots=True)
class Bury:
    """Decision: move to the dead letters; ``reason`` is a stable word (see ``docs/dead-letters.md``).

    At most 100 printable characters.
    """

    reason: str


Decision = RetryIn | Bury


def checked_decision(decision: object) -> Decision:
    """What a policy decided, if it can be done. A policy may be the user's.

    Raises:
        TypeError: it is no decision, has no number of seconds from 0 to 1e9, or gives no short text as the reason.
    """
    delay = seconds_of(decision.delay) if isinstance(decision, RetryIn) else None
    if (
        isinstance(decision, RetryIn)
        and delay is not None
        and 0 <= delay <= LONGEST_DELAY
    ):
        return decision
    reason = decision.reason if isinstance(decision, Bury) else None
    if (
        isinstance(decision, Bury)
        and isinstance(reason, str)
        and reason.isprintable()
        and 0 < len(reason) <= 100
    ):
        return decision
    raise TypeError(
        "a retry policy decides for RetryIn with seconds from 0 to 1e+09, or for Bury with a reason of 1 to 100 "
        f"printable characters, not for {decision!r:.100}"
    )


@dataclass(slots=True)
class AttemptRecord:
    """What is known of an entry's attempts before the present one. Absent for an entry that never failed.

    Attributes:
        failures: attempts that raised.
        stalls: deliveries whose consumer went silent after the attempt had started.
        first, last: Unix time (seconds, server clock) of the first and of the latest failure or stall.
        errors: the latest five, oldest first: ``{"at", "attempt", "kind", "type", "message", "where", "consumer"}``,
            and ``traceback`` of the latest.
        suspect: whether its next stall is its last, so that it runs alone.
        reserved: what an older version wrote here: limit to what is reserved there. Read, and never written.
        held: what an older version wrote here: scope of the pause that it waits for; '' if none. Never written.
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
        """Attempts started so far, as far as the server knows."""
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
        self.last = at
        for earlier in self.errors:  # Of those the place is enough.
            earlier.pop("traceback", None)
        self.errors.append({"at": at, "attempt": self.attempts, "kind": kind, **error})
        del self.errors[:-MAX_ERRORS_KEPT]

    def note(self, error: dict[str, Any], *, at: float) -> None:
        """Write down why the entry ends without an attempt: nothing started, so nothing is counted."""
        self.last = at
        self.errors.append(
            {"at": at, "attempt": self.attempts, "kind": "refused", **error}
        )
        del self.errors[:-MAX_ERRORS_KEPT]

    def to_json(self) -> bytes:
        """As stored in the attempts hash and in a dead letter."""
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
        """Read a stored record; what cannot be read counts as no record."""
        if not text:
            return cls()
        try:
            stored = orjson.loads(text)
            return cls(
                failures=int(stored["failures"]),
                stalls=int(stored["stalls"]),
                first=float(stored["first"]),
                last=float(stored["last"]),
                errors=[error for error in stored["errors"] if isinstance(error, dict)],
                suspect=bool(stored.get("suspect")),
                held=str(stored.get("held", "")),
                reserved={
                    str(name): int(kind)
                    for name, kind in stored.get("reserved", {}).items()
                },
            )
        except (
            orjson.JSONDecodeError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
        ):
            return cls()


@runtime_checkable
class RetryPolicy(Protocol):
    """What ``retry=`` takes: ``Retry``, or any object with these two methods.

    Both decide at once and may be called in any worker: what they need to know is in the record. What one raises, or a
    decision that cannot be done, is logged, and ``Retry()`` decides for that attempt.
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
            error: what was raised.
            record: of the attempts so far, this one counted.
            max_retries: the event's own, if it has any.
            retry_delay: the event's own, in seconds.
        """

    def after_stall(
        self, record: AttemptRecord, *, max_retries: int | None = None
    ) -> Decision:
        """Decide after a delivery whose worker went silent; ``record`` already counts it.

        Set ``record.suspect`` where its next stall is its last: the event then runs alone.
        """


@dataclass(frozen=True)
class Retry:
    """When a failed event is tried again.

    A subclass may have attributes and an ``__init__`` of its own; values that it does not hand on are the usual ones.

    Args:
        max_retries: retries after the first attempt; 0: none. An entry is dead when failures + stalls exceed it; of one
            that stalled, when it has stalled in an attempt alone as well.
        delay: seconds, or a ``timedelta``, before the first retry.
        backoff: ``exponential`` doubles the delay each time, ``linear`` adds it, ``fixed`` keeps it.
        max_delay: seconds or a ``timedelta``; no computed delay is longer.
        jitter: share by which a computed delay is varied up and down, 0 to 1.
        retry_on: only these exceptions are retried; empty: all.
        reject_on: these go to the dead letters at once; wins over ``retry_on``.

    Raises:
        ConfigurationError: a value is out of range; the message names it.
    """

    max_retries: int = 3
    delay: float = 5.0
    backoff: Literal["exponential", "linear", "fixed"] = "exponential"
    max_delay: float = 3600.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = ()
    reject_on: tuple[type[BaseException], ...] = ()

    # What may be given is wider than what is kept: spans become seconds.
    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0913 - a field each
            self,
            max_retries: int = 3,
            delay: Seconds = 5.0,
            backoff: Literal["exponential", "linear", "fixed"] = "exponential",
            max_delay: Seconds = 3600.0,
            jitter: float = 0.1,
            retry_on: tuple[type[BaseException], ...] = (),
            reject_on: tuple[type[BaseException], ...] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        if (
            isinstance(self.max_retries, bool)
            or not isinstance(self.max_retries, int)
            or self.max_retries < 0
        ):
            raise ConfigurationError(
                f"Retry.max_retries is an integer of 0 or more, not {self.max_retries!r}"
            )
        if self.backoff not in ("exponential", "linear", "fixed"):
            raise ConfigurationError(
                f"Retry.backoff is exponential, linear or fixed, not {self.backoff!r}"
            )
        for name, low, high in (
            ("delay", 0.0, LONGEST_DELAY),
            ("max_delay", 0.0, LONGEST_DELAY),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if name != "jitter":
                object.__setattr__(
                    self, name, checked_seconds(f"Retry.{name}", value, low, high)
                )
            elif (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not low <= value <= high
            ):
                raise ConfigurationError(
                    f"Retry.{name} is a number from {low:g} to {high:g}, not {value!r}"
                )
        for name in ("retry_on", "reject_on"):
            kinds = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(
                isinstance(kind, type) and issubclass(kind, BaseException)
                for kind in kinds
            ):
                raise ConfigurationError(
                    f"Retry.{name} takes a tuple of exception classes, not {kinds!r}"
                )

    def limit(self, override: int | None) -> int:
        """How many retries an event may have; the event's own ``max_retries`` wins."""
        return self.max_retries if override is None else override

    def delay_for(
        self,
        failures: int,
        override: float | None = None,
        rng: random.Random | None = None,
    ) -> float:
        """Seconds before the next try after ``failures`` failures, jitter included; never above ``max_delay``."""
        base = self.delay if override is None else override
        step = max(1, failures)
        if self.backoff == "exponential":
            wait = base * 2.0 ** min(step - 1, 60)
        elif self.backoff == "linear":
            wait = base * step
        else:
            wait = base
        uniform = rng.uniform if rng is not None else random.uniform
        return min(
            min(wait, self.max_delay) * uniform(1 - self.jitter, 1 + self.jitter),
            self.max_delay,
        )

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
        if isinstance(error, self.reject_on) or (
            self.retry_on and not isinstance(error, self.retry_on)
        ):
            return Bury("not-retryable")
        allowed = self.limit(max_retries)
        if record.attempts > allowed:
            return Bury("retries-used-up")
        record.suspect = record.stalls > 0 and record.attempts >= allowed
        asked = _retry_after(error)
        return RetryIn(
            self.delay_for(record.failures, retry_delay, rng)
            if asked is None
            else asked
        )

    def after_stall(
        self, record: AttemptRecord, *, max_retries: int | None = None
    ) -> Decision:
        """Decide after a delivery whose consumer went silent; ``record`` already counts it.

        The lease was the wait, so the retry is due at once. One stall before the last makes the entry a suspect: if it
        kills its worker again it dies, and since nothing else of that process runs meanwhile, no neighbour does. What
        was no suspect yet may only have stood beside the killer: it has one attempt alone, whatever its retries.
        """
        allowed, was_alone = self.limit(max_retries), record.suspect
        if record.attempts > allowed and was_alone:
            return Bury("stalled")
        record.suspect = record.attempts >= allowed
        return RetryIn(0.0)


def _retry_after(error: BaseException) -> float | None:
    """Seconds asked for by the exception's own ``retry_after``: a number of 0 or more, its text, or another span."""
    try:
        asked = getattr(error, "retry_after", None)
    except BaseException:  # noqa: BLE001 - a property of somebody else's class; the retry must not depend on it
        return None
    try:
        seconds = (
            float(asked) if isinstance(asked, str) else seconds_of(asked, time.time)
        )
    except (ValueError, OverflowError):
        return None
    return (
        float(seconds)
        if seconds is not None and 0 <= seconds <= LONGEST_DELAY
        else None
    )
