"""Tokens: what programs show instead of a password, and how many requests each may make."""

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
_RATE, _BURST = 50.0, 100.0
"""Requests per second and at once, of each token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A program that may use the API.

    Attributes:
        name: who.
        role: what it may look at and do.
        publishes: whether it may publish events and queue messages.
        streams: names of streams that it is for, with ``*`` for any characters; empty: all of them.
    """

    name: str
    role: Role
    publishes: bool = False
    streams: tuple[str, ...] = ()

    def reaches(self, stream: str) -> bool:
        """Whether it is for a stream; '' is what is about all of them."""
        return not self.streams or (
            bool(stream) and any(fnmatchcase(stream, name) for name in self.streams)
        )


def new_token() -> tuple[str, str]:
    """A token, to be given to a program, and its hash, for the file of accounts."""
    token = PREFIX + os.urandom(24).hex()
    return token, hashed(token)


def hashed(token: str) -> str:
    """What stands for a token. It is random and long: a slow hash would protect it no better."""
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
            ConfigurationError: it cannot be read, or says something that cannot be right; no hash is repeated.
        """
        found: dict[str, Token] = {}
        rows = read_file(path).get("tokens", {})
        if not isinstance(rows, dict):
            raise ConfigurationError(
                f"{path}: write [tokens.NAME] with sha256 and role"
            )
        for name, row in rows.items():
            where = f"{path}, token {name}"
            if not isinstance(row, dict) or set(row) - {
                "sha256",
                "role",
                "publish",
                "streams",
            }:
                raise ConfigurationError(
                    f"{where}: give sha256, role, publish and streams, and nothing else"
                )
            if not isinstance(row.get("sha256"), str) or not _HASH.fullmatch(
                row["sha256"]
            ):
                raise ConfigurationError(
                    f"{where}: sha256 has 64 hexadecimal digits; '--new-token' makes one"
                )
            if not isinstance(row.get("publish", False), bool):
                raise ConfigurationError(f"{where}: publish is true or false")
            found[row["sha256"]] = Token(
                name,
                role_of(where, row),
                row.get("publish", False),
                _streams(where, row),
            )
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, header: str) -> Token | None:
        """Whose an ``Authorization`` header is. Looked up by its hash, so its time tells nothing of a token."""
        scheme, _, token = header.partition(" ")
        return (
            self._tokens.get(hashed(token.strip()))
            if scheme.lower() == "bearer"
            else None
        )

    def wait(self, token: Token) -> float:
        """Count a request; seconds until another one is listened to, 0.0: this one is."""
        now = self._clock()
        left, at = self._left.get(token.name, (_BURST, now))
        left = min(_BURST, left + (now - at) * _RATE)
        if left < 1.0:
            return (1.0 - left) / _RATE
        self._left[token.name] = (left - 1.0, now)
        return 0.0


def _streams(where: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The streams that a token is for.

    Raises:
        ConfigurationError: they are no list of names.
    """
    found = row.get("streams", ["*"])
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(n, str) and _STREAMS.fullmatch(n) for n in found)
    ):
        raise ConfigurationError(
            f'{where}: streams is a list of names, such as ["orders", "invoices-*"]'
        )
    return () if "streams" not in row else tuple(found)
