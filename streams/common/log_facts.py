"""The masked text of this package's log lines, in any format.

The facts of a line are attributes of its record. A program's own format, such as
``%(message)s``, leaves attributes out. Therefore every logger of the package comes from
``logger_of``, which adds the facts to ``getMessage()``, too.
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
"""The attribute with a record's message without facts, by which lines can be grouped."""
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
_OWN_IDS = {"where", "worker", "server", "groups", "entry", "consumer", "attempt"}
_OWN_PARTS = {"level_of_stream", "levels", "child", "pid", "code", "trace_id"}
_OWN_COUNTS = {"count", "running", "done", "retried", "dead", "released"}
_OWN_TIMES = {"seconds", "delay", "grace"}
_OWN = _OWN_IDS | _OWN_PARTS | _OWN_COUNTS | _OWN_TIMES
"""Facts that are never masked: they are this package's own ids and counts."""
_BOUNDED = frozenset({"error_message", "cause"})
"""Facts whose length is limited already."""


def logger_of(part: str) -> logging.Logger:
    """The logger of a part of the package, e.g. ``streams.consumer`` for ``consumer``."""
    logger = logging.getLogger(f"streams.{part}" if part else "streams")
    logger.addFilter(_telling)
    return logger


def is_own(record: logging.LogRecord) -> bool:
    """Whether a record comes from this package."""
    return f"{record.name}.".startswith("streams.")


def bare_message(record: logging.LogRecord) -> str:
    """The message of a record without its facts, masked, in one line."""
    said = record.__dict__.get(BARE)
    return masked(record.getMessage() if said is None else str(said), LONGEST_MESSAGE)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """The extra attributes of a record that are not empty."""
    own = _STANDARD if is_own(record) else _STANDARD - {TRACEBACK}
    facts = {}
    for name, value in vars(record).items():
        if name not in own and value not in ("", None):
            facts[name] = value

    return facts


def shown(record: logging.LogRecord, name: str, value: Any) -> str:
    """A fact of a record as one masked line."""
    if name in _SAFE_FACTS and name in getattr(record, "streams_facts", ()):
        # ``EventFilter`` has added it, so that it is not text of the program.
        return one_line(str(value))
    return _shown_of_package(name, value) if is_own(record) else _shown(value)


def cause_of(record: logging.LogRecord) -> dict[str, str]:
    """The exception of a record: class, masked message, and place in the program."""
    error = _error_of(record)
    if error is None:
        return {}

    found = {"cause": f"{type(error).__name__}: {message_of(error)}"}
    if place := where_of(error):
        found["cause_at"] = place

    return found


class _Text:
    """An argument of a message whose text is built only if the line is formatted."""

    def __repr__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # A plain text suffices in another process.


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
            said = []
            for name, value in self._facts.items():
                text = _shown_of_package(name, value)
                said.append(f"{name}={repr(text) if _QUOTED.search(text) else text}")

            self._text = " ".join(said)

        return self._text


class _Telling(logging.Filter):
    """Adds the facts of a record to its message, and masks everything a format may show.

    It is a filter of loggers, so that a line below the level costs nothing.
    ``record.msg`` stays a constant text (``retry %s``), by which error collectors group;
    the facts are the last of ``record.args``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record once. Every record passes, also one that cannot be formatted."""
        if BARE not in record.__dict__:
            # A failing log line must not fail the work that it describes.
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
        # A format may write attributes, so that they are masked like the message.
        text = str(value)
        if name not in _OWN and without_numbers(text) != text:
            hidden = _shown_of_package(name, value)
            fields[name] = value if hidden == text else hidden

    error = _error_of(record)
    lines = fields.get(TRACEBACK) or ([] if error is None else traceback_of(error))
    if lines:
        # Formatters of the standard library write ``exc_text`` below the line.
        record.exc_text = "\n".join(lines)


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _argument(value: object) -> object:
    """An argument that prints masked. Other numbers stay numbers, for ``%d``."""
    if isinstance(value, int | float) and masked(str(value)) == str(value):
        return value
    return _Masked(value)


def _shown_of_package(name: str, value: Any) -> str:
    if name in _OWN:
        return one_line(str(value))
    return masked(str(value), _LONGEST_FACT) if name in _BOUNDED else _shown(value)


def _shown(value: Any) -> str:
    text = str(value)
    is_fraction = isinstance(value, float) and not value.is_integer()
    # A number with a fraction is not a phone number.
    if is_fraction or _EVENT_ID.fullmatch(text):
        return one_line(text)
    return masked(text)
