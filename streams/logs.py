"""Log lines: one line each, with the facts as fields, for people (text) or machines (json)."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from streams.retry import masked

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and value not in ("", None)}


def _cause(record: logging.LogRecord) -> str:
    """The exception of a record as class and masked message; its traceback could quote payloads."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    return f"{type(error).__name__}: {masked(str(error))}"


class TextFormatter(logging.Formatter):
    """``12:00:01.250 WARNING consumer  retry  where=orders/billing attempt=1 …``."""

    def format(self, record: logging.LogRecord) -> str:
        """One printable line."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        facts = _facts(record)
        if cause := _cause(record):
            facts["cause"] = cause
        tail = " ".join(f"{name}={masked(str(value))}" for name, value in facts.items())
        name = record.name.removeprefix("streams.")
        return f"{time} {record.levelname:<7} {name:<9} {masked(record.getMessage())}{'  ' + tail if tail else ''}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
        }
        for name, value in _facts(record).items():
            line[name] = value if isinstance(value, (int, float, bool)) else masked(str(value))
        if cause := _cause(record):
            line["cause"] = cause
        return orjson.dumps(line).decode()


def set_up(form: str = "text", level: str = "info") -> None:
    """Send the package's log lines to standard error. For programs of our own; a library user's logging is theirs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
