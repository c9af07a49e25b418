"""Roles on the dashboard, and the file that gives them."""

from __future__ import annotations

import tomllib
from enum import IntEnum
from pathlib import Path
from typing import Any

from streams.errors import ConfigurationError


class Role(IntEnum):
    """The rights of an account or a token; each has those of the ones before, too."""

    VIEWER = 1
    """Look, with personal data masked."""
    OPERATOR = 2
    """Replay, discard, cancel, pause and resume."""
    ADMIN = 3
    """See what events say."""


def read_file(path: Path) -> dict[str, Any]:
    """The file of accounts and tokens.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"the file of accounts cannot be read: {error.strerror}: {path}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the file of accounts {path} is no TOML: {type(error).__name__}"
        ) from None


def role_of(where: str, row: dict[str, Any]) -> Role:
    """The role in a row of the file.

    Raises:
        ConfigurationError: it is none.
    """
    role = row.get("role")
    if not isinstance(role, str) or role.upper() not in Role.__members__:
        raise ConfigurationError(f"{where}: role is viewer, operator or admin")

    return Role[role.upper()]
