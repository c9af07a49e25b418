"""What a process that a handler forks must not inherit: how its worker is asked to stop.

A fork of a worker (``multiprocessing``, ``os.fork``) has the worker's signal handlers. They would ask the worker's
event loop to stop, which does not run in the child, and not end the child; and a wakeup descriptor is shared with the
parent, which would be woken by the child's signals. So the child gets the defaults back before anything else.

A signal that comes before that would be lost: the interpreter forgets in the child what was noted and not handled yet.
Therefore the signals are blocked in the thread that forks. One that is sent to the child meanwhile stays with the
kernel, and ends the child once the defaults stand.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator

from streams.forking import at_fork

_ours: dict[int, object] = {}
"""Signals that are handled at the moment, and what handles them. Empty: no worker runs."""
_masks = threading.local()
"""What a thread that is just forking had blocked before."""


@contextlib.contextmanager
def children_without(numbers: Iterable[int]) -> Iterator[None]:
    """While inside, a forked child gets the defaults of these signals back, unless others have handled them since."""
    _ours.update({number: signal.getsignal(number) for number in numbers})
    try:
        yield
    finally:
        _ours.clear()


def _forks() -> None:
    if _ours:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours)


def _unblock() -> None:
    before = _masks.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forked() -> None:
    """In the child, before anything else: the defaults, as a process has them that nobody told to stop in order."""
    if _ours:
        signal.set_wakeup_fd(-1)
    for number, handler in _ours.items():
        if signal.getsignal(number) is handler:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _ours.clear()
    _unblock()


at_fork(before=_forks, after_in_parent=_unblock, after_in_child=_forked)
