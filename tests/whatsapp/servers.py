"""HTTP servers on loopback, for tests: real ones, each on a free port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        async with serving_on(listening, app):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def serving_on(listening: socket.socket, app: Any) -> AsyncIterator[None]:
    """Serve an ASGI application on a socket that is bound."""
    config = uvicorn.Config(
        app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1, ws="none"
    )
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if running.done():
                running.result()
        yield
    finally:
        server.should_exit = True
        await running


class _no_signals:  # noqa: N801 - stands for a method
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
