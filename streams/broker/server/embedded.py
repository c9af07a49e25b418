"""The embedded server: a real Valkey or Redis for the programs of one user.

It stops after the last of them. A program that uses a server holds ``users.lock`` of
the server's run folder, shared. A small process is the server's parent and waits for
that lock; see ``keeper`` for this process and all locks. No process id is trusted:
the server's socket and the kernel's locks tell whether it lives.
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
            f"the runtime folder {folder} is not safe to use: it must be a folder and no link, of"
            " mode 700, and belong to this user. Remove it, or set XDG_RUNTIME_DIR to another"
            " place"
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
        """The socket of a server that answers and has a parent; started if needed."""
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
                    # It has read the data of another server, and writes its own from now on.
                    note(self.data, self._launched)

                return

            if time.monotonic() > end:
                if state == "loading":
                    # much data: commands are answered with LOADING, which clients wait out
                    return

                lock = (self.data or self._folder) / keeper.SERVER_LOCK
                what = f"does not answer at {self._folder}"
                if keeper.is_held(str(lock)):
                    what += f"; whoever holds {lock} has left no way to reach it"

                raise self._failure(what)

            time.sleep(_POLL)

    def _state(self) -> str:
        answer = keeper.ask(self.path(keeper.SOCKET), b"PING")
        if answer.startswith(b"-LOADING"):
            return "loading"
        # Any other answer will do, such as a complaint about a full disk or a slow script.
        if answer and keeper.is_held(self.path(keeper.KEEPER_LOCK)):
            return "ready"

        return "silent"

    def _enter(self) -> None:
        """Go to the run folder: our own, or that of a program with another runtime folder."""
        folder = self.home
        if self.data:
            _make(self.data, private=False)
            lock = self.data / keeper.SERVER_LOCK

            if keeper.is_held(str(lock)):
                noted = Path(os.fsdecode(lock.read_bytes()))
                if noted.is_absolute() and keeper.is_private(str(noted)):
                    folder = noted

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
        """Look once, under the start lock.

        Become a user, and launch the server's parent if there is none.
        """
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
                    # The server outlived its parent, or ends with it: make sure that
                    # it ends.
                    keeper.ask(self.path(keeper.SOCKET), b"SHUTDOWN NOSAVE")
                elif self._launches == 2:  # once may be bad luck: a kill
                    raise self._failure("ended while it was starting")
                else:
                    self._launch(find_server(self.data))
        except FileNotFoundError:
            # The last parent has just removed the folder: the next look makes it again.
            return

    def _join(self) -> bool:
        """Join the users, unless the parent is stopping its server.

        Returns whether it succeeded.
        """
        if self._users is None or not self._users.take(fcntl.LOCK_SH):
            self._leave()
            self._users = keeper.LockFile(self.path(keeper.USERS_LOCK))
            if not self._users.take(fcntl.LOCK_SH):
                self._leave()

        return self._users is not None

    def _launch(self, binary: str) -> None:
        version = version_of(binary)
        is_old = version is not None and version < (7, 0)

        if is_old and self.data and (self.data / "appendonlydir").exists():
            # It would look for the older form, find none, and start empty.
            raise NoServer(
                f"the data in {self.data} was written by version 7 or later, {binary} is older"
            )

        self._launched = binary
        if self.data and written_by(self.data) is None:
            # Before the server writes, so that an interruption leaves no data without a note.
            note(self.data, binary)

        script = str(Path(keeper.__file__).absolute())
        data = str(self.data or self._folder)
        mode = "aof" if self.data else "memory"
        command = [sys.executable, "-I", "-S", script]
        command += [str(self._folder), data, mode, binary]
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
        said = said[-1500:] or "empty"
        written = written_by(self.data) if self.data else None
        wrote = ""
        if written:
            wrote = f" The data in {self.data} were written by {written}."

        return NoServer(
            f"the embedded server of {self.url} {what}.{wrote} Its log: {said}"
        )


_lock = native.new_lock()
_uses: dict[Path, _Use] = {}
_token = os.urandom(8).hex()


def _in_child() -> None:
    # The uses are the parent's, and a thread that the child does not have may hold the lock.
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
                f"{url!r} cannot be used: give embedded://PATH, memory://, or memory://NAME with"
                " a NAME of at most 100 letters, digits, '.', '_' and '-'"
            )

        try:
            return cls(url, "", Path(rest).expanduser().resolve())
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"{url!r}: the path cannot be resolved: {error}"
            ) from error

    @property
    def socket_path(self) -> str:
        """The socket of the server, also before it is acquired."""
        use = self._use
        if use is None or use.is_over:
            return str(self._home() / keeper.SOCKET)

        return use.path(keeper.SOCKET)

    def acquire(self) -> str:
        """Start the server, again if it died, or join its users; returns the socket's path.

        Blocks for up to about ten seconds.

        Raises:
            NoServer: there is no binary, or the server does not start; then the message ends with
                its log.
            ConfigurationError: a folder cannot be used.
        """
        home = self._home()
        if self._use is not None and self._use.home != home:
            # the runtime folder moved, as when a session's own goes at logout
            self.close()

        with _lock:
            use, is_new = self._use, False
            if use is None or use.is_over:
                use = _uses.setdefault(home, _Use(self._url, home, self._data))
                use.holders += 1
                self._use = use
                is_new = True

        try:
            return use.ensure()
        except BaseException:
            if is_new:
                self.close()

            raise

    def close(self, *, wait: bool = False) -> None:
        """Stop using the server; ``wait`` for its end if this was the last use. Idempotent."""
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
        if self._data:
            kind, what = "e", str(self._data)
        else:
            kind, what = "m", self._name or f"{os.getpid()} {_token}"

        digest = hashlib.blake2b(os.fsencode(what), digest_size=8).hexdigest()
        home = _runtime_folder() / f"{kind}-{digest}"
        socket = home / keeper.SOCKET

        if len(os.fsencode(socket)) >= _SOCKET_LIMIT:
            raise ConfigurationError(
                f"the socket path {socket} is too long for the system (the limit is"
                f" {_SOCKET_LIMIT} bytes): set XDG_RUNTIME_DIR, or TMPDIR, to a folder with a"
                " shorter name"
            )

        return home


def _runtime_folder() -> Path:
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""), "streams")
    parent = base.parent
    if base.is_absolute() and parent.is_dir() and parent.stat().st_uid == os.geteuid():
        return base

    return Path(tempfile.gettempdir(), f"streams-{os.geteuid()}")
