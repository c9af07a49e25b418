"""The files of a worker's program and their changes, for development.

It needs the extra ``reload``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.machinery
import logging
import sys
from pathlib import Path
from typing import Self

from streams.errors import ConfigurationError

_SETTINGS = (".env", ".env.local")
_INSTALLED = ("site-packages", "dist-packages")


def folder_of(target: str) -> Path:
    """The folder of a worker's target, found without an import.

    For an installed package it is the package's own folder.

    Raises:
        ConfigurationError: there is no such folder.
    """
    place = target.rpartition(":")[0]
    if place.endswith(".py") or "/" in place:
        folder = Path(place).resolve().parent
    else:
        folder = _folder_of_module(place.partition(".")[0])

    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {folder}, so its files cannot be watched"
        )

    return folder


def _folder_of_module(name: str) -> Path:
    found = importlib.machinery.PathFinder.find_spec(name, [str(Path.cwd()), *sys.path])
    if found is None:
        # The import will fail with an error. A file that is added later is watched.
        return Path.cwd()

    if found.submodule_search_locations:
        package = Path(next(iter(found.submodule_search_locations)))
        is_installed = package.parent.name in _INSTALLED
        return package if is_installed else package.parent

    return Path(found.origin).parent if found.origin else Path.cwd()


class FolderWatch:
    """Watches the Python and env files below a folder while it is open.

    Args:
        folder: a folder from ``folder_of``.

    Raises:
        ConfigurationError: the extra is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import watchfiles
        except ModuleNotFoundError:
            raise ConfigurationError(
                "--reload needs one more package: pip install 'streams[reload]'"
            ) from None

        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        is_python = watchfiles.PythonFilter()

        def concerns(change: watchfiles.Change, path: str) -> bool:
            return Path(path).name in _SETTINGS or is_python(change, path)

        self.folder = folder
        self._changes = watchfiles.awatch(folder, watch_filter=concerns)
        self._next: asyncio.Task[set[tuple[watchfiles.Change, str]]]

    async def __aenter__(self) -> Self:
        await self._ask()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._next.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._next

        await self._changes.aclose()

    async def changed(self) -> list[str]:
        """Wait for a change; returns the names of the files, relative to the folder."""
        changes = await self._next
        await self._ask()
        paths = {Path(path).relative_to(self.folder) for _, path in changes}
        return sorted(map(str, paths))

    async def _ask(self) -> None:
        self._next = asyncio.ensure_future(anext(self._changes))
        # The first step of the task sets up the watch on the folder.
        await asyncio.sleep(0)
