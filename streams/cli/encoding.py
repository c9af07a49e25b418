"""Terminals and pipes that do not take every character: no command fails for that."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import sys
from typing import TextIO

_PLAIN = {
    "·": ".",
    "…": ".",
    "\u2013": "-",
    "\u2014": "-",
    "─": "-",
    "│": "|",
    "✓": "+",
    "✗": "x",
    "•": "*",
    "↑": "^",
    "↓": "v",
}
"""Plain characters for marks of our own, each as wide as the mark."""
_HANDLER = "streams.plain"


def take_what_there_is() -> None:
    """Let standard output and error write anything, in whatever encoding they have."""
    codecs.register_error(_HANDLER, _instead)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file that became a pipe beneath it: it writes as it did.
            with contextlib.suppress(OSError):
                stream.reconfigure(errors=_HANDLER)


def as_written(text: str, target: TextIO) -> str:
    """JSON as a file can take it: escaped where its encoding lacks a character."""
    try:
        text.encode(target.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "".join(
            char if char.isascii() else json.dumps(char)[1:-1] for char in text
        )

    return text


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error

    text = error.object[error.start : error.end]

    return "".join(
        _PLAIN.get(char) or json.dumps(char)[1:-1] for char in text
    ), error.end
