"""The text of a log line of the package in any format: its message and its facts, masked.

The facts of a line are attributes of its record, and a program's own format, such as ``%(message)s``, leaves attributes
out. So each logger of the package comes from ``logger_of``, and its records say their facts in ``getMessage()``, too.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from typing import Any

from streams.common.exception_text import message_of, traceback_of, where_of
from streams.common.masking import masked, one_line, without_numbers

BARE = "streams_message"
"""The attribute of a record that has its message without the facts, for those who group or compare lines."""
TRACEBACK = "traceback"
LONGEST_MESSAGE = 1000
_LONGEST_FACT = 500
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "streams_facts"),
    *(BARE, TRACEBACK),
}
_SAFE_FACTS = frozenset({"stream", "group", "entry", "attempt", "trace_id", "span_id"})
_EVENT_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]+")
_QUOTED = re.compile(r"""[\s"'=]|\A\Z""")
# What this package says of itself: an operator needs the ids as they are, and counts are no phone numbers.
_OWN = frozenset(
    {
        *(
            "where",
            "worker",
            "server",
            "groups",
            "entry",
            "consumer",
            "attempt",
            "level_of_stream",
            "levels",
        ),
        *("child", "pid", "code", "trace_id"),
        *(
            "count",
            "running",
            "done",
            "retried",
            "dead",
            "released",
            "seconds",
            "delay",
            "grace",
        ),
    }
)
_BOUNDED = frozenset({"error_message", "cause"})
"""Texts that were bounded when they were made."""


def logger_of(part: str) -> logging.Logger:
    """The logger of a part of the package, ``streams.consumer`` for ``consumer``; its lines have their facts."""
    logger = logging.getLogger(f"streams.{part}" if part else "streams")
    logger.addFilter(_telling)
    return logger


def is_own(record: logging.LogRecord) -> bool:
    """Whether a record is of the package."""
    return f"{record.name}.".startswith("streams.")


def bare_message(record: logging.LogRecord) -> str:
    """The message of a record without its facts, masked, in one line."""
    said = record.__dict__.get(BARE)
    return masked(record.getMessage() if said is None else str(said), LONGEST_MESSAGE)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """The attributes that a record was given by those who made it and by filters; empty ones are left out."""
    own = _STANDARD if is_own(record) else _STANDARD - {TRACEBACK}
    return {
        name: value
        for name, value in vars(record).items()
        if name not in own and value not in ("", None)
    }


def shown(record: logging.LogRecord, name: str, value: Any) -> str:
    """A fact of a record as one masked line."""
    if name in _SAFE_FACTS and name in getattr(record, "streams_facts", ()):
        # Not the program's own words: they came from the event that is handled.
        return one_line(str(value))
    return _shown_of_package(name, value) if is_own(record) else _shown(value)


def cause_of(record: logging.LogRecord) -> dict[str, str]:
    """The exception of a record as class and masked message, and where in the program it came from."""
    error = _error_of(record)
    if error is None:
        return {}
    place = where_of(error)
    found = {"cause": f"{type(error).__name__}: {message_of(error)}"}
    return found | {"cause_at": place} if place else found


class _Text:
    """An argument of a message whose text is made when somebody formats the line."""

    def __repr__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # Another process needs no more.


class _Masked(_Text):
    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return masked(str(self._value), LONGEST_MESSAGE)


class _Facts(_Text):
    """``where=orders/billing attempt=1 error_message='no such sku'``."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts
        self._text: str | None = None

    def __str__(self) -> str:
        if self._text is None:
            said = (
                (name, _shown_of_package(name, value))
                for name, value in self._facts.items()
            )
            self._text = " ".join(f"{name}={_quoted(text)}" for name, text in said)
        return self._text


class _Telling(logging.Filter):
    """Puts the facts of a record into its message, and masks whatever a format of somebody's may show of it.

    It is a filter of loggers, so a line that no level lets through costs nothing. ``record.msg`` stays a constant text
    (``retry %s``), which is what collectors of errors group by; the facts are the last of ``record.args``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes; one that comes by again, or cannot be formatted, stays as it is."""
        if BARE not in record.__dict__:
            # A log line never ends what it is about.
            with contextlib.suppress(Exception):
                _tell(record)
        return True


_telling = _Telling()


def _tell(record: logging.LogRecord) -> None:
    fields = record.__dict__
    bare = masked(record.getMessage(), LONGEST_MESSAGE)
    fields.update(cause_of(record))
    facts = facts_of(record)
    said, arguments = str(record.msg), record.args
    if not isinstance(arguments, tuple) or not arguments:
        said, arguments = bare.replace("%", "%%") if facts else bare, ()
    arguments = tuple(map(_argument, arguments))
    if facts:
        said, arguments = f"{said} %s", (*arguments, _Facts(facts))
    fields |= {BARE: bare, "msg": said, "args": arguments}
    for name, value in facts.items():
        if name in _OWN:
            continue
        # Formats that write the attributes of a record show no more of it than its message does.
        text = str(value)
        if (
            without_numbers(text) != text
            and (hidden := _shown_of_package(name, value)) != text
        ):
            fields[name] = hidden
    if lines := fields.get(TRACEBACK) or _traceback(record):
        # What a format of the standard library writes below the line.
        record.exc_text = "\n".join(lines)


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _traceback(record: logging.LogRecord) -> list[str]:
    error = _error_of(record)
    return [] if error is None else traceback_of(error)


def _argument(value: object) -> object:
    """An argument that prints masked; a number that needs no mask stays one, as ``%d`` wants it."""
    if isinstance(value, int | float) and masked(str(value)) == str(value):
        return value
    return _Masked(value)


def _shown_of_package(name: str, value: Any) -> str:
    if name in _OWN:
        return one_line(str(value))
    return masked(str(value), _LONGEST_FACT) if name in _BOUNDED else _shown(value)


def _shown(value: Any) -> str:
    text = str(value)
    if _EVENT_ID.fullmatch(text) or (
        isinstance(value, float) and not value.is_integer()
    ):
        return one_line(text)  # A number with a fraction is no phone number.
    return masked(text)


def _quoted(text: str) -> str:
    return repr(text) if _QUOTED.search(text) else text
