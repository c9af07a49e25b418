"""Secrets and phone numbers of tests, and who looks for them in every log line of every test."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from streams.logs import JsonFormatter, TextFormatter

NEVER_SHOWN = re.compile(
    r"canary|sEcReT|:secret@|(?<![0-9a-fA-F.-])55[1-9][0-9]9?[0-9]{8}(?![0-9a-fA-F.-])"
)
"""Passwords and bodies that tests make up, and numbers as Brazil has them, with the country's code."""
_WRITES: tuple[logging.Formatter, ...] = (
    TextFormatter(),
    JsonFormatter(),
    logging.Formatter(),
)
"""Our own two, and that of a program with a configuration of its own."""


def shown(text: str) -> str | None:
    """What of a text should not have been shown; None: nothing."""
    found = NEVER_SHOWN.search(text)
    return found[0] if found else None


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, look at every log line of the package as a program would write it; returns what shows too much."""
    leaks: list[str] = []
    handle: Callable[[logging.Logger, logging.LogRecord], None] = logging.Logger.handle

    def looked_at(self: logging.Logger, record: logging.LogRecord) -> None:
        self.filter(record)
        if record.name.startswith("streams"):
            for formatter in _WRITES:
                line = formatter.format(record)
                if shown(line):
                    leaks.append(line)
        handle(self, record)

    monkeypatch.setattr(logging.Logger, "handle", looked_at)
    return leaks
