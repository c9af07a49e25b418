"""What a process that a handler forks must not inherit: how its worker is asked to stop.

A fork of a worker (``multiprocessing``, ``os.fork``) has the worker's signal handlers. They would ask the worker's
event loop to stop, which does not run in the child, and not end the child; and a wakeup descriptor is shared with the
parent, which would be woken by the child's signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator

_ours: dict[int, object] = {}
"""Signals that are handled at the moment, and what handles them. Empty: no worker runs."""


@contextlib.contextmanager
def children_without(numbers: Iterable[int]) -> Iterator[None]:
    """While inside, a forked child gets the defaults of these signals back, unless others have handled them since."""
    _ours.update({number: signal.getsignal(number) for number in numbers})
    try:
        yield
    finally:
        _ours.clear()


def end_by(number: int) -> None:
    """Let a signal do to this process what it does by default."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _forked() -> None:
    """In the child, before anything else: the defaults, as a process has them that nobody told to stop in order."""
    if not _ours:
        return
    with contextlib.suppress(ValueError):  # Forked from another thread than the main one, where this may not be done.
        signal.set_wakeup_fd(-1)
    for number, handler in _ours.items():
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _ours.clear()


os.register_at_fork(after_in_child=_forked)
