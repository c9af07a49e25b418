"""Log lines: one line each, with the facts as fields, for people (text) or machines (json)."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from streams.current import current_facts
from streams.retry import masked, one_line

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "streams_facts"}
_EVENT_FACTS = ("stream", "group", "event_id", "event_type", "entry", "attempt", "trace_id", "span_id")
_SAFE_FACTS = frozenset({"stream", "group", "entry", "attempt", "trace_id", "span_id"})

_EVENT_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]+")
# What this package says of itself: an operator needs the ids as they are, and counts are no phone numbers.
_OWN = frozenset(
    {
        *("where", "worker", "server", "groups", "entry", "consumer", "attempt", "level_of_stream", "levels"),
        *("child", "pid", "code", "trace_id"),
        *("count", "running", "done", "retried", "dead", "released", "seconds", "delay", "grace"),
    }
)


def _shown(record: logging.LogRecord, name: str, value: Any) -> str:
    text = str(value)
    if name in _SAFE_FACTS and name in getattr(record, "streams_facts", ()):
        return one_line(text)  # Not the program's own words: they came from the event that is handled.
    if (name in _OWN and record.name.startswith("streams.")) or _EVENT_ID.fullmatch(text):
        return one_line(text)
    return masked(text)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value not in ("", None)}


def _cause(record: logging.LogRecord) -> str:
    """The exception of a record as class and masked message; its traceback could quote payloads."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    return f"{type(error).__name__}: {masked(str(error))}"


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
        facts = {} if record.name.startswith("streams.") else current_facts()
        added = []
        for name in _EVENT_FACTS:
            if name not in record.__dict__:
                record.__dict__[name] = facts.get(name, "")
                added.append(name)
        record.__dict__["streams_facts"] = added
        return True


class TextFormatter(logging.Formatter):
    """``12:00:01.250 WARNING consumer  retry  where=orders/billing attempt=1 …``.

    Args:
        child: which of several processes of a worker writes; it stands behind the time.
    """

    def __init__(self, child: str = "") -> None:
        super().__init__()
        self._child = f" [{child}]" if child else ""

    def format(self, record: logging.LogRecord) -> str:
        """One printable line."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        facts = _facts(record)
        if cause := _cause(record):
            facts["cause"] = cause
        tail = " ".join(f"{name}={_shown(record, name, value)}" for name, value in facts.items())
        head = f"{time}{self._child} {record.levelname:<7} {record.name.removeprefix('streams.'):<9}"
        return f"{head} {masked(record.getMessage())}{'  ' + tail if tail else ''}"


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
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
            **self._child,
        }
        for name, value in _facts(record).items():
            shown = _shown(record, name, value)
            plain = isinstance(value, bool) or (
                isinstance(value, (int, float)) and shown == str(value) and abs(value) < 2**63
            )
            line.setdefault(name, value if plain else shown)
        if cause := _cause(record):
            line["cause"] = cause
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
    logger = logging.getLogger("streams")
    if not logger.hasHandlers():
        logger.addHandler(_handler(form))
        logger.setLevel(level.upper())


def _handler(form: str, child: str = "") -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(EventFilter())
    handler.setFormatter(JsonFormatter(child) if form == "json" else TextFormatter(child))
    return handler
