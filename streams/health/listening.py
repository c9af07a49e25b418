"""A small HTTP server for probes: three paths, and one request per connection.

It runs in a thread with its own event loop, so that it answers while the worker's loop is
blocked. The number of connections, the size of requests and their time are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import parse_qs

import orjson

from streams.address import Address
from streams.common.log_facts import logger_of
from streams.errors import AddressTaken
from streams.health.judging import Report

logger = logger_of("health")

LIVE, READY, METRICS = "/livez", "/readyz", "/metrics"
_MOST_CONNECTIONS = 64
_MOST_BYTES = 4096
_PATIENCE = 5.0
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class View(Protocol):
    """The served health. The server calls all methods in its own event loop."""

    async def live(self) -> Report:
        """Whether the process is worth keeping."""

    async def ready(self) -> Report:
        """Whether the worker can handle events."""

    async def metrics(self) -> bytes:
        """Every metric in the text format of Prometheus; empty without telemetry."""

    async def close(self) -> None:
        """Called once at the end."""


class HealthServer:
    """Serves a view from a thread. Use ``async with``.

    Args:
        address: the address of the server.
        view: the served health.
    """

    def __init__(self, address: Address, view: View) -> None:
        self.address = address
        self._view = view
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._main, name="streams-health", daemon=True
        )
        self._clients: dict[asyncio.Task[object], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: the address is in use, or not of this machine.
        """
        self._socket = _bind(self.address)
        if not self.address.path:
            self.address = Address(self.address.host, self._socket.getsockname()[1])

        self._thread.start()
        logger.info("health is served", extra={"address": str(self.address)})
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._ready.wait, 5.0)
        loop, over = self._loop, self._over
        if loop is not None and over is not None and not loop.is_closed():
            loop.call_soon_threadsafe(over.set)

        await asyncio.to_thread(self._thread.join, 5.0)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            if self.address.path:
                Path(self.address.path).unlink(missing_ok=True)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._ready.set()
        server = await asyncio.start_server(
            self._client, sock=self._socket, limit=_MOST_BYTES
        )

        try:
            await self._over.wait()
        finally:
            server.close()
            for writer in self._clients.values():
                writer.transport.abort()

            if self._clients:
                await asyncio.wait(list(self._clients), timeout=_PATIENCE)

            await self._view.close()

    async def _client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with self._counted(writer) as welcome:
            if not welcome:
                return

            with contextlib.suppress(
                OSError, TimeoutError, asyncio.IncompleteReadError
            ):
                async with asyncio.timeout(_PATIENCE):
                    try:
                        head = await reader.readuntil(b"\r\n\r\n")
                    except asyncio.LimitOverrunError:
                        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                        writer.write(_response(status, b"too large\n"))
                    else:
                        writer.write(await self._answer(head))

                    await writer.drain()

    @contextlib.asynccontextmanager
    async def _counted(self, writer: asyncio.StreamWriter) -> AsyncIterator[bool]:
        """Count this connection while open; False if there are too many."""
        task = asyncio.current_task()
        if task is None or len(self._clients) >= _MOST_CONNECTIONS:
            writer.transport.abort()
            yield False
            return

        self._clients[task] = writer
        try:
            yield True
        finally:
            del self._clients[task]
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        request = head.partition(b"\r\n")[0].split(b" ")
        if len(request) != 3 or not request[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, b"not HTTP\n")

        method, target = request[0], request[1].decode("latin-1")
        path, _, query = target.partition("?")
        ask = {LIVE: self._view.live, READY: self._view.ready}.get(path)
        if ask is None and path != METRICS:
            paths = f"there are {LIVE}, {READY} and {METRICS}\n"
            return _response(HTTPStatus.NOT_FOUND, paths.encode())

        if method not in (b"GET", b"HEAD"):
            status = HTTPStatus.METHOD_NOT_ALLOWED
            return _response(status, b"GET or HEAD\n", "Allow: GET, HEAD")

        status, kind = HTTPStatus.OK, _EXPOSITION
        if ask is None:
            body = await self._view.metrics()
            if not body:
                hint = b"nothing is measured: STREAMS_TELEMETRY=prometheus\n"
                return _response(HTTPStatus.NOT_FOUND, hint)
        else:
            report = await ask()
            if not report.ok:
                status = HTTPStatus.SERVICE_UNAVAILABLE

            body, kind = _shown(report, query)

        header = f"Content-Type: {kind}"
        return _response(status, body, header, with_body=method == b"GET")


def _shown(report: Report, query: str) -> tuple[bytes, str]:
    """A report as JSON for ``?verbose``, else as text, with its media type."""
    if "verbose" in parse_qs(query, keep_blank_values=True, max_num_fields=16):
        return orjson.dumps(report.as_plain()) + b"\n", "application/json"

    text = ""
    for check in report.checks:
        text += f"{'ok' if check.ok else 'failed'} {check.name}\n"

    return text.encode(), "text/plain; charset=utf-8"


def _response(
    status: HTTPStatus, body: bytes, *headers: str, with_body: bool = True
) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *headers,
    )
    return "\r\n".join((*lines, "", "")).encode() + (body if with_body else b"")


def _bind(address: Address) -> socket.socket:
    """A listening socket.

    Raises:
        AddressTaken: the address cannot be bound; the message has the reason.
    """
    last: OSError | None = None
    for attempt in _attempts(address):
        try:
            if address.path:
                return _bind_unix(address.path)

            family, host = attempt
            return socket.create_server(
                (host, address.port),
                family=family,
                dualstack_ipv6=family == socket.AF_INET6 and not address.host,
            )
        except OSError as error:
            last = error

    why = last.strerror if last else "no such address"
    raise AddressTaken(
        f"health cannot be served on {address}: {why}; "
        "give another address (--health or STREAMS_HEALTH), "
        "or an empty one to serve none"
    )


def _attempts(address: Address) -> Iterator[tuple[socket.AddressFamily, str]]:
    """The address families to try. Every interface means both families, if possible."""
    if address.host:
        yield (socket.AF_INET6 if ":" in address.host else socket.AF_INET), address.host
        return

    if not address.path and socket.has_dualstack_ipv6():
        yield socket.AF_INET6, ""

    yield socket.AF_INET, ""


def _bind_unix(path: str) -> socket.socket:
    """A unix socket at a path. It replaces the socket of a killed worker, but no live one."""
    with (
        contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        socket.socket(socket.AF_UNIX) as other,
    ):
        other.settimeout(1.0)
        other.connect(path)
        raise OSError(0, "another process serves there")

    if Path(path).is_socket():
        Path(path).unlink()

    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 - the socket, not the target of a link
        listening.listen(_MOST_CONNECTIONS)
    except OSError:
        listening.close()
        raise

    return listening
