"""Serving an ASGI application from a command, until Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import Any

from streams.cli.common import remark, run


def serve(served: Any, host: str, port: int, what: str, note: str = "") -> None:
    """Serve, and say where: ``port`` 0 is a free one. ``note`` is said after that."""
    import uvicorn

    config = uvicorn.Config(
        served,
        host=host,
        port=port,
        log_level="warning",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)

    async def main() -> None:
        running = asyncio.create_task(server.serve())
        while not server.started and not running.done():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        if server.started:
            bound = server.servers[0].sockets[0].getsockname()[1]
            remark(f"{what} at http://{host}:{bound}; Ctrl-C ends it")
            if note:
                remark(note)
        await running

    run(main)
