"""Reading env files, which stand for the environment where that does not say otherwise."""

from __future__ import annotations

import re
from pathlib import Path

from streams.errors import ConfigurationError

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=(?P<value>.*)")


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments in an env file: ``NAME=value``, ``export`` allowed, quotes removed, ``#`` begins a comment.

    Raises:
        ConfigurationError: a line is something else; the message has the line's number, not its text.
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
        if match is None:
            raise ConfigurationError(f"{path.name}, line {number}: expected NAME=value")
        value = match["value"].lstrip()
        if value[:1] in ('"', "'"):
            closing = value.find(value[0], 1)
            if closing < 0:
                raise ConfigurationError(
                    f"{path.name}, line {number}: the quote is not closed"
                )
            if not re.fullmatch(r"\s*(?:#.*)?", value[closing + 1 :]):
                raise ConfigurationError(
                    f"{path.name}, line {number}: there is something behind the closing quote"
                )
            value = value[1:closing]
        else:
            value = re.split(r"\s#", match["value"], maxsplit=1)[0].strip()
        values[match["name"]] = value
    return values
