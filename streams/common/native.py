"""Threads of the operating system with event loops in them, also where gevent has made greenlets of threads.

Under ``gevent.monkey.patch_all()`` a ``threading.Thread`` is a greenlet, and its event loop would count as running for
every other greenlet of the thread. So the originals are used, which gevent keeps: a thread that the system runs, and a
selector that waits there. Whoever waits for such a thread waits as a greenlet does, and the others go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from streams.errors import ConfigurationError

_POLL = 0.002
_REPLACED = ("socket", "select", "selectors", "threading")


def is_under_gevent() -> bool:
    """Whether gevent has replaced parts of the standard library that event loops and threads are made of."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(
        monkey.is_module_patched(name) for name in _REPLACED
    )


def refuse_eventlet() -> None:
    """Refuse to work where nothing would.

    Raises:
        ConfigurationError: eventlet has replaced sockets or threads.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and any(
        patcher.is_monkey_patched(name) for name in ("socket", "thread", "select")
    ):
        raise ConfigurationError(
            "eventlet has replaced sockets and threads (eventlet.monkey_patch), and event loops do not work with its "
            "own: use gevent, or threads (gunicorn -k gthread)"
        )


def refuse_greenlets() -> None:
    """Refuse to run a worker, whose parts need real threads.

    Raises:
        ConfigurationError: gevent or eventlet has replaced sockets or threads.
    """
    refuse_eventlet()
    if is_under_gevent():
        raise ConfigurationError(
            "gevent has replaced sockets and threads (gevent.monkey.patch_all), and a worker needs real ones: publish "
            "from this program, and run the handlers in a process that does not call patch_all()"
        )


class Bell(Protocol):
    """Rung by one thread, waited for by another one."""

    def ring(self) -> None:
        """End the waiting; in any thread."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is rung, at most so long; returns whether it was."""


class Thread(Protocol):
    """A thread that has been started, and that the end of the interpreter does not wait for."""

    def is_current(self) -> bool:
        """Whether the caller runs in it."""

    def is_alive(self) -> bool:
        """Whether it runs; it does not in a child of the process that started it."""

    def join(self, seconds: float) -> None:
        """Wait for its end, at most so long."""


def new_lock() -> threading.Lock:
    """A lock between threads of the operating system, for short work: who waits for it stops its whole thread.

    What gevent puts in the place of ``threading.Lock`` is for greenlets. Where two native threads meet at one, the
    second may sleep for ever after the first has left.
    """
    lock: threading.Lock = (
        _original("_thread", "allocate_lock")()
        if is_under_gevent()
        else threading.Lock()
    )
    return lock


def new_bell() -> Bell:
    """A bell that the calling thread, or greenlet, waits for."""
    return _GreenBell() if is_under_gevent() else _PlainBell()


def start(target: Callable[[], None], name: str) -> Thread:
    """Start a daemon thread of the operating system."""
    return _NativeThread(target) if is_under_gevent() else _PlainThread(target, name)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop for a thread that ``start`` starts; it has to be made in that thread."""
    if not is_under_gevent():
        return asyncio.new_event_loop()
    loop = asyncio.SelectorEventLoop(_original("selectors", "DefaultSelector")())
    loop.set_default_executor(_NativeExecutor())
    return loop


def spawned(command: Sequence[str], output: int, seconds: float) -> int:
    """The exit code of a program that is run in a session of its own, where Ctrl-C does not reach it.

    Args:
        command: program and arguments.
        output: descriptor for what it writes, to standard output and error.
        seconds: how long it may take.

    Raises:
        OSError: it cannot be run, or took longer (``TimeoutError``) and was killed.
    """
    process = (
        _NativeProcess(command, output)
        if is_under_gevent()
        else _plain_process(command, output)
    )
    give_up = time.monotonic() + seconds
    while (code := process.poll()) is None:
        if time.monotonic() > give_up:
            process.kill()
            process.wait()
            raise TimeoutError(f"{command[0]} did not end within {seconds:g} s")
        time.sleep(_POLL)
    return code


def _plain_process(command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    # Only this package's own script and servers are run.
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=null,
        stdout=output,
        stderr=output,
        cwd="/",
        start_new_session=True,
    )


class _NativeProcess:
    """Not by ``subprocess``, which gevent replaces by what works in its first thread only."""

    def __init__(self, command: Sequence[str], output: int) -> None:
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        spawn = _original("os", "posix_spawn")
        self._pid: int = spawn(
            command[0], command, os.environ, file_actions=files, setsid=True
        )

    def poll(self) -> int | None:
        found, status = _original("os", "waitpid")(self._pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        _original("os", "waitpid")(self._pid, 0)


class _PlainBell:
    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self, seconds: float | None = None) -> bool:
        return self._event.wait(seconds)


class _GreenBell:
    """Rings in the hub of the greenlet that made it: what gevent lets other threads do is to send to a watcher."""

    def __init__(self) -> None:
        import gevent
        from gevent.event import Event

        self._event = Event()
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(self._event.set)

    def ring(self) -> None:
        self._watcher.send()

    def wait(self, seconds: float | None = None) -> bool:
        try:
            return bool(self._event.wait(seconds))
        finally:
            self._watcher.stop()


class _PlainThread(threading.Thread):
    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self.start()

    def is_current(self) -> bool:
        return threading.current_thread() is self


class _NativeThread:
    def __init__(self, target: Callable[[], None]) -> None:
        self._target = target
        self._lock = new_lock()
        self._bells: list[Bell] = []
        self._has_ended = False
        self._process = os.getpid()
        self._ident = _original("_thread", "start_new_thread")(self._main, ())

    def is_current(self) -> bool:
        return bool(_original("_thread", "get_ident")() == self._ident)

    def is_alive(self) -> bool:
        return not self._has_ended and self._process == os.getpid()

    def join(self, seconds: float) -> None:
        bell = new_bell()
        with self._lock:
            self._bells.append(bell)
            if self._has_ended:
                bell.ring()
        bell.wait(seconds)

    def _main(self) -> None:
        try:
            self._target()
        finally:
            with self._lock:
                self._has_ended = True
                bells = list(self._bells)
            for bell in bells:
                bell.ring()


class _NativeExecutor(ThreadPoolExecutor):
    """What an event loop in a native thread hands to other threads: looking up host names, starting a server."""

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        # The library's lock would be gevent's, which is for greenlets; here two threads of the system meet.
        future._condition = threading.Condition(_original("_thread", "RLock")())  # noqa: SLF001

        def run() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
                future.set_exception(error)
            else:
                future.set_result(result)

        _original("_thread", "start_new_thread")(run, ())
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's
        """Nothing waits for its threads."""


def _original(module: str, name: str) -> Any:
    """What gevent has put something else in the place of."""
    return sys.modules["gevent.monkey"].get_original(module, name)
