"""The accounts of the dashboard: names with hashed passwords and roles."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.dashboard.roles import Role, read_file, role_of
from streams.dashboard.tokens import Tokens
from streams.errors import ConfigurationError

_N, _R, _P = 2**14, 8, 1
"""Cost of scrypt: 16 MiB and some 50 ms per guess (RFC 7914's figures for interactive logins)."""
_SCHEME = "scrypt"


@dataclass(frozen=True, slots=True)
class Account:
    """A person with a password.

    Attributes:
        name: the one to log in with.
        role: their rights.
        password: hashed.
    """

    name: str
    role: Role
    password: str


def hash_password(password: str) -> str:
    """The hash of a password, for the file of accounts."""
    salt = os.urandom(16)
    found = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=32)
    texts = [base64.b64encode(part).decode() for part in (salt, found)]

    return "$".join([_SCHEME, str(_N), str(_R), str(_P), *texts])


def is_password(given: str, hashed: str) -> bool:
    """Whether a password is that of a hash. Compared in constant time."""
    try:
        scheme, n, r, p, salt, wanted = hashed.split("$")
        if scheme != _SCHEME:
            return False

        found = hashlib.scrypt(
            given.encode("utf-8", "replace"),
            salt=base64.b64decode(salt),
            n=int(n),
            r=int(r),
            p=int(p),
            dklen=32,
        )

        return hmac.compare_digest(found, base64.b64decode(wanted))
    except (ValueError, binascii.Error):
        return False


_NOBODY = hash_password(base64.b64encode(os.urandom(12)).decode())


class Accounts:
    """The accounts of a dashboard, with the tokens of the same file.

    It is true if there is an account.

    A file is TOML::

        [users.ana]
        password = "scrypt$..."     # streams dashboard --hash-password
        role = "operator"           # viewer, operator or admin

        [tokens.shop]               # for the API
        sha256 = "..."              # streams dashboard --new-token
        role = "viewer"
        publish = true
        streams = ["orders"]        # all, if it is not given

    Args:
        accounts: by name.
        tokens: those of the same file. A file with tokens alone must not look like an
            empty one: without accounts and tokens, this machine may do everything.

    Attributes:
        tokens: of programs.
    """

    def __init__(
        self, accounts: Mapping[str, Account], tokens: Tokens | None = None
    ) -> None:
        self._accounts = dict(accounts)
        self.tokens = tokens if tokens is not None else Tokens({})

    def __bool__(self) -> bool:
        return bool(self._accounts)

    @classmethod
    def read(cls, path: Path) -> Accounts:
        """Read a file, its tokens too.

        Raises:
            ConfigurationError: it cannot be read, or says something that cannot be
                right; no hash is repeated.
        """
        stored = read_file(path)
        rows = stored.get("users", {})
        if not isinstance(rows, dict) or not (rows or stored.get("tokens")):
            raise ConfigurationError(
                f"{path} names no users: write [users.NAME] with password and role"
            )

        return cls(
            {
                name: _account(f"{path}, user {name}", name, row)
                for name, row in rows.items()
            },
            Tokens.read(path),
        )

    def role_of(self, name: str) -> Role | None:
        """The role of an account now; None if there is no such account (any more)."""
        found = self._accounts.get(name)

        return None if found is None else found.role

    def password_of(self, name: str) -> str:
        """The password hash of an account; '' if there is no such account (any more)."""
        found = self._accounts.get(name)

        return "" if found is None else found.password

    def log_in(self, name: str, password: str) -> Role | None:
        """The role that a name and a password give; None if they are wrong.

        A name that is unknown costs the same time as a wrong password.
        """
        found = self._accounts.get(name)
        right = is_password(password[:1000], self.password_of(name) or _NOBODY)

        return found.role if found is not None and right else None


def _account(where: str, name: str, row: Any) -> Account:
    if not isinstance(row, dict) or set(row) != {"password", "role"}:
        raise ConfigurationError(f"{where}: give password and role, and nothing else")

    role, password = role_of(where, row), row["password"]
    if (
        not isinstance(password, str)
        or not password.startswith(f"{_SCHEME}$")
        or password.count("$") != 5
    ):
        raise ConfigurationError(
            f"{where}: password is a hash; 'streams dashboard --hash-password' makes one"
        )

    return Account(name, role, password)
