"""The Lua scripts: one file per transition, read once at import, called by hash.

A script's header is its contract; the loader refuses a file without one. The loader replaces
``-- include: NAME`` with the text of that file, so that the server sees a constant script.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

Command = Sequence[bytes | str | float]
"""A command of the server: its name and arguments."""

_INCLUDE = re.compile(r"^-- include: (?P<name>[a-z_.]+)$", re.MULTILINE)
_FOLDERS = ("broker/entries", "broker/admin", "broker/state", "testing")
"""Where Lua files are; no two have the same name."""
_CONTRACT = ("-- KEYS[", "-- ARGV[", "-- Returns")

by_sha: dict[str, Script] = {}
"""Every loaded script; a connection finds the text here when it gets NOSCRIPT."""

_by_name: dict[str, Script] = {}


class Script:
    """A constant script of the server; the same one wherever its name is given.

    Args:
        name: the file ``NAME.lua``, which is beside the module that calls it.

    Raises:
        ValueError: the header lacks its contract (a defect of this package, found at import).
    """

    __slots__ = ("name", "sha", "text")

    def __new__(cls, name: str) -> Script:
        """The script of that name, if it was loaded before."""
        return _by_name.get(name) or super().__new__(cls)

    def __init__(self, name: str) -> None:
        if name in _by_name:
            return

        self.name = name
        self.text = _INCLUDE.sub(
            lambda found: _read(found["name"]), _read(f"{name}.lua")
        )
        missing = [mark for mark in _CONTRACT if mark not in self.text]
        if missing:
            raise ValueError(
                f"{name}.lua: the header does not say {', '.join(missing)}"
            )

        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        by_sha[self.sha] = _by_name[name] = self

    def command(
        self, keys: Iterable[str], *arguments: bytes | str | float
    ) -> tuple[bytes | str | float, ...]:
        """The command that runs the script."""
        keys = tuple(keys)
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


@cache
def _paths() -> dict[str, Traversable]:
    """Where each Lua file is: beside the Python that calls it."""
    folders = [files("streams").joinpath(folder) for folder in _FOLDERS]
    return {
        path.name: path
        for folder in folders
        for path in folder.iterdir()
        if path.name.endswith(".lua")
    }


def _read(file: str) -> str:
    return _paths()[file].read_text("utf-8")
