"""The name of a worker process start, as the server and the operator see it."""

from __future__ import annotations

import os
import socket


def consumer_name() -> str:
    """A name for one start of one process: ``host-pid-bootid``.

    It is unique, so a restart inherits no rights.
    """
    host = (
        "".join(
            c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname()
        )[:60].strip("-")
        or "host"
    )
    return f"{host}-{os.getpid()}-{os.urandom(4).hex()}"
