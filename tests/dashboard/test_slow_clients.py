"""Clients that are slow, or never end: each is let go after a while, and so many of them hold nobody else up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from streams import Pipeline, Settings
from streams.cli.bounded import Bounded, ClientBounds, bounded
from streams.dashboard import Accounts, Dashboard, DashboardOptions
from streams.dashboard.guard import Gatekeeper
from tests.conftest import eventually
from tests.dashboard.asking import ask, scope_of
from tests.dashboard.board import ACCOUNTS, board, trouble
from tests.whatsapp.servers import _no_signals

SHORT = ClientBounds(headers=0.2, body=0.2, rate=1e6, unread=0.3)
LONG = ClientBounds(headers=600.0, body=600.0, unread=600.0)


class Place:
    """A server on loopback, and raw connections to it."""

    def __init__(
        self, port: int, protocol: type[Bounded], server: uvicorn.Server
    ) -> None:
        self.port = port
        self.protocol = protocol
        self.server = server
        self.writers: list[asyncio.StreamWriter] = []

    async def dial(self, text: str = "", limit: int = 2**16) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=limit
        )
        self.writers.append(writer)
        writer.write(text.encode())
        await writer.drain()
        return reader

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


@asynccontextmanager
async def place(app: Any, bounds: ClientBounds) -> AsyncIterator[Place]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        protocol = bounded(bounds)
        config = uvicorn.Config(
            app,
            log_level="warning",
            http=protocol,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        server.capture_signals = _no_signals  # type: ignore[method-assign]
        running = asyncio.create_task(server.serve(sockets=[listening]))
        await eventually(lambda: server.started, what="the server")
        made = Place(listening.getsockname()[1], protocol, server)
        try:
            yield made
        finally:
            for writer in made.writers:
                writer.close()
            server.should_exit = True
            await running


def dashboard(server, namespace) -> Any:
    settings = Settings(url=server.url, namespace=namespace)
    return Dashboard(
        Pipeline(settings=settings), DashboardOptions(Accounts(ACCOUNTS))
    ).app


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it ends."""
    text = b""
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.wait_for(reader.read(65536), 30):
            text += part
    return text


ROUTES = ["/login", "/logout", "/", "/streams/orders/pause", "/api/v1/streams/orders/events", "/live/overview",
          "/static/style.css", "/health", "/metrics", "/nowhere"]  # fmt: skip


@pytest.mark.parametrize("half", [
    "", "POST", "POST {path} HTTP/1.1\r\n", "POST {path} HTTP/1.1\r\nHost: x\r\nMore: ",
    "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{{",
    "POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
])  # fmt: skip
async def test_half_a_request_is_let_go_on_every_route(server, namespace, half):
    async with place(dashboard(server, namespace), SHORT) as there:
        readers = [await there.dial(half.format(path=path)) for path in ROUTES]
        answers = [await ended(reader) for reader in readers]
        assert all(b" 200 " not in answer for answer in answers), answers
        await eventually(
            lambda: there.connections == 0, what="no connection to be left"
        )
        assert not there.protocol.arriving


async def test_the_oldest_of_too_many_half_requests_goes(server, namespace):
    async with place(
        dashboard(server, namespace), LONG._replace(incomplete=5)
    ) as there:
        readers = [
            await there.dial("POST /login HTTP/1.1\r\nHost: x\r\n") for _ in range(12)
        ]
        for reader in readers[:7]:
            assert await ended(reader) == b""
        assert there.connections == len(there.protocol.arriving) == 5
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{there.port}"
        ) as client:
            # Whoever sends a whole request is not kept out.
            assert (await client.get("/health")).text == "ok"


async def test_there_are_no_more_connections_than_it_says(server, namespace):
    async with place(
        dashboard(server, namespace), LONG._replace(connections=5, incomplete=100)
    ) as there:
        await asyncio.gather(*(there.dial() for _ in range(5)))
        await eventually(lambda: there.connections == 5, what="five connections")
        assert (
            await ended(await there.dial("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
            == b""
        )
        assert there.connections == 5


async def test_a_client_that_is_not_slow_is_served_again_and_again(server, namespace):
    async with (
        place(dashboard(server, namespace), LONG) as there,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{there.port}") as client,
    ):
        for _ in range(5):
            assert (await client.get("/health")).status_code == 200
            wrong = {"name": "admin", "password": "x" * 200_000}
            assert (await client.post("/login", data=wrong)).status_code in (401, 429)
        assert there.connections == 1
        assert not there.protocol.arriving


async def test_an_answer_that_nobody_reads_is_let_go():
    async def endless(_: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536
                # Once nobody is there, sending waits for nothing.
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    async def large(_: Request) -> Response:
        return PlainTextResponse("x" * 20_000_000)

    app = Starlette(routes=[Route("/endless", endless), Route("/large", large)])
    async with place(app, SHORT) as there:
        for path in ("/endless", "/large"):
            # It reads nothing: what the system keeps for it, and the limit of the reader, are soon full.
            await there.dial(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n", limit=1024)
        await eventually(
            lambda: there.server.server_state.total_requests or there.connections == 2,
            what="both",
        )
        await eventually(lambda: there.connections == 0, what="both to be let go")


# --- in an application of somebody else's, where the connections are not ours


async def test_a_body_that_does_not_come_is_answered_wherever_it_is_served(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.dashboard.patience.BODY", 0.2)
    app = dashboard(server, namespace)
    async with place(app, LONG) as there:
        for path in ("/login", "/api/v1/streams/orders/events"):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            reader = await there.dial(
                f"{head}Content-Length: 900\r\nConnection: close\r\n\r\nname="
            )
            status = (await asyncio.wait_for(reader.readline(), 30)).split()[1]
            assert status in (b"408", b"401"), path


async def test_who_does_not_read_is_let_go_wherever_it_is_served(monkeypatch, caplog):
    monkeypatch.setattr("streams.dashboard.patience.UNREAD", 0.2)
    ended = asyncio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send(
                    {
                        "type": "http.response.body",
                        "body": b"x" * 65_536,
                        "more_body": True,
                    }
                )
        finally:
            ended.set()

    async def nobody(*_: Any) -> Response:
        raise AssertionError

    guard = Gatekeeper(endless, DashboardOptions(), None, nobody)  # type: ignore[arg-type]
    guard._refusal = _nothing  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "streams.dashboard"):
        async with place(guard, LONG) as there:
            await there.dial("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", limit=1024)
            await asyncio.wait_for(ended.wait(), 30)
    assert "a client does not read its answer" in caplog.text


async def _nothing(*_: Any) -> None:
    return None


# --- viewers and load


async def test_odd_parts_make_no_load(server, namespace):
    """What names no stream or group is refused by what is known, and what names one is rendered once for all."""
    await trouble(server, namespace)
    made = Dashboard(Pipeline(settings=Settings(url=server.url, namespace=namespace)))
    odd = [f"/live/streams/orders?group=odd-{n}" for n in range(150)]
    odd += [f"/live/streams/odd-{n}?group=billing" for n in range(150)]
    odd += [f"/live/streams/orders/chart?group=odd-{n}&reach=hour" for n in range(100)]
    even = [f"/live/streams/orders?group=billing&partition={n}" for n in range(1, 51)]
    even += [f"/live/streams/orders/chart?group=billing&reach=x{n}" for n in range(50)]
    even += ["/live/overview", "/live/workers"] * 20
    async with (
        made.lifespan(Starlette()),
        Pipeline(settings=Settings(url=server.url, namespace=namespace)) as watching,
    ):

        async def commands() -> int:
            text = (await watching.broker.control.call("INFO", "stats")).decode()
            return int(text.split("total_commands_processed:")[1].split()[0])

        async def answers(paths: list[str], *kinds: str) -> set[int]:
            codes = set()
            for n, path in enumerate(paths):
                language, kind = (
                    f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}",
                    kinds[n % len(kinds)],
                )
                scope = scope_of(
                    path.partition("?")[0], Accept=kind, **{"Accept-Language": language}
                )
                codes.add(
                    (
                        await ask(
                            made.app,
                            scope | {"query_string": path.partition("?")[2].encode()},
                        )
                    ).status
                )
            return codes

        await answers(["/live/overview"], "text/html")
        for paths, kinds, code in (
            (odd, ("text/event-stream", "text/html"), 404),
            (even, ("text/html",), 200),
        ):
            looks, before = made._pages.queries.looks, await commands()
            assert await answers(paths, *kinds) == {code}
            spent, looked = await commands() - before, made._pages.queries.looks - looks
            # A look at this server, or what a part asks for in two languages, costs less than 100.
            assert spent <= 20 + 200 * looked + (400 if code == 200 else 0), (
                paths[0],
                spent,
                looked,
            )
        assert made._pages.live.parts == 0


async def test_one_name_has_no_more_than_its_share_of_live_parts(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.dashboard.live._MOST_EACH", 2)
    events, kept = {"Accept": "text/event-stream"}, []
    async with (
        board(server, namespace) as place,
        contextlib.AsyncExitStack() as open_parts,
    ):
        viewer, other = await place.log_in("viewer"), await place.log_in("operator")
        for _ in range(2):
            reply = await open_parts.enter_async_context(
                viewer.stream("GET", "/live/overview", headers=events)
            )
            assert reply.status_code == 200
            # One that is forgotten closes its connection.
            kept.append(reply.aiter_lines())
            await anext(kept[-1])
        assert (await viewer.get("/live/overview", headers=events)).status_code == 503
        # Asking goes on.
        assert (await viewer.get("/live/overview")).status_code == 200
        reply = await open_parts.enter_async_context(
            other.stream("GET", "/live/overview", headers=events)
        )
        assert reply.status_code == 200
