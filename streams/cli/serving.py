"""Serving an ASGI application from a command, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from streams.cli.common import remark, run
from streams.pipeline import Pipeline


def serve(served: Any, host: str, port: int, what: str, pipeline: Pipeline | None = None, *, note: str = "") -> None:
    """Serve, and say where: ``port`` 0 is a free one. ``note`` is said after that.

    ``pipeline``, if there is one, is opened before anything is served, as its settings say even if its server is away.
    What keeps it from opening is told in a sentence and an exit code, and not by the server of the application.
    """
    import uvicorn

    from streams.cli.bounded import bounded

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
