"""Log formats: one line per record with its facts as fields, as text or JSON."""

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
    """The traceback of a failed attempt, or of the logged exception, as lines."""
    given = record.__dict__.get(TRACEBACK)
    if given and is_own(record):
        return list(given)

    error = record.exc_info[1] if record.exc_info else None
    return [] if error is None else tracebacks.of(error)


class Tracebacks:
    """The switch for tracebacks in the log lines of failed attempts.

    Attributes:
        wanted: see ``Settings.log_tracebacks``. None: the environment decides; if it
            does not, there are tracebacks on a terminal and at level ``debug``.
    """

    def __init__(self) -> None:
        self.wanted: bool | None = None

    def of(self, error: BaseException, setting: Setting = NOWHERE) -> list[str]:
        """The lines of an exception's traceback; empty if tracebacks are off."""
        wanted = _of_environment() if self.wanted is None else self.wanted
        if wanted is None:
            wanted = _is_terminal() or _logger.isEnabledFor(logging.DEBUG)

        return traceback_of(error, setting) if wanted else []


tracebacks = Tracebacks()
"""The switch of this process."""


def failure_facts(error: BaseException, setting: Setting = NOWHERE) -> dict[str, Any]:
    """The facts of a failed attempt: class, message, place in the program, traceback.

    The traceback is text, so that formatters and queues of the program can handle it.
    """
    facts: dict[str, Any] = {"error": type(error).__name__}
    facts["error_message"] = message_of(error, setting)
    facts["error_at"] = where_of(error, setting)
    if lines := tracebacks.of(error, setting):
        facts[TRACEBACK] = lines

    return facts


_FAILED_PART = "_streams_failed_part"


def tell_end(logger: logging.Logger, error: Exception) -> None:
    """Log in one line that an exception has ended a worker.

    The program may never see the exception: a web application does not await the task.
    """
    if isinstance(error, StreamsError):
        logger.error("the worker ends: %s", error)
        error.is_logged = True
        return

    facts = failure_facts(error)
    said = f"{facts['error']}: {facts.pop('error_message')}"
    if part := getattr(error, _FAILED_PART, ""):
        said = f"{part}: {said}"

    logger.error("the worker ends: %s", said, extra={**facts, "next": _AFTER_END})
    with contextlib.suppress(Exception):  # The class may refuse attributes.
        error.is_logged = True  # type: ignore[attr-defined]


def say_what_ends(error: BaseException, part: str) -> None:
    """Attach the name of the failed part, for the log line of ``tell_end``."""
    with contextlib.suppress(Exception):  # The class may refuse attributes.
        setattr(error, _FAILED_PART, part)


def _of_environment() -> bool | None:
    """The value of the variable, for programs that take their settings from code."""
    text = os.environ.get("STREAMS_LOG_TRACEBACKS", "").strip().lower()
    if text in _YES:
        return True
    return False if text in _NO else None


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # It does not exist, or is closed.
        return False


class EventFilter(logging.Filter):
    """Adds the facts of the current event to log records. Your handlers can use it, too.

    Every record gets ``stream``, ``group``, ``event_id``, ``event_type``, ``entry``,
    ``attempt``, ``trace_id`` (of the current span, else of the event's ``traceparent``)
    and ``span_id``. They are '' outside of a handler. Attributes that a record has
    already are kept. A body, key or tenant is never added.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the facts; every record passes."""
        if "streams_facts" in record.__dict__:
            return True

        # A line of this package may be about another entry, and names it itself.
        facts = {} if is_own(record) else current_facts()
        added = [name for name in _EVENT_FACTS if name not in record.__dict__]
        for name in added:
            record.__dict__[name] = facts.get(name, "")

        record.__dict__["streams_facts"] = added
        return True


class TextFormatter(logging.Formatter):
    """``12:00:01.250 WARNING consumer  retry  where=orders/billing attempt=1 …``.

    A traceback follows on further lines, if it is switched on.

    Args:
        child: the name of the worker process, shown behind the time.
    """

    def __init__(self, child: str = "") -> None:
        super().__init__()
        self._child = f" [{child}]" if child else ""

    def format(self, record: logging.LogRecord) -> str:
        """One printable line, followed by the indented lines of a traceback."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        part = record.name.removeprefix("streams.")
        head = f"{time}{self._child} {record.levelname:<7} {part:<9}"
        facts = facts_of(record) | cause_of(record)
        tail = [f"{name}={shown(record, name, facts[name])}" for name in facts]
        line = f"{head} {bare_message(record)}"
        if tail:
            line += f"  {' '.join(tail)}"

        return "\n    ".join([line, *_traceback(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    Args:
        child: the name of the worker process.
    """

    def __init__(self, child: str = "") -> None:
        super().__init__()
        self._child = {"child": child} if child else {}

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": bare_message(record),
            **self._child,
        }

        for name, value in facts_of(record).items():
            text = shown(record, name, value)
            is_number = isinstance(value, (int, float)) and abs(value) < 2**63
            # A masked number has another text, and stays text.
            keeps = is_number and (isinstance(value, bool) or text == str(value))
            line.setdefault(name, value if keeps else text)

        line |= cause_of(record)
        if lines := _traceback(record):
            line[TRACEBACK] = lines

        return orjson.dumps(line).decode()


def set_up(form: str = "text", level: str = "info", child: str = "") -> None:
    """Send every log line of the process to standard error. For this package's programs.

    ``child`` names the process, if several write to the same output.
    """
    root = logging.getLogger()
    root.handlers[:] = [_handler(form, child)]
    root.setLevel(level.upper())


def set_up_if_silent(form: str = "text", level: str = "info") -> None:
    """Send this package's log lines to standard error, unless logging is configured."""
    if not _logger.hasHandlers():
        _logger.addHandler(_handler(form))
        _logger.setLevel(level.upper())


def be_heard() -> None:
    """Enable this package's loggers if the program disabled them by accident, and warn.

    By default, ``logging.config`` disables every existing logger that it does not name.
    """
    was_off = False
    for name, logger in logging.root.manager.loggerDict.items():
        if f"{name}.".startswith("streams.") and isinstance(logger, logging.Logger):
            was_off |= logger.disabled
            logger.disabled = False

    if was_off:
        _logger.warning(
            "logging was configured with disable_existing_loggers, "
            "which switched the log of streams off; it is on again. "
            "Set disable_existing_loggers to False, "
            "and a level of the logger 'streams' for less of it"
        )


def _handler(form: str, child: str = "") -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(EventFilter())
    handler.setFormatter(
        JsonFormatter(child) if form == "json" else TextFormatter(child)
    )
    return handler
