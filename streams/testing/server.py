"""The real server of a test session, in memory, for all tests of this process."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from streams.broker.server.embedding import embedded_server

if TYPE_CHECKING:
    from streams.broker.server.embedded import EmbeddedServer

_lock = threading.Lock()
_servers: dict[int, EmbeddedServer] = {}
_token = os.urandom(4).hex()


def server_url() -> str:
    """The URL of this process's test server.

    The first call starts the server, which runs until the process ends.

    Raises:
        NoServer: there is no server binary, or it did not start; the message says what to
            install.
    """
    pid = os.getpid()
    url = f"memory://testing-{pid}-{_token}"
    with _lock:
        if pid not in _servers:
            server = embedded_server(url)
            server.acquire()  # Keeps the server running between two tests.
            _servers[pid] = server

    return url


def close_server() -> None:
    """End the test server now. The next ``server_url`` starts another."""
    with _lock:
        server = _servers.pop(os.getpid(), None)

    if server is not None:
        server.close(wait=True)
