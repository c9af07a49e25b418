"""Native threads with event loops, also under gevent, which replaces threads.

Under ``gevent.monkey.patch_all()`` a ``threading.Thread`` is a greenlet, and its event
loop would count as running for every other greenlet of the thread. Therefore this module
uses the original threads and selectors, which gevent keeps. A greenlet that waits for
such a thread lets other greenlets run.
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
    """Whether gevent has replaced standard modules that event loops and threads need."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, _REPLACED))


def refuse_eventlet() -> None:
    """Refuse to run under eventlet, where event loops do not work.

    Raises:
        ConfigurationError: eventlet has replaced sockets or threads.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None:
        return

    if any(map(patcher.is_monkey_patched, ("socket", "thread", "select"))):
        raise ConfigurationError(
            "eventlet has replaced sockets and threads (eventlet.monkey_patch), "
            "and event loops do not work with its own: "
            "use gevent, or threads (gunicorn -k gthread)"
        )


def refuse_greenlets() -> None:
    """Refuse to run a worker, whose parts need real threads.

    Raises:
        ConfigurationError: gevent or eventlet has replaced sockets or threads.
    """
    refuse_eventlet()
    if is_under_gevent():
        raise ConfigurationError(
            "gevent has replaced sockets and threads (gevent.monkey.patch_all), "
            "and a worker needs real ones: publish from this program, "
            "and run the handlers in a process that does not call patch_all()"
        )


class Bell(Protocol):
    """An event that one thread sets and another one waits for."""

    def ring(self) -> None:
        """Wake the waiting thread; any thread may call it."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for ``ring``, at most so many seconds; returns whether it was called."""


class Thread(Protocol):
    """A started daemon thread."""

    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""

    def is_alive(self) -> bool:
        """Whether it runs; False in a child of the process that started it."""

    def join(self, seconds: float) -> None:
        """Wait for its end, at most so many seconds."""


def new_lock() -> threading.Lock:
    """A lock between native threads, for short work only: waiting blocks all greenlets.

    gevent's replacement of ``threading.Lock`` is for greenlets. If two native threads
    share it, the second may sleep for ever after the first has left.
    """
    if not is_under_gevent():
        return threading.Lock()

    lock: threading.Lock = _original("_thread", "allocate_lock")()
    return lock


def new_bell() -> Bell:
    """A bell for the calling thread or greenlet, which alone may wait for it."""
    return _GreenBell() if is_under_gevent() else _PlainBell()


def start(target: Callable[[], None], name: str) -> Thread:
    """Start a native daemon thread."""
    return _NativeThread(target) if is_under_gevent() else _PlainThread(target, name)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop for a thread of ``start``. Call this function in that thread."""
    if not is_under_gevent():
        return asyncio.new_event_loop()

    loop = asyncio.SelectorEventLoop(_original("selectors", "DefaultSelector")())
    loop.set_default_executor(_NativeExecutor())
    return loop


def spawned(command: Sequence[str], output: int, seconds: float) -> int:
    """Run a program in its own session, where Ctrl-C does not reach it.

    Args:
        command: the program and its arguments.
        output: the descriptor for its standard output and standard error.
        seconds: the longest time that it may take.

    Returns:
        Its exit code.

    Raises:
        OSError: the program cannot be started, or it was killed because it took too long
            (``TimeoutError``).
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
    return subprocess.Popen(  # noqa: S603 - this package's own script and servers only
        command,
        stdin=null,
        stdout=output,
        stderr=output,
        cwd="/",
        start_new_session=True,
    )


class _NativeProcess:
    """A process without ``subprocess``, which gevent limits to its first thread."""

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
    """A bell in the hub of the greenlet that created it.

    Other threads may do only one thing to a hub: send to a watcher.
    """

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
    """The executor of an event loop in a native thread: a thread for each call.

    It looks up host names and starts embedded servers.
    """

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        # The future's own lock is gevent's, which does not work between native threads.
        future._condition = threading.Condition(_original("_thread", "RLock")())  # noqa: SLF001

        def run() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the future has it
                future.set_exception(error)
            else:
                future.set_result(result)

        _original("_thread", "start_new_thread")(run, ())
        return future

    def shutdown(  # the signature of the library
        self,
        wait: bool = True,  # noqa: FBT001, FBT002
        *,
        cancel_futures: bool = False,
    ) -> None:
        """Do nothing: its threads end by themselves."""


def _original(module: str, name: str) -> Any:
    """An object of the standard library that gevent has replaced."""
    return sys.modules["gevent.monkey"].get_original(module, name)
