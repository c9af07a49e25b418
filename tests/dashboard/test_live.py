"""Live parts: sent as they change, rendered once for everybody, and there for those who can only ask."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from streams.dashboard import Proxy
from streams.dashboard.live import Live
from streams.errors import BrokerUnavailable
from tests.conftest import eventually
from tests.dashboard.board import board, token_in, trouble
from tests.servers import clean_environment

VENDOR = Path(__file__).parents[2] / "streams" / "dashboard" / "static" / "vendor"
EVENTS = {"Accept": "text/event-stream"}


async def events(reply: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    name, data = "", []
    async for line in reply.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and name:
            yield name, "\n".join(data)
            name, data = "", []


async def test_the_overview_is_sent_as_it_changes(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        client = await place.log_in("viewer")
        async with client.stream(
            "GET", "/live/overview", headers=EVENTS, timeout=30
        ) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            assert reply.headers["cache-control"] == "no-store"
            sent = events(reply)
            name, text = await anext(sent)
            assert name == "view"
            assert "<html" not in text
            assert 'href="/streams/orders"' in text
            await place.pipeline.publish("invoices", 1, type="t")
            async for _, text in sent:
                if "/streams/invoices" in text:
                    break
        await eventually(
            lambda: place.dashboard._pages.live.parts == 0,
            what="nobody to look any more",
        )


@pytest.mark.parametrize("path", ["overview", "workers", "whatsapp", "streams/orders?group=billing",
                                  "streams/orders/chart?group=billing&reach=quarter"])  # fmt: skip
async def test_a_part_can_be_asked_for(server, namespace, path):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        assert (await place.client().get(f"/live/{path}")).status_code == 303
        client = await place.log_in("viewer", **{"Accept-Language": "pt"})
        reply = await client.get(f"/live/{path}")
        assert reply.status_code == 200
        assert "<html" not in reply.text
        assert reply.text.strip()
        assert (await client.get("/live/streams/nowhere")).status_code == 404


async def test_many_viewers_are_fed_by_one(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        clients = [await place.log_in("viewer") for _ in range(3)]

        async def watch(client: httpx.AsyncClient) -> None:
            async with client.stream(
                "GET", "/live/overview", headers=EVENTS, timeout=60
            ) as reply:
                seen = 0
                async for _ in events(reply):
                    seen += 1
                    if seen == 1:
                        arrived.append(client)
                    if seen == 2:
                        return

        arrived: list[httpx.AsyncClient] = []
        watching = [asyncio.create_task(watch(clients[n % 3])) for n in range(50)]
        await eventually(
            lambda: len(arrived) == 50, seconds=30, what="everybody to see something"
        )
        assert place.dashboard._pages.live.parts == 1
        looks = place.dashboard._pages.queries.looks
        await place.pipeline.publish("invoices", 1, type="t")
        await asyncio.gather(*watching)
        assert place.dashboard._pages.queries.looks - looks <= 3


async def test_what_cannot_be_read_is_stale_and_comes_back():
    live, working = Live(), True

    async def render() -> str:
        if not working:
            raise BrokerUnavailable("away")
        return f"part {working}"

    stream = live._events("key", render)
    try:
        assert await anext(stream) == b"retry: 3000\n\n"
        assert await anext(stream) == b"event: view\ndata: part True\n\n"
        working = False
        assert await asyncio.wait_for(anext(stream), 10) == b"event: stale\ndata: \n\n"
        working = True
        assert (
            await asyncio.wait_for(anext(stream), 10)
            == b"event: view\ndata: part True\n\n"
        )
    finally:
        await stream.aclose()
    assert live.parts == 0


def test_what_others_made_is_what_they_made():
    """The libraries are those whose hashes are written down, with their licences."""
    rows = dict(
        reversed(line.split())
        for line in Path(__file__).with_name("vendor.sha256").read_text().splitlines()
    )
    kept = {path.name for path in VENDOR.iterdir()}
    assert kept == set(rows) | {"LICENSE-htmx", "LICENSE-htmx-ext-sse", "LICENSE-uPlot"}
    for name, wanted in rows.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == wanted, name


async def test_a_proxy_says_who_is_there(server, namespace):
    await trouble(server, namespace)
    proxy = Proxy((ipaddress.ip_network("127.0.0.1/32"),))
    async with board(server, namespace, accounts={}, proxy=proxy) as place:
        operator = place.client(
            **{"X-Forwarded-User": "ana", "X-Forwarded-Groups": "staff, operator"}
        )
        page = (await operator.get("/streams/orders")).text
        assert "ana" in page
        form = {"token": token_in(page), "group": "billing", "sure": "yes"}
        assert (
            await operator.post("/streams/orders/pause", data=form)
        ).status_code == 200
        (row, *_) = await place.dashboard._pages.queries.audit("orders", "", 1)
        assert row[1]["by"] == "dashboard: ana"
        # The token of one is none of another's.
        other = place.client(
            **{"X-Forwarded-User": "bia", "X-Forwarded-Groups": "operator"}
        )
        assert (await other.post("/streams/orders/pause", data=form)).status_code == 403
        viewer = place.client(
            **{"X-Forwarded-User": "caio", "X-Forwarded-Groups": "viewer"}
        )
        assert (
            await viewer.post("/streams/orders/pause", data=form)
        ).status_code == 403
        for headers in (
            {}, {"X-Forwarded-User": "ana"}, {"X-Forwarded-Groups": "admin"},
            {"X-Forwarded-User": "ana", "X-Forwarded-Groups": "nobody"},
        ):  # fmt: skip
            assert (await place.client(**headers).get("/")).status_code == 401
        twice = [
            ("X-Forwarded-User", "ana"),
            ("X-Forwarded-User", "bia"),
            ("X-Forwarded-Groups", "admin"),
        ]
        assert (await place.client().get("/", headers=twice)).status_code == 400


async def test_nobody_but_the_proxy_says_who_is_there(server, namespace):
    environment = clean_environment() | {
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
    }
    command = (sys.executable, "-m", "streams", "dashboard", "--port", "0")
    said = {
        "X-Forwarded-User": "ana",
        "X-Forwarded-Groups": "admin",
        "X-Forwarded-For": "10.1.1.1",
    }
    for network, code in (("10.0.0.0/8", 401), ("127.0.0.1", 200)):
        process = await asyncio.create_subprocess_exec(
            *command, "--proxy", network, stderr=subprocess.PIPE, env=environment
        )
        try:
            assert process.stderr is not None
            line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            async with httpx.AsyncClient() as client:
                reply = await client.get(
                    line.split(" at ")[1].split(";")[0] + "/", headers=said
                )
            assert reply.status_code == code
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)
    refused = await asyncio.create_subprocess_exec(
        *command, "--proxy", "everywhere", stderr=subprocess.PIPE, env=environment
    )
    _, errors = await refused.communicate()
    assert refused.returncode == 2
    assert b"a network such as 10.0.0.0/8" in errors
