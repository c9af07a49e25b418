"""Names of streams and groups that a shell offers after TAB.

The server is asked for them briefly and quietly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import typer

from streams.errors import StreamsError
from streams.pipeline import Pipeline
from streams.policy.partitions import base_of
from streams.settings import Settings

_PATIENCE = 1.0
"""Seconds after which a shell is offered nothing: a hand at the keyboard has gone on by then."""


def streams(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of streams."""

    async def names(pipeline: Pipeline) -> list[str]:
        found = await pipeline.status().streams()
        bases = {base_of(name) for name in found}

        return sorted(bases)

    return _offered(ctx, names, incomplete)


def groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of groups of the stream that was named before."""
    stream = str(ctx.params.get("stream") or "")

    async def names(pipeline: Pipeline) -> list[str]:
        row = await pipeline.status().stream(stream)
        return [found.group for found in row.groups]

    if not stream:
        return []

    return _offered(ctx, names, incomplete)


def _offered(
    ctx: typer.Context, ask: Callable[[Pipeline], Awaitable[list[str]]], incomplete: str
) -> list[str]:
    async def asked(pipeline: Pipeline) -> list[str]:
        async with asyncio.timeout(_PATIENCE), pipeline:
            return await ask(pipeline)

    with contextlib.suppress(StreamsError, TimeoutError, OSError):
        settings = Settings.from_env()
        url = ctx.params.get("url") or settings.url or ""

        if url.partition("://")[0] in ("", "memory", "embedded"):
            return []  # A key must not start a server.

        pipeline = Pipeline(url, settings=settings)

        names = asyncio.run(asked(pipeline))

        return [name for name in names if name.startswith(incomplete)]

    return []
