"""Error rules: the outcome of an exception, so that handlers need no pipeline classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from streams.common.arguments import checked_items, checked_mapping, checked_seconds
from streams.errors import ConfigurationError, HandlerSignal, Reject, Snooze
from streams.middleware.base import Attempt, Middleware
from streams.quantities import Seconds

_Outcome = Literal["retry", "reject", "snooze", "retry_after"]
_Rule = tuple[_Outcome, float]
Errors = Iterable[type[BaseException]]


class ErrorRules(Middleware):
    """Turns exceptions of handlers into outcomes, by the nearest base class with a rule.

    ``Reject``, ``Snooze`` and ``Skip`` of a handler stay as they are, and so do the
    handler's ``Retry.reject_on`` and ``retry_on``.

    Args:
        retry: retried by the handler's ``Retry``. Use it for exceptions from a wider
            rule, e.g. ``KeyError`` below ``LookupError``.
        reject: dead letter at once, with reason ``rejected``.
        snooze: tried again after these seconds (or a ``timedelta``), without using up an
            attempt.
        retry_after: retried after exactly these seconds (or a ``timedelta``). It counts
            as a failure.

    Raises:
        ConfigurationError: a class is not an exception, a time is not a number of
            seconds, or a class has two rules.
    """

    def __init__(
        self,
        *,
        retry: Errors = (),
        reject: Errors = (),
        snooze: Mapping[type[BaseException], Seconds] | None = None,
        retry_after: Mapping[type[BaseException], Seconds] | None = None,
    ) -> None:
        self._rules: dict[type[BaseException], _Rule] = {}
        self._add("retry", _classes("retry", retry))
        self._add("reject", _classes("reject", reject))
        self._add("snooze", _spans("snooze", snooze))
        self._add("retry_after", _spans("retry_after", retry_after))

    def _add(self, what: _Outcome, spans: list[tuple[Any, Seconds]]) -> None:
        for kind, span in spans:
            self._add_one(what, kind, span)

    def _add_one(self, what: _Outcome, kind: Any, span: Seconds) -> None:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise ConfigurationError(
                f"ErrorRules: {what} takes classes of exceptions, not {kind!r}"
            )

        name = f"ErrorRules: {what} of {kind.__name__}"
        seconds = checked_seconds(name, span, 0, 1e9)
        if kind in self._rules:
            raise ConfigurationError(
                f"ErrorRules: {kind.__name__} is in {self._rules[kind][0]} already"
            )

        self._rules[kind] = (what, seconds)

    def failed(self, attempt: Attempt, error: BaseException) -> BaseException | None:
        """Apply the rule, if there is one."""
        if isinstance(error, (HandlerSignal, asyncio.CancelledError)):
            return None

        for kind in type(error).__mro__:
            if kind in self._rules:
                return _outcome(self._rules[kind], error)

        return None


def _outcome(rule: _Rule, error: BaseException) -> BaseException | None:
    what, seconds = rule
    if what == "retry":
        return None
    if what == "snooze":
        return Snooze(seconds, type(error).__name__)
    if what == "reject":
        return _instead(Reject(_told(error)), error)
    return _asking(error, seconds)


def _classes(what: str, given: object) -> list[tuple[Any, Seconds]]:
    kinds = checked_items(f"ErrorRules: {what}", given, f"{what}=[ValueError]")
    return [(kind, 0.0) for kind in kinds]


def _spans(what: str, given: object) -> list[tuple[Any, Seconds]]:
    example = f"{what}={{TimeoutError: 30}}"
    return list(checked_mapping(f"ErrorRules: {what}", given, example).items())


class RetryLater(Exception):  # noqa: N818 - named like Snooze and Reject
    """Replaces an exception that does not take the attribute ``retry_after``."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.retry_after = seconds


def _asking(error: BaseException, seconds: float) -> BaseException:
    """The exception with ``retry_after``: the same one, so that its place is recorded."""
    try:
        error.retry_after = seconds  # type: ignore[attr-defined]
        if error.retry_after == seconds:  # type: ignore[attr-defined]
            return error
    except Exception:  # noqa: BLE001, S110 - a property or slots of a user's class
        pass

    return _instead(RetryLater(_told(error), seconds), error)


def _instead(new: BaseException, error: BaseException) -> BaseException:
    new.__cause__ = error
    return new.with_traceback(error.__traceback__)


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - __str__ of a user's class may raise anything
        return type(error).__name__
