"""Serving an ASGI application from a command, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

from streams.cli.common import remark, run
from streams.errors import AddressTaken
from streams.pipeline import Pipeline


def serve(
    served: Any,
    host: str,
    port: int,
    what: str,
    pipeline: Pipeline | None = None,
    *,
    note: str = "",
) -> None:
    """Serve, and say where: ``port`` 0 is a free one. ``note`` is said after that.

    ``pipeline``, if there is one, is opened before anything is served, as its settings
    say even if its server is away. If it cannot be opened, a sentence and an exit code
    tell why, and not the server of the application.

    Raises:
        AddressTaken: nothing can be served there.
    """
    import uvicorn

    from streams.cli.bounded import bounded

    listening = _listening(host, port, what)

    if pipeline is not None:
        pipeline.patience = pipeline.settings.wait

    config = uvicorn.Config(
        served,
        host=host,
        port=port,
        log_level="warning",
        http=bounded(),
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        async with pipeline or contextlib.nullcontext():
            running = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started and not running.done():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
            if server.started:
                bound = listening.getsockname()[1]
                remark(f"{what} at http://{host}:{bound}; Ctrl-C ends it")
                if note:
                    remark(note)
            await running

    with listening:
        run(main)


def _listening(host: str, port: int, what: str) -> socket.socket:
    """A socket, bound before anything else: what keeps it from that is one sentence."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, place = found[0]
        return socket.create_server(place[:2], family=family)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = (
            os.strerror(number)
            if isinstance(number, int) and number > 0
            else str(error)
        )
        raise AddressTaken(
            f"{what} cannot be served on {host}:{port}: {why}; give another --port, "
            "or end what serves there"
        ) from None
