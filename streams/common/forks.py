"""What a process that a handler forks must not inherit: how its worker is asked to stop.

A fork of a worker (``multiprocessing``, ``os.fork``) has the worker's signal handlers. They would ask the worker's
event loop to stop, which does not run in the child, and not end the child; and a wakeup descriptor is shared with the
parent, which would be woken by the child's signals. So the child gets the defaults back before anything else.

A signal that comes before that would be lost: the interpreter forgets in the child what was noted and not handled yet.
Therefore the signals are blocked in the thread that forks. One that is sent to the child meanwhile stays with the
kernel, and ends the child once the defaults stand.

A child that a handler forks by hand (``os.fork``) must not go on as a second copy of the worker either: it shares the
parent's connections and the selector of its event loop, and would take answers of the server that are the parent's, and
write an outcome for the parent's event. So a child that leaves its handler, or goes back to the event loop, ends there.
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
"""Signals that are handled at the moment, and what handles them. Empty: no worker runs."""
_masks = threading.local()
"""What a thread that is just forking had blocked before, and the worker's event loop that runs in it."""
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Event loops in which handlers run."""


class Origin:
    """The process in which something was made. A forked child has it too, and is no such process."""

    __slots__ = ("_forks",)
    forks = 0
    """How many forks lie between the first process and this one."""

    def __init__(self) -> None:
        self._forks = Origin.forks

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return self._forks == Origin.forks


def keep_loop(loop: asyncio.AbstractEventLoop) -> None:
    """A child that is forked while this event loop runs a callback must not run what else the loop has to do."""
    _loops.add(loop)


def end_copy(error: BaseException | None = None) -> NoReturn:
    """End a child that has left the handler which forked it, as a program of its own would end with ``error``.

    What the error says is not written: it may hold what was published.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = (
            error.code if isinstance(error.code, int) else int(error.code is not None)
        )
    elif error is not None:
        code = 1
        traceback.print_tb(error.__traceback__)
        sys.stderr.write(
            f"a process that a handler forked ends with {type(error).__name__}\n"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


def _end_in_loop() -> None:
    sys.stderr.write(
        "a process that a handler forked went back to the event loop, which is its parent's, and is ended: "
        "end it with os._exit(), or start it by multiprocessing or subprocess\n"
    )
    end_copy(SystemExit(1))


@contextlib.contextmanager
def children_without(numbers: Iterable[int]) -> Iterator[None]:
    """While inside, a forked child gets the defaults of these signals back, unless others have handled them since."""
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
    """In the child, before anything else: the defaults, as a process has them that nobody told to stop in order."""
    Origin.forks += 1
    loop = _masks.__dict__.get("loop")
    if (
        loop is not None
        and loop in _loops
        and (ready := getattr(loop, "_ready", None)) is not None
    ):
        # Before whatever is next in the callback's turn.
        ready.appendleft(asyncio.Handle(_end_in_loop, (), loop))
    if _ours:
        signal.set_wakeup_fd(-1)
    for number, handler in _ours.items():
        if signal.getsignal(number) is handler:
            signal.signal(
                number,
                signal.default_int_handler
                if number == signal.SIGINT
                else signal.SIG_DFL,
            )
    _ours.clear()
    _unblock()


at_fork(before=_forks, after_in_parent=_unblock, after_in_child=_forked)
