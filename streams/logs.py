"""Log lines: one line each, with the facts as fields, for people (text) or machines (json)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from streams.common.exception_text import (
    NOWHERE,
    Setting,
    message_of,
    traceback_of,
    where_of,
)
from streams.common.log_facts import (
    TRACEBACK,
    bare_message,
    cause_of,
    facts_of,
    is_own,
    logger_of,
    shown,
)
from streams.errors import StreamsError
from streams.events.current import current_facts

_logger = logger_of("")
_EVENT_FACTS = (
    "stream",
    "group",
    "event_id",
    "event_type",
    "entry",
    "attempt",
    "trace_id",
    "span_id",
)

_AFTER_END = "it handles nothing until it is run again"

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _traceback(record: logging.LogRecord) -> list[str]:
    """The lines of a traceback: that of a failed attempt, or of the exception that is logged."""
    given = record.__dict__.get(TRACEBACK)
    if given and is_own(record):
        return list(given)
    return (
        tracebacks.of(record.exc_info[1])
        if record.exc_info and record.exc_info[1] is not None
        else []
    )


class Tracebacks:
    """Whether log lines of failed attempts have a traceback.

    Attributes:
        wanted: as ``Settings.log_tracebacks``; None: as the environment says, else on a terminal and at ``debug``.
    """

    def __init__(self) -> None:
        self.wanted: bool | None = None

    def of(self, error: BaseException, setting: Setting = NOWHERE) -> list[str]:
        """The lines of an exception's traceback; none where none is wanted."""
        wanted = _of_environment() if self.wanted is None else self.wanted
        if wanted is None:
            wanted = _is_terminal() or _logger.isEnabledFor(logging.DEBUG)
        return traceback_of(error, setting) if wanted else []


tracebacks = Tracebacks()
"""Of this process."""


def failure_facts(error: BaseException, setting: Setting = NOWHERE) -> dict[str, Any]:
    """What a log line says of an attempt that failed: class, message, place in the program, and the traceback.

    The traceback is text, not the exception's own, so that a program's own formatters and queues can do with it.
    """
    facts: dict[str, Any] = {"error": type(error).__name__}
    facts["error_message"] = message_of(error, setting)
    facts["error_at"] = where_of(error, setting)
    if lines := tracebacks.of(error, setting):
        facts[TRACEBACK] = lines
    return facts


_WHAT_ENDS = "_streams_what_ends"


def tell_end(logger: logging.Logger, error: Exception) -> None:
    """Say in one line that a worker has ended by an exception; its task may not be awaited, as in a web app."""
    if isinstance(error, StreamsError):
        error.is_logged = True
        logger.error("the worker ends: %s", error)  # Its sentence says what to do.
        return
    facts = failure_facts(error)
    what = getattr(error, _WHAT_ENDS, "")
    said = f"{what}{': ' if what else ''}{facts['error']}: {facts.pop('error_message')}"
    logger.error("the worker ends: %s", said, extra={**facts, "next": _AFTER_END})
    with contextlib.suppress(Exception):  # Somebody else's class may take no attribute.
        error.is_logged = True  # type: ignore[attr-defined]


def say_what_ends(error: BaseException, what: str) -> None:
    """Let the line of a worker that ends by an exception say what it was that failed."""
    with contextlib.suppress(Exception):  # Somebody else's class may take no attribute.
        setattr(error, _WHAT_ENDS, what)


def _of_environment() -> bool | None:
    """What the variable says, for a program that takes its other settings from code."""
    text = os.environ.get("STREAMS_LOG_TRACEBACKS", "").strip().lower()
    return True if text in _YES else False if text in _NO else None


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # There is none, or it is closed.
        return False


class EventFilter(logging.Filter):
    """Adds the event that is being handled to the log records of user code; add it to a handler of your own, too.

    Every record gets ``stream``, ``group``, ``event_id``, ``event_type``, ``entry``, ``attempt``, ``trace_id`` (of the
    span that is current, else of the event's ``traceparent``) and ``span_id``, '' outside of a handler; what it has
    already stays. Never a body, key or tenant.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the facts; every record passes."""
        if "streams_facts" in record.__dict__:
            return True
        # What this package says of itself has the facts of the entry that it is about.
        facts = {} if is_own(record) else current_facts()
        added = []
        for name in _EVENT_FACTS:
            if name not in record.__dict__:
                record.__dict__[name] = facts.get(name, "")
                added.append(name)
        record.__dict__["streams_facts"] = added
        return True


class TextFormatter(logging.Formatter):
    """``12:00:01.250 WARNING consumer  retry  where=orders/billing attempt=1 …``; a traceback, where wanted, below it.

    Args:
        child: which of several processes of a worker writes; it stands behind the time.
    """

    def __init__(self, child: str = "") -> None:
        super().__init__()
        self._child = f" [{child}]" if child else ""

    def format(self, record: logging.LogRecord) -> str:
        """One printable line, and those of a traceback where one is wanted."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        facts = facts_of(record) | cause_of(record)
        tail = " ".join(
            f"{name}={shown(record, name, value)}" for name, value in facts.items()
        )
        head = f"{time}{self._child} {record.levelname:<7} {record.name.removeprefix('streams.'):<9}"
        return f"{head} {bare_message(record)}{'  ' + tail if tail else ''}" + "".join(
            f"\n    {line}" for line in _traceback(record)
        )


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    Args:
        child: which of several processes of a worker writes.
    """

    def __init__(self, child: str = "") -> None:
        super().__init__()
        self._child = {"child": child} if child else {}

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": bare_message(record),
            **self._child,
        }
        for name, value in facts_of(record).items():
            text = shown(record, name, value)
            plain = isinstance(value, bool) or (
                isinstance(value, (int, float))
                and text == str(value)
                and abs(value) < 2**63
            )
            line.setdefault(name, value if plain else text)
        line |= cause_of(record)
        if lines := _traceback(record):
            line[TRACEBACK] = lines
        return orjson.dumps(line).decode()


def set_up(form: str = "text", level: str = "info", child: str = "") -> None:
    """Send every log line of the process to standard error. For programs of our own.

    ``child`` names it among those that write to the same place.
    """
    root = logging.getLogger()
    root.handlers[:] = [_handler(form, child)]
    root.setLevel(level.upper())


def set_up_if_silent(form: str = "text", level: str = "info") -> None:
    """Send this package's log lines to standard error, unless the program has configured logging itself."""
    if not _logger.hasHandlers():
        _logger.addHandler(_handler(form))
        _logger.setLevel(level.upper())


def be_heard() -> None:
    """Switch this package's loggers on again that the program has switched off unawares, and say so once.

    ``logging.config`` does so with every logger that exists and that it does not name, unless it is told otherwise.
    """
    own = [
        logger
        for logger in logging.root.manager.loggerDict.values()
        if isinstance(logger, logging.Logger)
    ]
    off = [
        logger
        for logger in own
        if logger.disabled and f"{logger.name}.".startswith("streams.")
    ]
    for logger in off:
        logger.disabled = False
    if off:
        _logger.warning(
            "logging was configured with disable_existing_loggers, which switched the log of streams off; it is on"
            " again. Set disable_existing_loggers to False, and a level of the logger 'streams' for less of it"
        )


def _handler(form: str, child: str = "") -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(EventFilter())
    handler.setFormatter(
        JsonFormatter(child) if form == "json" else TextFormatter(child)
    )
    return handler
