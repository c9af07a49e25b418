"""Who one is to a dashboard: by peer, ``Host`` header, forwarding headers, what the dashboard knows, and its mount.

A matrix, asked of the application as servers ask it: nothing connects from elsewhere in a test.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from streams import Pipeline, Settings
from streams.dashboard import (
    Accounts,
    Dashboard,
    DashboardOptions,
    Proxy,
    Role,
    Token,
    Tokens,
    new_token,
)
from streams.dashboard.direct import is_direct
from tests.dashboard.asking import ask, scope_of
from tests.dashboard.board import ACCOUNTS, PASSWORD, trouble
from tests.docs.blocks import ROOT, blocks_of
from tests.servers import clean_environment
from tests.whatsapp.servers import serving, serving_on

TOKEN, HASHED = new_token()

KNOWN = {
    "nobody": DashboardOptions(),
    "programs": DashboardOptions(
        tokens=Tokens({HASHED: Token("shop", Role.ADMIN, publishes=True)})
    ),
    "people": DashboardOptions(Accounts(ACCOUNTS)),
    "both": DashboardOptions(
        Accounts(ACCOUNTS), Tokens({HASHED: Token("shop", Role.ADMIN)})
    ),
    "proxy": DashboardOptions(proxy=Proxy((ip_network("10.0.0.0/8"),))),
}

HERE = [
    ("127.0.0.1", 5),
    ("127.8.9.10", 5),
    ("::1", 5),
    ("::ffff:127.0.0.1", 5),
    ["127.0.0.1", 5],
]

ELSEWHERE = [
    ("192.0.2.7", 5), ("10.1.2.3", 5), ("0.0.0.0", 5), ("::", 5), ("::ffff:192.0.2.7", 5), ("fe80::1%lo", 5),
    ("localhost", 5), ("testclient", 5), ("", 0), ("", None), None,
]  # fmt: skip

LOOPBACK = [
    "localhost", "localhost:8897", "LOCALHOST:80", "localhost.", "localhost.:8897", "127.0.0.1", "127.0.0.1:8897",
    "127.9.9.9", "[::1]", "[::1]:8897", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]:80", "[::FFFF:127.0.0.1]",
]  # fmt: skip

FORGED = [
    "", " ", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "localhost..",
    "me@localhost", "localhost@evil.example", "me:x@127.0.0.1:80", "localhost/", "localhost?", "localhost#", "[::1",
    "0.0.0.0", "0.0.0.0:8897", "[::]", "[::]:8897", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1",
    "192.0.2.10:8897",
    "localhost, evil.example", "localhost:80:80", "localhost:x", "localhost:", "[::1%lo]", "localhost\t",
    "l\u043ecalhost",
]  # fmt: skip

FORWARDING = [
    "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-User", "X-Forwarded", "Via",
    "X-Real-Ip", "x_forwarded_for", "X-Client-IP", "X-Cluster-Client-Ip", "True-Client-IP", "CF-Connecting-IP",
    "Cf-Ray",
    "Fastly-Client-IP", "X-Original-Host", "X-Envoy-External-Address", "X-Amzn-Trace-Id", "X-Auth-Request-User",
    "Remote-User", "X-Remote-User", "Tailscale-User-Login", "CDN-Loop", "X-NginX-Proxy",
    "X-Amz-Cf-Id", "CloudFront-Viewer-Address", "X-MS-Client-Principal", "X-Scheme", "Client-IP", "FORWARDED",
]  # fmt: skip

ROOT_PATHS = ["", "/streams"]

EXAMPLE = {
    each.__name__: each
    for each in (Accounts, Dashboard, DashboardOptions, Path, Pipeline)
}


def dashboard_of(server: Any, namespace: str, known: str) -> Dashboard:
    return Dashboard(
        Pipeline(settings=Settings(url=server.url, namespace=namespace)), KNOWN[known]
    )


def mounted(dashboard: Dashboard, root: str) -> Any:
    return Starlette(routes=[Mount(root, dashboard.app)]) if root else dashboard.app


@pytest.mark.parametrize("peer", HERE, ids=str)
@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_asks_directly(peer, host):
    assert is_direct(scope_of(peer=peer, hosts=[host]))


@pytest.mark.parametrize("peer", ELSEWHERE, ids=str)
def test_a_peer_elsewhere_is_a_stranger_whatever_it_says(peer):
    assert not any(is_direct(scope_of(peer=peer, hosts=[host])) for host in LOOPBACK)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["localhost", "localhost"],
        ["localhost", "evil.example"],
        *([f] for f in FORGED),
    ],
)
def test_another_name_of_this_machine_is_a_stranger(hosts):
    assert not any(is_direct(scope_of(peer=peer, hosts=hosts)) for peer in HERE)


@pytest.mark.parametrize("name", FORWARDING)
def test_what_was_passed_on_is_a_stranger(name):
    for value in ("", "127.0.0.1", "for=127.0.0.1", "1.1 localhost"):
        assert not is_direct(scope_of(**{name: value}))


def test_what_nginx_passes_on_as_it_comes_is_a_stranger():
    assert not is_direct(
        scope_of(version="1.0", hosts=["127.0.0.1:8897"], Connection="close")
    )


@pytest.mark.parametrize(
    "headers",
    [
        {
            "Accept": "text/html",
            "Sec-Fetch-Site": "none",
            "Accept-Language": "pt",
            "Connection": "keep-alive",
        },
        {
            "Traceparent": "00-0-0-00",
            "X-Request-Id": "1",
            "X-Requested-With": "htmx",
            "User-Agent": "curl/8",
        },
        {
            "Connection": "close",
            "Idempotency-Key": "1",
            "Content-Type": "application/json",
            "Priority": "u=0",
        },
    ],
)
def test_what_clients_send_themselves_makes_no_stranger(headers):
    assert is_direct(scope_of(**headers))
    assert is_direct(scope_of(version="2"))


async def test_without_accounts_strangers_get_nothing_anywhere(server, namespace):
    await trouble(server, namespace)
    dashboard = dashboard_of(server, namespace, "nobody")
    strange = [
        {"peer": ("192.0.2.7", 5)}, {"peer": ("192.0.2.7", 5), "hosts": ["192.0.2.10:8897"]}, {"peer": None},
        {"hosts": ["evil.example"]}, {"hosts": []}, {"hosts": ["localhost", "localhost"]},
        {"X-Forwarded-For": "127.0.0.1"}, {"Via": "1.1 x"}, {"version": "1.0"},
        {"peer": ("192.0.2.7", 5), "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
    ]  # fmt: skip
    async with dashboard.lifespan(Starlette()):
        for root, how, (path, method) in itertools.product(
            ROOT_PATHS, strange, everywhere(dashboard)
        ):
            found = await ask(
                mounted(dashboard, root), scope_of(root + path, method=method, **how)
            )
            assert found.status == 403, (path, method, how)
            assert b"no accounts" in found.body
            assert b"--users" in found.body
            assert b"orders" not in found.body
            is_api = path.startswith("/api/v1/")
            assert (
                found.headers["content-type"] == "application/problem+json"
            ) is is_api
            assert not is_api or orjson.loads(found.body)["status"] == 403
        for root in ROOT_PATHS:  # And none of it was because of anything else.
            assert (
                await ask(mounted(dashboard, root), scope_of(f"{root}/"))
            ).status == 200
            paused = await ask(mounted(dashboard, root), pause_of(root), b"{}")
            assert paused.status == 200


async def test_the_api_alone_looks_where_a_request_comes_from(server, namespace):
    await trouble(server, namespace)
    dashboard = dashboard_of(server, namespace, "nobody")
    app = Starlette(routes=[Mount("/mine", dashboard.api.app)])
    async with dashboard.lifespan(Starlette()):
        assert (await ask(app, scope_of("/mine/streams"))).status == 200
        for how in (
            {"peer": ("192.0.2.7", 5)},
            {"hosts": ["evil.example"]},
            {"X-Forwarded-For": "::1"},
        ):
            found = await ask(app, scope_of("/mine/streams", **how))
            assert (found.status, b"orders" in found.body) == (403, False)


async def test_tokens_alone_serve_programs_and_no_pages(server, namespace):
    await trouble(server, namespace)
    dashboard = dashboard_of(server, namespace, "programs")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with dashboard.lifespan(Starlette()):
        for root, host, peer in itertools.product(
            ROOT_PATHS, ("localhost", "evil.example"), (HERE[0], ELSEWHERE[0])
        ):
            app, where = mounted(dashboard, root), {"hosts": [host], "peer": peer}
            for path, method in everywhere(dashboard):
                found = await ask(app, scope_of(root + path, method=method, **where))
                wanted = {"/health": 200, "/metrics": 401}.get(path, 404)
                if path.startswith("/api/v1/"):
                    wanted = 401
                assert found.status == wanted, (path, method)
                assert b"billing" not in found.body
                assert wanted != 404 or b"[users.NAME]" in found.body
            for path in ("/", "/static/style.css"):  # A token is none of a person's.
                assert (
                    await ask(app, scope_of(root + path, **where, **bearer))
                ).status == 404
            assert (
                await ask(app, scope_of(f"{root}/api/v1/streams", **where, **bearer))
            ).status == 200
            assert (
                await ask(app, scope_of(f"{root}/api/v1/streams", **where))
            ).status == 401


@pytest.mark.parametrize("known", ["people", "both", "proxy"])
async def test_where_people_are_known_no_place_is_a_right(server, namespace, known):
    dashboard = dashboard_of(server, namespace, known)
    async with dashboard.lifespan(Starlette()):
        for root, host, peer in itertools.product(
            ROOT_PATHS, ("localhost", "evil.example"), (HERE[0], ELSEWHERE[0])
        ):
            app, where = mounted(dashboard, root), {"hosts": [host], "peer": peer}
            assert (await ask(app, scope_of(f"{root}/", **where))).status == (
                401 if known == "proxy" else 303
            )
            assert (
                await ask(app, scope_of(f"{root}/api/v1/streams", **where))
            ).status == 401
            found = await ask(app, pause_of(root, **where), b"{}")
            assert (found.status, found.headers["content-type"]) == (
                401,
                "application/problem+json",
            )


@pytest.mark.parametrize("header", ["x-forwarded-user", "x-forwarded-groups"])
async def test_a_header_of_the_proxy_that_is_there_twice_is_nobodys(
    server, namespace, header
):
    dashboard = dashboard_of(server, namespace, "proxy")
    async with dashboard.lifespan(Starlette()):
        scope = scope_of(
            peer=("10.1.2.3", 5),
            **{"X-Forwarded-User": "ana", "X-Forwarded-Groups": "viewer"},
        )
        assert (await ask(dashboard.app, scope)).status == 200
        for more in ("ana", "admin", "viewer", ""):
            doubled = scope | {
                "headers": [*scope["headers"], (header.encode(), more.encode())]
            }
            assert (await ask(dashboard.app, doubled)).status == 400


async def test_there_is_no_websocket(server, namespace):
    for known in KNOWN:
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        for path in ("/", "/static/live.js", "/api/v1/streams"):
            scope = scope_of(path) | {"type": "websocket"}
            await dashboard_of(server, namespace, known).app(scope, None, send)
        assert sent == [{"type": "websocket.close", "code": 1008}] * 3


async def test_the_example_of_the_docs_is_safe_as_it_stands(
    server, namespace, monkeypatch
):
    await trouble(server, namespace)
    monkeypatch.setenv("STREAMS_URL", server.url)
    monkeypatch.setenv("STREAMS_NAMESPACE", namespace)
    example = next(
        block
        for block in blocks_of(ROOT / "docs" / "dashboard.md")
        if "Mount(" in block.text
    )
    names: dict[str, Any] = {}
    exec(compile(example.text, example.where, "exec"), names)
    app = names["app"]
    async with names["dashboard"].lifespan(app):
        for host in ("192.0.2.10:8000", "localhost", "127.0.0.1:8000", "[::1]"):
            for headers in (
                {},
                {"X-Forwarded-For": "127.0.0.1"},
                {"X-Forwarded-Host": "localhost"},
            ):
                where = {"peer": ("192.0.2.7", 5), "hosts": [host], **headers}
                assert (await ask(app, scope_of("/streams/", **where))).status == 403
                assert (
                    await ask(app, pause_of("/streams", **where), b"{}")
                ).status == 403
        assert (await ask(app, scope_of("/streams/"))).status == 200


@pytest.mark.parametrize(
    "has_people", [False, True], ids=["tokens-alone", "people-and-tokens"]
)
async def test_the_file_in_the_example_of_the_docs_is_heeded_whole(
    server, namespace, monkeypatch, tmp_path, has_people
):
    monkeypatch.setenv("STREAMS_URL", server.url)
    monkeypatch.setenv("STREAMS_NAMESPACE", namespace)
    monkeypatch.chdir(tmp_path)
    people = (
        f"[users.ana]\nrole = 'viewer'\npassword = '{ACCOUNTS['viewer'].password}'\n"
        if has_people
        else ""
    )
    (tmp_path / "users.toml").write_text(
        f"{people}[tokens.shop]\nsha256 = '{HASHED}'\nrole = 'admin'\n"
    )
    page = (ROOT / "docs" / "dashboard.md").read_text("utf-8")
    (example,) = re.findall(
        r"`(Dashboard\(Pipeline\.from_env\(\), DashboardOptions\(.+\))`", page
    )
    dashboard = eval(example, dict(EXAMPLE))
    app = FastAPI(lifespan=dashboard.lifespan)
    app.mount("/streams", dashboard.app)
    async with dashboard.lifespan(Starlette()):
        api = "/streams/api/v1/streams"
        assert (await ask(app, scope_of("/streams/"))).status == (
            303 if has_people else 404
        )
        for peer in (HERE[0], ELSEWHERE[0]):
            assert (await ask(app, scope_of(api, peer=peer))).status == 401
            assert (
                await ask(app, pause_of("/streams", peer=peer), b"{}")
            ).status == 401
            assert (
                await ask(
                    app, scope_of(api, peer=peer, Authorization=f"Bearer {TOKEN}")
                )
            ).status == 200


async def test_a_server_that_believes_forwarded_addresses_changes_nothing(
    server, namespace
):
    """uvicorn takes the peer from X-Forwarded-For if it comes from 127.0.0.1, unless it is told not to."""
    dashboard = dashboard_of(server, namespace, "nobody")
    async with serving(dashboard.app) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/")).status_code == 200
        for address in ("127.0.0.1", "::1", "192.0.2.7", "192.0.2.7, 127.0.0.1"):
            assert (
                await client.get("/", headers={"X-Forwarded-For": address})
            ).status_code == 403


async def test_a_unix_socket_has_no_place(server, namespace, tmp_path):
    """Behind one there is usually a proxy, and all the world behind that."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        transport = httpx.AsyncHTTPTransport(uds=path)
        async with (
            serving_on(listening, dashboard_of(server, namespace, "nobody").app),
            httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client,
        ):
            for where in ("/", "/health", "/api/v1/streams", "/static/style.css"):
                assert (await client.get(where)).status_code == 403


async def test_the_command_with_tokens_alone_serves_no_pages(
    server, namespace, tmp_path
):
    path = tmp_path / "users.toml"
    path.write_text(f'[tokens.shop]\nsha256 = "{HASHED}"\nrole = "viewer"\n')
    environment = clean_environment() | {
        "STREAMS_URL": server.url,
        "STREAMS_NAMESPACE": namespace,
    }
    command = (
        sys.executable,
        "-m",
        "streams",
        "dashboard",
        "--port",
        "0",
        "--users",
        str(path),
    )
    process = await asyncio.create_subprocess_exec(
        *command, stderr=subprocess.PIPE, env=environment
    )
    try:
        assert process.stderr is not None
        lines = [
            (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            for _ in range(2)
        ]
        assert "there are no pages" in lines[1]
        async with httpx.AsyncClient(
            base_url=lines[0].split(" at ")[1].split(";")[0]
        ) as client:
            for where, status in (
                ("/", 404),
                ("/login", 404),
                ("/static/style.css", 404),
                ("/api/v1/streams", 401),
            ):
                assert (await client.get(where)).status_code == status
            known = await client.get(
                "/api/v1/streams", headers={"Authorization": f"Bearer {TOKEN}"}
            )
            assert known.status_code == 200
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def test_a_log_in_is_asked_for_from_everywhere(server, namespace):
    dashboard = dashboard_of(server, namespace, "people")
    form = f"name=admin&password={PASSWORD.replace(' ', '+')}".encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(form)),
    }
    async with dashboard.lifespan(Starlette()):
        scope = scope_of(
            "/login",
            method="POST",
            peer=("192.0.2.7", 5),
            hosts=["streams.example"],
            **headers,
        )
        assert (await ask(dashboard.app, scope, form)).status == 303


def pause_of(root: str, **how: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Content-Length": "2"}
    return scope_of(
        f"{root}/api/v1/streams/orders/pause", method="POST", **how, **headers
    )


def everywhere(dashboard: Dashboard) -> list[tuple[str, str]]:
    """Every path that there is, and some that there are not, with a method that it takes."""
    pages = [
        (route.path.replace("{stream}", "orders"), method)
        for route in dashboard.routes
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
    programs = [
        (
            "/api/v1"
            + one.path.replace("{stream}", "orders")
            .replace("{group}", "billing")
            .replace("{id}", "x"),
            one.method,
        )
        for one in dashboard.api.operations
    ]
    more = [
        ("/static/style.css", "GET"),
        ("/static/live.js", "HEAD"),
        ("/nowhere", "GET"),
        ("/api/v1/openapi.json", "GET"),
    ]
    return [*pages, *programs, *more]
