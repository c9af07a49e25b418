"""The lifeline: a socket between a supervisor and each process that it started.

Along it a process tells how far it came, one JSON object per line. Its end tells a process that the supervisor is gone,
however it went: the kernel closes what a killed process held open. The process then stops in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Self

import orjson

VARIABLE = "STREAMS_LIFELINE"
"""Environment variable with the descriptor of the lifeline and the name of the process."""

READY = "ready"
"""Loaded, and about to connect. ``hold``: URL of the embedded server that has to outlive this process."""
REACHED = "reached"
"""The server let this process in."""
HOPELESS = "hopeless"
"""About to end, for a reason that starting again does not mend."""
UNREACHABLE = "unreachable"
"""About to end before it began, because the server cannot be reached."""


class Lifeline:
    """The end that a supervised process holds.

    Attributes:
        name: what the supervisor calls this process: ``1``, ``2`` …
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)

    @classmethod
    def take(cls) -> Self | None:
        """That of this process; None if no supervisor started it. What this process starts does not find it again."""
        descriptor, _, name = os.environ.pop(VARIABLE, "").partition(":")
        if not descriptor.isdecimal():
            return None
        lifeline = cls(int(descriptor), name)
        _taken.append(lifeline)
        threading.Thread(
            target=lifeline._watch, name="streams-lifeline", daemon=True
        ).start()
        return lifeline

    def tell(self, word: str, **facts: str | None) -> None:
        """Send a message; nothing happens if the supervisor is gone."""
        try:
            self._socket.sendall(orjson.dumps({"word": word, **facts}) + b"\n")
        except OSError:
            return  # The watching thread has noticed as well.

    def _watch(self) -> None:
        try:
            while self._socket.recv(64):
                continue
        except OSError:
            return
        # The way of a signal, not a call into the event loop: it works while a handler blocks the loop, too.
        os.kill(os.getpid(), signal.SIGTERM)


_taken: list[Lifeline] = []


def is_supervised() -> bool:
    """Whether a supervisor started this process and passes signals on to it."""
    return bool(_taken)


@contextlib.contextmanager
def starting_deaf() -> Iterator[None]:
    """What is started while inside keeps Ctrl-C waiting until it calls ``hearing``.

    A terminal sends Ctrl-C to a supervisor and to each process of it. In one that still imports it would end in a
    traceback; the supervisor passes the order on as SIGTERM, which ends such a process without a word.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def hearing() -> Iterator[None]:
    """Let Ctrl-C reach a supervised process while inside, where it is an order to stop. Before and after, it waits."""
    if not is_supervised():
        yield
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
