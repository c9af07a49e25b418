"""Error rules: what an exception means, said once, so that handlers stay free of the pipeline's words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from streams.common.arguments import checked_items, checked_mapping, checked_seconds
from streams.errors import ConfigurationError, HandlerSignal, Reject, Snooze
from streams.middleware.base import Attempt, Middleware
from streams.quantities import Seconds

_Rule = tuple[Literal["retry", "reject", "snooze", "retry_after"], float]
Errors = Iterable[type[BaseException]]


class ErrorRules(Middleware):
    """Turns exceptions of handlers into outcomes. The rule of the nearest class in an exception's ancestry holds.

    Args:
        retry: by the handler's ``Retry``; for exceptions to a wider rule, e.g. ``KeyError`` below ``LookupError``.
        reject: dead letter at once, with reason ``rejected``.
        snooze: put back for these seconds (or a ``timedelta``), without burning an attempt.
        retry_after: a retry after exactly these seconds (or a ``timedelta``); it counts as a failure.

    Raises:
        ConfigurationError: what is given is no class of exceptions or no number of seconds, or a class is given twice.

    ``Reject``, ``Snooze`` and ``Skip`` of a handler stay as they are, and so do the handler's ``Retry.reject_on`` and
    ``retry_on``.
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
        for kind in _classes("retry", retry):
            self._add(kind, ("retry", 0.0))
        for kind in _classes("reject", reject):
            self._add(kind, ("reject", 0.0))
        for kind, seconds in checked_mapping(
            "ErrorRules: snooze", snooze, "snooze={TimeoutError: 30}"
        ).items():
            self._add(kind, ("snooze", seconds))
        for kind, seconds in checked_mapping(
            "ErrorRules: retry_after", retry_after, "retry_after={TimeoutError: 30}"
        ).items():
            self._add(kind, ("retry_after", seconds))

    def _add(
        self,
        kind: Any,
        rule: tuple[Literal["retry", "reject", "snooze", "retry_after"], Seconds],
    ) -> None:
        what, span = rule
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise ConfigurationError(
                f"ErrorRules: {what} takes classes of exceptions, not {kind!r}"
            )
        seconds = checked_seconds(
            f"ErrorRules: {what} of {kind.__name__}", span, 0, 1e9
        )
        if kind in self._rules:
            raise ConfigurationError(
                f"ErrorRules: {kind.__name__} is in {self._rules[kind][0]} already"
            )
        self._rules[kind] = (what, seconds)

    def failed(self, attempt: Attempt, error: BaseException) -> BaseException | None:
        """Apply the rule, if there is one."""
        if isinstance(error, (HandlerSignal, asyncio.CancelledError)):
            return None
        found = next(
            (self._rules[kind] for kind in type(error).__mro__ if kind in self._rules),
            None,
        )
        if found is None or found[0] == "retry":
            return None
        what, seconds = found
        if what == "snooze":
            return Snooze(seconds, type(error).__name__)
        if what == "reject":
            return _instead(Reject(_told(error)), error)
        return _asking(error, seconds)


def _classes(what: str, given: object) -> list[Any]:
    return checked_items(f"ErrorRules: {what}", given, f"{what}=[ValueError]")


class RetryLater(Exception):  # noqa: N818 - a word of the field
    """Stands for an exception on which ``retry_after`` cannot be set."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.retry_after = seconds


def _asking(error: BaseException, seconds: float) -> BaseException:
    """The exception itself, asking for its retry, so that the record names it and its place."""
    try:
        error.retry_after = seconds  # type: ignore[attr-defined]
        if error.retry_after == seconds:  # type: ignore[attr-defined]
            return error
    except Exception:  # noqa: BLE001, S110 - a property or slots of somebody else's class
        pass
    return _instead(RetryLater(_told(error), seconds), error)


def _instead(new: BaseException, error: BaseException) -> BaseException:
    new.__cause__ = error
    return new.with_traceback(error.__traceback__)


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - somebody else's class
        return type(error).__name__
