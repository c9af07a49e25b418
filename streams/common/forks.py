"""Keep a process that a handler forks from acting as a second worker.

A fork of a worker (``multiprocessing``, ``os.fork``) inherits the worker's signal
handlers. They would ask the worker's event loop to stop, which does not run in the child,
and the child would not end. It also shares the wakeup descriptor, so that its signals
would wake the parent. Therefore the child first restores the default signal handlers.

A signal that arrives earlier would be lost, because the interpreter in the child forgets
signals that are noted but not handled. Therefore the forking thread blocks the signals.
The kernel keeps a blocked signal, which ends the child once the defaults are restored.

A child from ``os.fork`` shares the parent's connections and event loop. It would read
answers meant for the parent, and store an outcome for the parent's event. Therefore a
child ends when it leaves its handler or returns to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Iterable, Iterator
from typing import NoReturn

from streams.common.forking import at_fork

_ours: dict[int, object] = {}
"""The handled signals with their handlers. Empty: no worker runs."""
_masks = threading.local()
"""The earlier signal mask of a forking thread, and the event loop that runs in it."""
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Event loops in which handlers run."""


class Origin:
    """The process that created an object. A forked child is another process."""

    __slots__ = ("_forks",)
    forks = 0
    """The number of forks between the first process and this one."""

    def __init__(self) -> None:
        self._forks = Origin.forks

    @property
    def is_here(self) -> bool:
        """Whether this process created the object."""
        return self._forks == Origin.forks


def keep_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Keep a child that is forked in a callback of this loop from running the loop."""
    _loops.add(loop)


def end_copy(error: BaseException | None = None) -> NoReturn:
    """End a child that has left its handler, with the exit code that ``error`` implies.

    The message of the error is not printed, because it may quote an event's body.
    """
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        given = error.code
        code = given if isinstance(given, int) else int(given is not None)
    elif error is not None:
        traceback.print_tb(error.__traceback__)
        kind = type(error).__name__
        sys.stderr.write(f"a process that a handler forked ends with {kind}\n")

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()

    os._exit(code & 0xFF)


def _end_in_loop() -> None:
    sys.stderr.write(
        "a process that a handler forked went back to the event loop, "
        "which is its parent's, and is ended: "
        "end it with os._exit(), or start it by multiprocessing or subprocess\n"
    )
    end_copy(SystemExit(1))


@contextlib.contextmanager
def children_without(numbers: Iterable[int]) -> Iterator[None]:
    """While open, let a forked child restore the default handlers of these signals.

    A handler that was replaced since then stays.
    """
    _ours.update({number: signal.getsignal(number) for number in numbers})
    try:
        yield
    finally:
        _ours.clear()


def _forks() -> None:
    with contextlib.suppress(RuntimeError):
        _masks.loop = asyncio.get_running_loop()

    if _ours:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours)


def _unblock() -> None:
    _masks.__dict__.pop("loop", None)
    before = _masks.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forked() -> None:
    """Prepare the child before any of its own code runs."""
    Origin.forks += 1
    loop = _masks.__dict__.get("loop")
    if loop is not None and loop in _loops and hasattr(loop, "_ready"):
        # First in the queue, so that the loop runs no other callback.
        end = asyncio.Handle(_end_in_loop, (), loop)
        loop._ready.appendleft(end)  # noqa: SLF001 - there is no public way

    if _ours:
        signal.set_wakeup_fd(-1)

    for number, handler in _ours.items():
        if signal.getsignal(number) is handler:
            is_int = number == signal.SIGINT
            default = signal.default_int_handler if is_int else signal.SIG_DFL
            signal.signal(number, default)

    _ours.clear()
    _unblock()


at_fork(before=_forks, after_in_parent=_unblock, after_in_child=_forked)
