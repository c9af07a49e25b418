"""Requests of any kind from any place, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


def scope_of(
    path: str = "/", *, peer: Any = ("127.0.0.1", 5), hosts: Iterable[str] = ("localhost",), method: str = "GET",
    version: str = "1.1", **headers: str,
) -> dict[str, Any]:  # fmt: skip
    given = [(b"host", host.encode("utf-8")) for host in hosts]
    given += [
        (name.lower().encode(), value.encode()) for name, value in headers.items()
    ]
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": version, "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": given,
        "client": peer, "server": ("0.0.0.0", 8897),
    }  # fmt: skip


async def ask(app: Any, scope: dict[str, Any], body: bytes = b"") -> Answer:
    """What an application answers to a request."""
    sent: list[dict[str, Any]] = []
    is_read = False

    async def receive() -> dict[str, Any]:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()  # Nobody leaves.
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {
        name.decode().lower(): value.decode() for name, value in sent[0]["headers"]
    }
    return Answer(
        sent[0]["status"],
        b"".join(message.get("body", b"") for message in sent[1:]),
        headers,
    )
