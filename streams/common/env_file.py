"""Reading env files, which hold defaults for environment variables."""

from __future__ import annotations

import re
from pathlib import Path

from streams.errors import ConfigurationError

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=(?P<value>.*)")


def read_env_file(path: Path) -> dict[str, str]:
    """Read the assignments ``NAME=value`` of an env file.

    ``export`` may stand before a name. Quotes are removed, and ``#`` begins a comment.

    Raises:
        ConfigurationError: a line has another form. The message has the line's number,
            but not its text, which may be a secret.
    """
    values: dict[str, str] = {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path.name} cannot be read: {type(error).__name__}"
        ) from None

    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue

        match = _LINE.fullmatch(text)
        try:
            if match is None:
                raise ValueError("expected NAME=value")

            values[match["name"]] = _value(match["value"])
        except ValueError as error:
            raise ConfigurationError(f"{path.name}, line {number}: {error}") from None

    return values


def _value(text: str) -> str:
    value = text.lstrip()
    if not value.startswith(('"', "'")):
        return re.split(r"\s#", text, maxsplit=1)[0].strip()

    quoted, closing, rest = value[1:].partition(value[0])
    if not closing:
        raise ValueError("the quote is not closed")
    if not re.fullmatch(r"\s*(?:#.*)?", rest):
        raise ValueError("there is something behind the closing quote")
    return quoted
