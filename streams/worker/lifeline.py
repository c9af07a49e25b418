"""The supervision socket, between a supervisor and each of its processes.

The process reports its progress, one JSON object per line. If the supervisor ends, even
by a kill, the kernel closes its end, and the process shuts down in order.
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
"""Environment variable with the descriptor of the socket and the name of the process."""

READY = "ready"
"""The program is loaded and connects next.

``hold``: the URL of the embedded server that has to outlive this process.
"""
REACHED = "reached"
"""The server has accepted this process."""
HOPELESS = "hopeless"
"""The process ends for a reason that a restart cannot remove."""
UNREACHABLE = "unreachable"
"""The process ends before it began, because the server cannot be reached."""


class Lifeline:
    """A supervised process's end of the socket.

    Attributes:
        name: the supervisor's name of this process: ``1``, ``2`` …
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)

    @classmethod
    def take(cls) -> Self | None:
        """The supervision socket of this process; None if no supervisor started it.

        Children of this process do not inherit it.
        """
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
            return  # The watching thread stops the process.

    def _watch(self) -> None:
        try:
            while self._socket.recv(64):
                continue
        except OSError:
            return

        # A signal also works while a handler blocks the event loop.
        os.kill(os.getpid(), signal.SIGTERM)


_taken: list[Lifeline] = []


def is_supervised() -> bool:
    """Whether a supervisor started this process and passes signals on to it."""
    return bool(_taken)


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Start processes here that block Ctrl-C until they call ``interrupts_allowed``.

    A terminal sends Ctrl-C to a supervisor and to each of its processes. A process that
    still imports would end with a traceback. SIGTERM from the supervisor ends it silently.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def interrupts_allowed() -> Iterator[None]:
    """Let Ctrl-C reach a supervised process, which handles it as an order to stop."""
    if not is_supervised():
        yield
        return

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
