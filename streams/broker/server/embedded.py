"""The embedded server: a real Valkey or Redis, run for the programs of one user and stopped after the last.

A program that uses a server holds ``users.lock`` of the server's run folder, shared. A small process of its
own, the keeper, is the server's parent and waits for that lock; see ``keeper`` for who holds which lock.
Nothing here trusts a process id: whether a server lives is asked at its socket and of the kernel's locks.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from streams.broker.server import keeper
from streams.broker.server.binaries import find_server, note, version_of, written_by
from streams.common import native
from streams.errors import ConfigurationError, NoServer

# how long acquire() waits for a server, and close(wait=True) for its end
START_SECONDS = 10.0
_SOCKET_LIMIT = 100  # bytes; Linux takes 107, macOS 103
_POLL = 0.005
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _make(folder: Path, *, private: bool) -> None:
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {folder} cannot be made: {error.strerror}"
        ) from error
    if private and not keeper.is_private(str(folder)):
        raise ConfigurationError(
            f"the runtime folder {folder} is not safe to use: it must be a folder and no link, of mode 700, "
            "and belong to this user. Remove it, or set XDG_RUNTIME_DIR to another place"
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the folder {folder} cannot be read and written")


@dataclass(eq=False)
class _Use:
    """The use of one server by this process, shared by its EmbeddedServer objects."""

    url: str
    home: Path
    data: Path | None
    holders: int = 0
    is_over: bool = False

    def __post_init__(self) -> None:
        self._folder = self.home
        self._lock = native.new_lock()
        self._users: keeper.LockFile | None = None
        self._launches = 0
        self._launched = ""

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def ensure(self) -> str:
        """Return the socket of a server that answers and has a keeper; start one if there is none."""
        with self._lock:
            if self._users is None or self._state() != "ready":
                self._start()
            return self.path(keeper.SOCKET)

    def release(self, *, wait: bool) -> None:
        """Leave the server to its other users, or to its end."""
        with self._lock:
            if self._users is None:
                return
            self._leave()
            if self.data is None:
                keeper.tidy(str(self._folder))
            end = time.monotonic() + START_SECONDS
            while (
                wait
                and keeper.is_stopping(str(self._folder))
                and time.monotonic() < end
            ):
                time.sleep(_POLL)

    def _start(self) -> None:
        end = time.monotonic() + START_SECONDS
        self._launches, self._launched = 0, ""
        while True:
            if self.is_over:
                raise NoServer(f"{self.url} was closed while it was starting")
            self._enter()
            self._look()
            state = self._state() if self._users else "silent"
            if state == "ready":
                if self.data and self._launched:
                    # It has read what another one wrote, and goes on with that.
                    note(self.data, self._launched)
                return
            if time.monotonic() > end:
                if state == "loading":
                    # much data: commands are answered with LOADING, which clients wait out
                    return
                lock = (self.data or self._folder) / keeper.SERVER_LOCK
                other = (
                    f"; whoever holds {lock} has left no way to reach it"
                    if keeper.is_held(str(lock))
                    else ""
                )
                raise self._failure(f"does not answer at {self._folder}{other}")
            time.sleep(_POLL)

    def _state(self) -> str:
        answer = keeper.ask(self.path(keeper.SOCKET), b"PING")
        if answer.startswith(b"-LOADING"):
            return "loading"
        # Any other answer will do: a server that complains of a full disk or a slow script is there.
        return (
            "ready"
            if answer and keeper.is_held(self.path(keeper.KEEPER_LOCK))
            else "silent"
        )

    def _enter(self) -> None:
        """Go to the run folder: our own, or the one that a program with another runtime folder noted."""
        folder = self.home
        if self.data:
            _make(self.data, private=False)
            lock = self.data / keeper.SERVER_LOCK
            noted = (
                Path(os.fsdecode(lock.read_bytes()))
                if keeper.is_held(str(lock))
                else folder
            )
            folder = (
                noted
                if noted.is_absolute() and keeper.is_private(str(noted))
                else folder
            )
        if folder != self._folder:
            self._leave()
        self._folder = folder
        _make(folder.parent, private=True)
        _make(folder, private=True)

    def _leave(self) -> None:
        if self._users:
            self._users.close()
        self._users = None

    def _look(self) -> None:
        """Look once, under the start lock: become a user, and launch a keeper if there is none."""
        try:
            with keeper.LockFile(self.path(keeper.START_LOCK)) as start:
                if (
                    not start.take()
                    or not self._join()
                    or keeper.is_held(self.path(keeper.KEEPER_LOCK))
                ):
                    return
                if keeper.is_held(
                    str((self.data or self._folder) / keeper.SERVER_LOCK)
                ):
                    # The server outlived its keeper, or is about to end with it: make sure that it ends.
                    keeper.ask(self.path(keeper.SOCKET), b"SHUTDOWN NOSAVE")
                elif self._launches == 2:  # once may be bad luck: somebody killed it
                    raise self._failure("ended while it was starting")
                else:
                    self._launch(find_server(self.data))
        except FileNotFoundError:
            # the last keeper has just removed the folder: the next look makes it again
            return

    def _join(self) -> bool:
        """Be among the users, which cannot be while a keeper stops its server."""
        if self._users is None or not self._users.take(fcntl.LOCK_SH):
            self._leave()
            self._users = keeper.LockFile(self.path(keeper.USERS_LOCK))
            if not self._users.take(fcntl.LOCK_SH):
                self._leave()
        return self._users is not None

    def _launch(self, binary: str) -> None:
        version = version_of(binary)
        if (
            self.data
            and version
            and version < (7, 0)
            and (self.data / "appendonlydir").exists()
        ):
            # It would look for the older form, find none, and start empty.
            raise NoServer(
                f"the data in {self.data} was written by version 7 or later, {binary} is older"
            )
        self._launched = binary
        if self.data and written_by(self.data) is None:
            # Before it writes: who is interrupted from here on leaves no riddle behind.
            note(self.data, binary)
        command = [
            sys.executable,
            "-I",
            "-S",
            str(Path(keeper.__file__).absolute()),
            str(self._folder),
        ]
        command += [
            str(self.data or self._folder),
            "aof" if self.data else "memory",
            binary,
        ]
        file = self._folder / keeper.LOG
        if file.exists():
            file.replace(self.path(keeper.OLD_LOG))
        try:
            with file.open("ab") as log:
                # This interpreter, the script beside this file, and the binary of find_server().
                code = native.spawned(command, log.fileno(), 3 * START_SECONDS)
        except OSError as error:
            raise self._failure(f"could not be started: {error}") from error
        self._launches += code != keeper.BUSY

    def _failure(self, what: str) -> NoServer:
        file = self._folder / keeper.LOG
        said = file.read_text(errors="replace").strip() if file.exists() else ""
        written = written_by(self.data) if self.data else None
        wrote = (
            f" The data in {self.data} were written by {written}." if written else ""
        )
        return NoServer(
            f"the embedded server of {self.url} {what}.{wrote} Its log: {said[-1500:] or 'empty'}"
        )


_lock = native.new_lock()
_uses: dict[Path, _Use] = {}
_token = os.urandom(8).hex()


def _in_child() -> None:
    # The uses are the parent's, and the lock may be held by a thread that is not here.
    global _lock
    _lock = native.new_lock()
    for use in _uses.values():
        use.is_over = True
    _uses.clear()


def _at_exit() -> None:
    for use in list(_uses.values()):
        use.is_over = True
        use.release(wait=False)


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)


class EmbeddedServer:
    """The use of an embedded server by this process. Objects with the same URL share the server."""

    def __init__(self, url: str, name: str, data: Path | None) -> None:
        self._url = url
        self._name = name
        self._data = data
        self._use: _Use | None = None
        self._home()

    @classmethod
    def from_url(cls, url: str) -> EmbeddedServer:
        """Read ``embedded://PATH``, ``memory://`` or ``memory://NAME``; start nothing."""
        scheme, _, rest = url.partition("://")
        if scheme == "memory" and (not rest or _NAME.fullmatch(rest)):
            return cls(url, rest, None)
        if scheme != "embedded" or not rest or "?" in rest:
            raise ConfigurationError(
                f"{url!r} cannot be used: give embedded://PATH, memory://, or memory://NAME with a NAME of "
                "at most 100 letters, digits, '.', '_' and '-'"
            )
        try:
            return cls(url, "", Path(rest).expanduser().resolve())
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"{url!r}: the path cannot be resolved: {error}"
            ) from error

    @property
    def socket_path(self) -> str:
        """Where the server listens, or will listen once it is acquired."""
        use = self._use
        return (
            str(self._home() / keeper.SOCKET)
            if use is None or use.is_over
            else use.path(keeper.SOCKET)
        )

    def acquire(self) -> str:
        """Start the server or join its users, and return the socket's path; after its death, start it again.

        Blocks for up to about ten seconds. NoServer is raised when there is no binary or the server does not
        come up, and then ends with its log; ConfigurationError when a folder cannot be used.
        """
        home = self._home()
        if self._use is not None and self._use.home != home:
            # the runtime folder moved, as when a session's own goes at logout
            self.close()
        with _lock:
            use, is_new = self._use, False
            if use is None or use.is_over:
                use, is_new = (
                    _uses.setdefault(home, _Use(self._url, home, self._data)),
                    True,
                )
                use.holders += 1
                self._use = use
        try:
            return use.ensure()
        except BaseException:
            if is_new:
                self.close()
            raise

    def close(self, *, wait: bool = False) -> None:
        """Give up the use. The last one's end stops the server, and ``wait`` waits for that. Idempotent."""
        with _lock:
            use, self._use = self._use, None
            if use is None or use.is_over:
                return
            use.holders -= 1
            if use.holders:
                return
            use.is_over = True
            del _uses[use.home]
        use.release(wait=wait)

    def _home(self) -> Path:
        base = Path(os.environ.get("XDG_RUNTIME_DIR", ""), "streams")
        if (
            not base.is_absolute()
            or not base.parent.is_dir()
            or base.parent.stat().st_uid != os.geteuid()
        ):
            base = Path(tempfile.gettempdir(), f"streams-{os.geteuid()}")
        kind, what = (
            ("e", self._data)
            if self._data
            else ("m", self._name or f"{os.getpid()} {_token}")
        )
        home = (
            base
            / f"{kind}-{hashlib.blake2b(os.fsencode(what), digest_size=8).hexdigest()}"
        )
        if len(os.fsencode(home / keeper.SOCKET)) >= _SOCKET_LIMIT:
            raise ConfigurationError(
                f"the socket path {home / keeper.SOCKET} is too long for the system (the limit is "
                f"{_SOCKET_LIMIT} bytes): set XDG_RUNTIME_DIR, or TMPDIR, to a folder with a shorter name"
            )
        return home
