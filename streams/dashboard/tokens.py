"""Tokens, which programs show instead of a password, and their rates of requests."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from streams.dashboard.roles import Role, read_file, role_of
from streams.errors import ConfigurationError

PREFIX = "st_"
_HASH = re.compile(r"[0-9a-f]{64}")
_STREAMS = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]{0,99}")
_FIELDS = {"sha256", "role", "publish", "streams"}
_RATE, _BURST = 50.0, 100.0
"""Requests per second and at once, of each token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A program that may use the API.

    Attributes:
        name: of the program, for the audit record.
        role: its rights.
        publishes: whether it may publish events and queue messages.
        streams: names of streams that it is for, with ``*`` for any characters; empty:
            all of them.
    """

    name: str
    role: Role
    publishes: bool = False
    streams: tuple[str, ...] = ()

    def reaches(self, stream: str) -> bool:
        """Whether it is for a stream; '' stands for all of them together."""
        return not self.streams or (
            bool(stream) and any(fnmatchcase(stream, name) for name in self.streams)
        )


def new_token() -> tuple[str, str]:
    """A token, to be given to a program, and its hash, for the file of accounts."""
    token = PREFIX + os.urandom(24).hex()

    return token, hashed(token)


def hashed(token: str) -> str:
    """The hash of a token; a slow one would protect a long random text no better."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Tokens:
    """The tokens of a dashboard.

    Args:
        tokens: by their hashes.
        clock: monotonic seconds.
    """

    def __init__(
        self, tokens: Mapping[str, Token], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = dict(tokens)
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read the tokens of the file of accounts.

        Raises:
            ConfigurationError: it cannot be read, or says something that cannot be
                right; no hash is repeated.
        """
        rows = read_file(path).get("tokens", {})
        if not isinstance(rows, dict):
            raise ConfigurationError(
                f"{path}: write [tokens.NAME] with sha256 and role"
            )

        return cls(
            dict(_token(f"{path}, token {name}", name, rows[name]) for name in rows)
        )

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, header: str) -> Token | None:
        """The token in an ``Authorization`` header.

        It is looked up by its hash, so the time that this takes tells nothing of it.
        """
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None

        return self._tokens.get(hashed(token.strip()))

    def wait(self, token: Token) -> float:
        """Count a request; returns the seconds that it has to wait, 0.0 for none."""
        now = self._clock()
        left, at = self._left.get(token.name, (_BURST, now))
        left = min(_BURST, left + (now - at) * _RATE)
        if left < 1.0:
            return (1.0 - left) / _RATE

        self._left[token.name] = (left - 1.0, now)

        return 0.0


def _token(where: str, name: str, row: Any) -> tuple[str, Token]:
    """A token of the file, with its hash.

    Raises:
        ConfigurationError: the row cannot be right.
    """
    if not isinstance(row, dict) or not set(row) <= _FIELDS:
        raise ConfigurationError(
            f"{where}: give sha256, role, publish and streams, and nothing else"
        )

    sha256, publishes = row.get("sha256"), row.get("publish", False)
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise ConfigurationError(
            f"{where}: sha256 has 64 hexadecimal digits; '--new-token' makes one"
        )

    if not isinstance(publishes, bool):
        raise ConfigurationError(f"{where}: publish is true or false")

    streams = row.get("streams", ())
    if "streams" in row and not _is_names(streams):
        raise ConfigurationError(
            f'{where}: streams is a list of names, such as ["orders", "invoices-*"]'
        )

    return sha256, Token(name, role_of(where, row), publishes, tuple(streams))


def _is_names(given: Any) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(name, str) and _STREAMS.fullmatch(name) for name in given)
    )
