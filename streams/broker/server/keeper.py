"""The parent of one embedded server starts it, and stops it after its last user.

It runs as a script, one process per server, in a session of its own: a Ctrl-C at a
user's terminal must reach neither it nor the server. It imports little, because
each cold start of a server waits for its imports.

Locks of the kernel (``flock``) tell which processes live; no SIGKILL leaves one behind:

* ``keeper.pid`` is locked while the parent lives; the number in it is for messages and
  for people;
* ``users.lock`` is locked, shared, by each process that uses the server; a parent that
  gets it exclusively has no users left;
* ``streams.lock``, beside the data, is locked by the parent *and* by the server, which
  inherits it. No second server can open the data while one lives, even if that outlived
  its parent. The file holds the name of the run folder, so that a program with another
  runtime folder finds the server too;
* ``start.lock`` is held for moments, while a process looks for a server or starts one.

The functions before ``Keeper`` are for the users of the server, who look at the same files.
"""

from __future__ import annotations

import _thread  # threading would only add to the start
import fcntl
import os
import signal
import sys
import time

START_LOCK = "start.lock"
USERS_LOCK = "users.lock"
KEEPER_LOCK = "keeper.pid"
SERVER_LOCK = "streams.lock"
SOCKET = "server.sock"
LOG = "server.log"
OLD_LOG = "server.old.log"

# Exit code: another parent has this server.
BUSY = 75
# How long a server may take to stop before it is killed; with the AOF on it takes about 0.1 s.
STOP_SECONDS = 5.0

_PATIENCE = 0.3
_FRESHEN_SECONDS = 3600.0


class _Woken(Exception):  # noqa: N818 - a signal's way out of a blocking call, not an error
    """The wait for the users' lock ended for another reason than the lock."""


def open_lock(path: str, extra: int = os.O_CREAT) -> int:
    """Open a lock file, and make it by default. Other programs do not inherit the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | extra, 0o600)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take a lock if it is free; returns whether it was."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False

    return True


_guard = _thread.allocate_lock()
_open_files: set[LockFile] = set()


class LockFile:
    """An open lock file. The lock ends with close() or the process; a forked child has no part.

    A lock belongs to the open file, which a fork shares. A child that kept the file would keep the
    lock after its parent's death, and one that unlocked it would take the lock from the parent. So
    the child only closes its copy.
    """

    def __init__(self, path: str, extra: int = os.O_CREAT) -> None:
        self.path = path
        # The guard keeps another thread from forking between the opening and the note of it.
        with _guard:
            self.descriptor = open_lock(path, extra)
            _open_files.add(self)

    def __enter__(self) -> LockFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, kind: int = fcntl.LOCK_EX) -> bool:
        """Take the lock if it is free and the path still leads to this file."""
        if not try_lock(self.descriptor, kind):
            return False

        try:
            there = os.stat(self.path)  # noqa: PTH116 - as below
            return os.path.samestat(os.fstat(self.descriptor), there)
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Release the lock. Idempotent."""
        with _guard:
            if self in _open_files:
                _open_files.remove(self)
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
                os.close(self.descriptor)


def _in_child() -> None:
    for file in _open_files:
        os.close(file.descriptor)

    _open_files.clear()
    _guard.release()


os.register_at_fork(
    before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_in_child
)


def is_private(folder: str) -> bool:
    """Whether it is a folder, no link, that belongs to this user and admits no other user."""
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):
        return False

    # The type and all rights of others, in one comparison.
    return found.st_uid == os.geteuid() and found.st_mode & 0o170077 == 0o040000


def is_held(path: str) -> bool:
    """Whether a process holds a lock exclusively."""
    try:
        with LockFile(path, 0) as file:
            return not file.take(fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def ask(path: str, command: bytes) -> bytes:
    """Send one command to a server's socket, and return the reply; b'' for none."""
    import socket  # users have it already; the parent never asks

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(path)
            connection.sendall(command + b"\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def is_stopping(folder: str) -> bool:
    """Whether the parent lives without users, so that it is stopping its server."""
    try:
        with LockFile(f"{folder}/{USERS_LOCK}", 0) as users:
            used = not users.take() and users.take(fcntl.LOCK_SH)
    except FileNotFoundError:
        return False

    return not used and is_held(f"{folder}/{KEEPER_LOCK}")


def tidy(folder: str) -> None:
    """Remove the run folder of a server without disk whose parent was killed."""
    try:
        with (
            LockFile(f"{folder}/{START_LOCK}", 0) as start,
            LockFile(f"{folder}/{USERS_LOCK}", 0) as users,
        ):
            others = any(
                is_held(f"{folder}/{name}") for name in (KEEPER_LOCK, SERVER_LOCK)
            )
            if not others and start.take() and users.take():
                clear_folder(folder)
    except FileNotFoundError:
        return


def clear_folder(folder: str) -> None:
    """Remove a run folder. The caller holds its start lock, which is removed last."""
    for name in (
        SOCKET,
        LOG,
        OLD_LOG,
        USERS_LOCK,
        KEEPER_LOCK,
        SERVER_LOCK,
        START_LOCK,
    ):
        _forget(f"{folder}/{name}")

    try:  # noqa: SIM105 - contextlib and pathlib would add some 10 ms to each cold start
        os.rmdir(folder)  # noqa: PTH106
    except OSError:
        pass  # another process came in after the start lock was removed, and has the folder


def _forget(path: str) -> None:
    try:  # noqa: SIM105 - as above
        os.unlink(path)  # noqa: PTH108
    except OSError:
        pass


def _lock_within(descriptor: int, seconds: float) -> bool:
    """Take a lock exclusively; another process may have it briefly, in ``is_held``."""
    end = time.monotonic() + seconds
    while not try_lock(descriptor):
        if time.monotonic() > end:
            return False

        time.sleep(0.005)

    return True


def _server_command(folder: str, data: str, mode: str, binary: str) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": f"{folder}/{SOCKET}",
        "unixsocketperm": "700",
        "dir": data,
        "save": "",
        "appendonly": "yes" if mode == "aof" else "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "notice",
        "logfile": f"{folder}/{LOG}",
    }

    command = [binary]
    for name, value in options.items():
        command += [f"--{name}", value]

    return command


def _die_with(parent: int) -> None:
    """Have the kernel stop this process, the server, when its parent dies (Linux).

    SIGTERM and not SIGKILL: with ``everysec`` a server whose fsync is slow holds back answered
    writes for up to two seconds, and on SIGTERM it writes them out first.
    """
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # 1: PR_SET_PDEATHSIG
    except (ImportError, OSError, AttributeError):
        # Elsewhere the next user of the data stops a server that lost its parent.
        return

    if os.getppid() != parent:
        os._exit(1)


class Keeper:
    """The parent of one server process."""

    def __init__(self, folder: str, data: str, mode: str, binary: str) -> None:
        self._folder = folder
        self._has_disk = mode == "aof"
        self._command = _server_command(folder, data, mode, binary)
        self._users = open_lock(f"{folder}/{USERS_LOCK}")
        self._server = 0
        self._gone = False
        self._stop_asked = False
        self._waiting = False
        self._freshened = time.monotonic()

    def run(self, server_lock: int) -> None:
        """Start the server, keep it until it has no users or ends, and clean up."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, self._on_signal)

        self._start(server_lock)
        try:
            self._wait()
            unused = True
        except _Woken:
            unused = False

        if not unused:
            # no user must come to a server that is about to end
            _forget(f"{self._folder}/{SOCKET}")

        self._stop()
        _forget(f"{self._folder}/{SOCKET}")

        if not self._has_disk and (unused or try_lock(self._users)):
            start = open_lock(f"{self._folder}/{START_LOCK}")
            if _lock_within(start, _PATIENCE):
                clear_folder(self._folder)

    def _start(self, server_lock: int) -> None:
        keeper = os.getpid()
        self._server = os.fork()
        if self._server:
            return

        try:
            _die_with(keeper)
            fcntl.fcntl(server_lock, fcntl.F_SETFD, 0)  # the server inherits this one
            binary = self._command[0]
            os.execv(binary, self._command)  # noqa: S606 - chosen by find_server()
        except OSError as error:
            os.write(2, f"{self._command[0]} cannot be run: {error}\n".encode())
        finally:
            os._exit(127)

    def _wait(self) -> None:
        """Block until the server has no users; a signal or the server's end raises _Woken.

        A blocking lock costs nothing while it waits, and is granted the moment the last user goes.
        Signals interrupt it. A signal just before the call blocks would go unnoticed: hence a
        timer, once a second, at some 20 us of CPU.
        """
        self._waiting = True
        signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
        self._check()
        fcntl.flock(self._users, fcntl.LOCK_EX)
        self._waiting = False

    def _on_signal(self, number: int, _frame: object) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop_asked = True

        if self._waiting:
            self._check()
            self._freshen()

    def _check(self) -> None:
        if self._stop_asked or self._server_ended():
            self._waiting = False
            raise _Woken

    def _server_ended(self) -> bool:
        if not self._gone:
            try:
                self._gone = os.waitpid(self._server, os.WNOHANG)[0] == self._server
            except ChildProcessError:
                self._gone = True  # a signal's handler has just reaped it

        return self._gone

    def _stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._server_ended():
            return

        # Only the parent reaps, so the number cannot have passed on to another process.
        os.kill(self._server, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS

        while not self._server_ended():
            if time.monotonic() > end:
                os.kill(self._server, signal.SIGKILL)
                os.waitpid(self._server, 0)
                return

            time.sleep(0.005)

    def _freshen(self) -> None:
        """Keep the files young for cleaners of temporary folders, which delete old ones."""
        if time.monotonic() - self._freshened < _FRESHEN_SECONDS:
            return

        self._freshened = time.monotonic()
        for name in (SOCKET, LOG, USERS_LOCK, KEEPER_LOCK, START_LOCK):
            try:
                os.utime(f"{self._folder}/{name}")
            except OSError:
                continue


def main(arguments: list[str]) -> int:
    """Take the locks; leave a parent for ``FOLDER DATA aof|memory BINARY`` behind."""
    folder, data, mode, binary = arguments
    os.chdir("/")  # The starter's folder must not stay in use.
    # Signals that the starter blocks stay blocked through exec: the server would ignore SIGTERM.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    own = open_lock(f"{folder}/{KEEPER_LOCK}")
    server_lock = open_lock(f"{data}/{SERVER_LOCK}")
    if not (_lock_within(own, _PATIENCE) and _lock_within(server_lock, _PATIENCE)):
        return BUSY

    os.ftruncate(server_lock, 0)
    os.pwrite(server_lock, os.fsencode(folder), 0)
    keeper = Keeper(folder, data, mode, binary)
    # The starter must not be the parent: it would have to reap this process.
    if os.fork():
        os._exit(0)

    os.ftruncate(own, 0)
    os.pwrite(own, f"{os.getpid()}\n".encode(), 0)
    keeper.run(server_lock)

    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
