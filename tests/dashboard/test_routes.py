"""Every route of the dashboard, asked by everybody: who gets in is what the tables below say, and nobody else does.

A route that is in no table fails; so does one that is in a table and gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

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
from streams.dashboard.sessions import COOKIE, Sessions
from tests.dashboard.asking import Answer, ask, scope_of
from tests.dashboard.board import ACCOUNTS

OPEN, TOKEN, PUBLISH = "everybody", "any token", "a token that publishes"
VIEWER, OPERATOR, ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN
PAGES: dict[tuple[str, str], Any] = {
    ("GET", "/login"): OPEN, ("POST", "/login"): OPEN, ("POST", "/logout"): VIEWER,
    ("GET", "/health"): OPEN, ("GET", "/static"): OPEN, ("GET", "/metrics"): TOKEN,
    ("GET", "/"): VIEWER, ("GET", "/workers"): VIEWER, ("GET", "/doctor"): VIEWER, ("GET", "/audit"): VIEWER,
    ("GET", "/search"): VIEWER, ("GET", "/whatsapp"): VIEWER, ("GET", "/whatsapp/endpoints"): VIEWER,
    ("GET", "/whatsapp/message"): VIEWER, ("GET", "/streams/{stream}"): VIEWER,
    ("GET", "/streams/{stream}/event"): VIEWER, ("GET", "/streams/{stream}/dead"): VIEWER,
    ("GET", "/streams/{stream}/consumer"): VIEWER, ("GET", "/live/overview"): VIEWER,
    ("GET", "/live/workers"): VIEWER, ("GET", "/live/whatsapp"): VIEWER, ("GET", "/live/streams/{stream}"): VIEWER,
    ("GET", "/live/streams/{stream}/chart"): VIEWER,
    ("POST", "/streams/{stream}/replay"): OPERATOR, ("POST", "/streams/{stream}/discard"): OPERATOR,
    ("POST", "/streams/{stream}/stop"): OPERATOR, ("POST", "/streams/{stream}/export"): OPERATOR,
    ("POST", "/streams/{stream}/cancel"): OPERATOR, ("POST", "/streams/{stream}/run-now"): OPERATOR,
    ("POST", "/streams/{stream}/pause"): OPERATOR, ("POST", "/streams/{stream}/resume"): OPERATOR,
    ("POST", "/streams/{stream}/release"): OPERATOR, ("POST", "/streams/{stream}/skip"): OPERATOR,
    ("POST", "/streams/{stream}/limit"): OPERATOR, ("POST", "/streams/{stream}/endpoint"): OPERATOR,
    ("POST", "/streams/{stream}/edit"): ADMIN, ("POST", "/streams/{stream}/reveal"): ADMIN,
}  # fmt: skip
GROUP = "/streams/{stream}/groups/{group}"
API: dict[tuple[str, str], Any] = {
    ("GET", "/openapi.json"): TOKEN,
    ("GET", "/streams"): VIEWER, ("GET", "/workers"): VIEWER, ("GET", "/doctor"): VIEWER, ("GET", "/search"): VIEWER,
    ("GET", "/streams/{stream}"): VIEWER, ("GET", "/streams/{stream}/events/{id}"): VIEWER,
    ("GET", "/streams/{stream}/why"): VIEWER, ("GET", "/streams/{stream}/audit"): VIEWER,
    ("GET", f"{GROUP}/dead"): VIEWER, ("GET", f"{GROUP}/limits"): VIEWER, ("GET", f"{GROUP}/held"): VIEWER,
    ("GET", f"{GROUP}/replays"): VIEWER, ("GET", f"{GROUP}/workers/{{id}}"): VIEWER,
    ("GET", "/messages/{id}"): VIEWER,
    ("POST", "/streams/{stream}/events"): PUBLISH, ("POST", "/streams/{stream}/batches"): PUBLISH,
    ("POST", "/messages"): PUBLISH,
    ("POST", "/streams/{stream}/events/{id}/cancel"): OPERATOR,
    ("POST", "/streams/{stream}/events/{id}/run-now"): OPERATOR,
    ("POST", "/streams/{stream}/pause"): OPERATOR, ("POST", "/streams/{stream}/resume"): OPERATOR,
    ("POST", f"{GROUP}/dead/replay"): OPERATOR, ("POST", f"{GROUP}/dead/discard"): OPERATOR,
    ("POST", f"{GROUP}/held/release"): OPERATOR, ("POST", f"{GROUP}/held/skip"): OPERATOR,
    ("POST", f"{GROUP}/limits"): OPERATOR,
    ("POST", "/streams/{stream}/events/{id}/reveal"): ADMIN, ("POST", f"{GROUP}/dead/edit"): ADMIN,
}  # fmt: skip
SCOPES = {
    "viewer": Token("viewer", VIEWER),
    "operator": Token("operator", OPERATOR),
    "admin": Token("admin", ADMIN),
    "publisher": Token("publisher", VIEWER, publishes=True),
    "all of orders": Token("all of orders", ADMIN, publishes=True, streams=("ord*",)),
    "all of others": Token(
        "all of others", ADMIN, publishes=True, streams=("invoices", "other-*")
    ),
}
GIVEN = {name: new_token() for name in SCOPES}
TOKENS = Tokens({hashed: SCOPES[name] for name, (_, hashed) in GIVEN.items()})
SESSIONS = Sessions("of this test", Accounts(ACCOUNTS).password_of)
BEHIND = Proxy((ip_network("10.0.0.0/8"),))


def walked(routes: Any, prefix: str = "") -> set[tuple[str, str]]:
    """Every route, those of what is mounted, too."""
    found = set()
    for route in routes:
        if isinstance(route, Mount):
            inner = getattr(route.app, "routes", None)
            found |= (
                walked(inner, prefix + route.path)
                if inner
                else {("GET", prefix + route.path)}
            )
        else:
            assert isinstance(route, Route)
            path = route.path.replace("{id:path}", "{id}")
            found |= {
                (method, prefix + path)
                for method in (route.methods or set()) - {"HEAD"}
            }
    return found


def test_every_route_is_in_a_table_and_every_row_is_a_route():
    found = walked(Dashboard(Pipeline("redis://127.0.0.1:1/0"))._routes())
    api = {(method, f"/api/v1{path}") for method, path in API}
    assert found == set(PAGES) | api


def filled(path: str) -> str:
    made = (
        path.replace("{stream}", "orders")
        .replace("{group}", "billing")
        .replace("{id}", "nothing")
    )
    return "/static/style.css" if made == "/static" else made


@pytest.fixture
async def opened(server, namespace) -> AsyncIterator[dict[str, Any]]:
    """The same dashboard for people and programs, and behind a proxy."""
    made = {}
    for name, options in {
        "people": DashboardOptions(Accounts(ACCOUNTS), TOKENS, "of this test"),
        "proxy": DashboardOptions(tokens=TOKENS, secret="of this test", proxy=BEHIND),
    }.items():
        made[name] = Dashboard(
            Pipeline(settings=Settings(url=server.url, namespace=namespace)), options
        )
    async with (
        made["people"].lifespan(Starlette()),
        made["proxy"].lifespan(Starlette()),
    ):
        yield {name: dashboard.app for name, dashboard in made.items()}


async def asked(
    app: Any, method: str, path: str, body: bytes, kind: str, peer: Any, **headers: str
) -> Answer:
    headers |= (
        {"Content-Type": kind, "Content-Length": str(len(body))}
        if method == "POST"
        else {}
    )
    return await ask(
        app,
        scope_of(path, method=method, peer=peer, Accept="text/html", **headers),
        body,
    )


def is_refused(answer: Answer) -> bool:
    return answer.status in (401, 403) or answer.headers.get("location") == "/login"


async def test_pages_are_for_whom_the_table_says(opened):
    wrong = []
    for (method, path), needed in PAGES.items():
        for role in (None, *Role):
            name = role.name.lower() if role is not None else ""
            cookie = SESSIONS.make(name) if role is not None else "1.2.3.4"
            session = await SESSIONS.read(cookie)
            for place, peer, headers, token in (
                ("people", ("192.0.2.7", 5), {"Cookie": f"{COOKIE}={cookie}"}, session.token if session else ""),
                ("proxy", ("10.1.2.3", 5), {"X-Forwarded-User": "ana", "X-Forwarded-Groups": name},
                 SESSIONS.token_of("ana")),
            ):  # fmt: skip
                body = urlencode({"token": token, "group": "billing"}).encode()
                answer = await asked(
                    opened[place],
                    method,
                    filled(path),
                    body,
                    "application/x-www-form-urlencoded",
                    peer,
                    **headers,
                )
                may = needed == OPEN or (
                    isinstance(needed, Role) and role is not None and role >= needed
                )
                # A log-in with a wrong password is refused by itself, and a log-out leads to the log-in.
                of_its_own = path == "/login" or (
                    path == "/logout" and role is not None
                )
                if is_refused(answer) == may and not of_its_own:
                    wrong.append((place, method, path, role, answer.status))
    assert not wrong


async def test_what_acts_needs_the_token_of_its_own_session(opened):
    for (method, path), needed in PAGES.items():
        if method == "POST" and needed in (OPERATOR, ADMIN):
            cookie, other = (
                SESSIONS.make("admin"),
                await SESSIONS.read(SESSIONS.make("admin")),
            )
            for token in (
                "",
                "x",
                other.token,
                SESSIONS.token_of("admin"),
                SESSIONS.anonymous().token,
            ):
                body = urlencode({"token": token, "group": "billing"}).encode()
                answer = await asked(
                    opened["people"], method, filled(path), body, "application/x-www-form-urlencoded",
                    ("192.0.2.7", 5), Cookie=f"{COOKIE}={cookie}",
                )  # fmt: skip
                assert answer.status == 403, path


def token_may(name: str, path: str, needed: Any) -> bool:
    """What the tables say of a token."""
    token = SCOPES[name]
    if name == "all of others" and needed != TOKEN:
        return False
    if name == "all of orders" and "{stream}" not in path and needed != TOKEN:
        return False
    return needed == TOKEN or (
        token.publishes if needed == PUBLISH else token.role >= needed
    )


async def test_operations_are_for_the_tokens_that_the_table_says(opened):
    wrong = []
    for (method, path), needed in API.items():
        for name in ("", "cookie", "wrong", *SCOPES):
            headers = (
                {"Authorization": f"Bearer {GIVEN[name][0]}"} if name in GIVEN else {}
            )
            if name == "cookie":
                headers = {"Cookie": f"{COOKIE}={SESSIONS.make('admin')}"}
            if name == "wrong":
                headers = {"Authorization": "Bearer st_wrong"}
            for place, peer in (
                ("people", ("192.0.2.7", 5)),
                ("proxy", ("10.1.2.3", 5)),
            ):
                if name == "cookie" and place == "proxy":
                    headers = {"X-Forwarded-User": "ana", "X-Forwarded-Groups": "admin"}
                body = orjson.dumps({"nonsense": 1})
                answer = await asked(
                    opened[place],
                    method,
                    f"/api/v1{filled(path)}",
                    body,
                    "application/json",
                    peer,
                    **headers,
                )
                expected = name in SCOPES and token_may(name, path, needed)
                code = 401 if name in ("", "cookie", "wrong") else 403
                if is_refused(answer) == expected or (
                    not expected and answer.status != code
                ):
                    wrong.append((place, method, path, name, answer.status))
    assert not wrong


async def test_a_token_opens_no_page_and_figures_are_for_tokens_of_all_streams(opened):
    for name, (token, _) in GIVEN.items():
        headers = {"Authorization": f"Bearer {token}"}
        for place, peer in (("people", ("192.0.2.7", 5)), ("proxy", ("10.1.2.3", 5))):
            assert is_refused(
                await asked(opened[place], "GET", "/", b"", "", peer, **headers)
            )
            answer = await asked(
                opened[place], "GET", "/metrics", b"", "", peer, **headers
            )
            assert answer.status == (403 if SCOPES[name].streams else 200)


async def test_what_is_about_a_stream_that_is_not_there_says_so(
    opened, server, namespace
):
    """But publishing: that makes it."""
    token = {"Authorization": f"Bearer {GIVEN['admin'][0]}"}
    async with Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        await pipeline.publish("there", 1, type="t")
        for (method, path), needed in API.items():
            if "{stream}" in path and needed != PUBLISH:
                query = {"/streams/{stream}/why": b"event=x"}.get(path, b"")
                body = orjson.dumps(BODIES.get(path.rpartition("/")[2], {}))
                headers = token | {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                }
                scope = scope_of(
                    f"/api/v1{filled(path)}",
                    method=method,
                    peer=("192.0.2.7", 5),
                    **headers,
                )
                answer = await ask(
                    opened["people"], scope | {"query_string": query}, body
                )
                assert answer.status == 404, (method, path, answer.body)
                assert orjson.loads(answer.body)["code"] == "not-found"
        assert [row.stream for row in await pipeline.status().overview()] == ["there"]


BODIES: dict[str, Any] = {
    "replay": {"filter": {}}, "discard": {"filter": {}}, "edit": {"letter": "1-1", "data": 1},
    "release": {"key": "x"}, "skip": {"key": "x"}, "limits": {"limit": "x", "rate": "1/s"},
}  # fmt: skip
