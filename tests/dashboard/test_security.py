"""Who gets in, what comes from elsewhere, and what is done to a page by what it shows."""

from __future__ import annotations

from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from streams import Settings
from streams.dashboard import Accounts, Dashboard, DashboardOptions, Role, hash_password
from streams.dashboard.accounts import is_password
from streams.dashboard.sessions import COOKIE, Sessions
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from tests.dashboard.board import ACCOUNTS, PASSWORD, Tags, board, token_in, trouble
from tests.whatsapp.servers import serving

OPEN = {"/login", "/logout", "/health"}
ROUTES = [
    (route.path, method)
    for route in Dashboard(Pipeline("redis://127.0.0.1:1/0")).routes
    for method in sorted((route.methods or set()) - {"HEAD"})
    if route.path not in OPEN
]
SCRIPTS = {
    "/static/live.js", "/static/vendor/htmx.min.js", "/static/vendor/htmx-ext-sse.min.js",
    "/static/vendor/uPlot.iife.min.js",
}  # fmt: skip
CORPUS = [
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "</script><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}",
    "</textarea></title><svg/onload=alert(1)>",
    "5511999990000 <b>bold</b>",
]


password_of = Accounts(ACCOUNTS).password_of


def path_of(route: str) -> str:
    return route.replace("{stream}", "orders")


def test_the_routes_are_found():
    assert ("/", "GET") in ROUTES
    assert ("/streams/{stream}/discard", "POST") in ROUTES
    assert len(ROUTES) >= 15
    assert all(
        isinstance(route, Route)
        for route in Dashboard(Pipeline("redis://127.0.0.1:1/0")).routes
    )


async def test_nobody_gets_in_without_or_with_wrong_credentials(server, namespace):
    async with board(server, namespace) as place:
        cookies = [
            None, "", "x", "a.b.c.d", "1.2.%.3", Sessions("another secret", password_of).make("admin"),
            Sessions("", password_of).make("admin")[:-1] + "0",
        ]  # fmt: skip
        for path, method in ROUTES:
            for cookie in cookies:
                client = place.client(
                    **({"Cookie": f"{COOKIE}={cookie}"} if cookie is not None else {})
                )
                reply = await client.request(method, path_of(path))
                assert reply.status_code in (303, 401, 403), (path, method, cookie)
                assert reply.headers.get("location", "/login") == "/login"
                assert "orders" not in reply.text
                client = place.client(
                    Accept="application/json",
                    **({"Cookie": f"{COOKIE}={cookie}"} if cookie else {}),
                )
                assert (await client.request(method, path_of(path))).status_code in (
                    401,
                    403,
                )


async def test_what_changes_something_needs_role_token_and_the_same_site(
    server, namespace
):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        viewer, operator, admin = [
            await place.log_in(name) for name in ("viewer", "operator", "admin")
        ]
        token = token_in((await operator.get("/streams/orders")).text)
        stored = await everything(place)
        for path, method in ROUTES:
            if method != "POST":
                continue
            needed = (
                Role.ADMIN if path.endswith(("/reveal", "/edit")) else Role.OPERATOR
            )
            for client, role in ((viewer, Role.VIEWER), (operator, Role.OPERATOR)):
                if role < needed:
                    assert (
                        await client.post(path_of(path), data={"token": token})
                    ).status_code == 403
            # That of the operator is none of the admin's.
            for given in ({}, {"token": "x"}, {"token": token}):
                assert (await admin.post(path_of(path), data=given)).status_code == 403
            own = token_in((await admin.get("/streams/orders")).text)
            for headers in (
                {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
                {"Origin": "null"},
            ):  # fmt: skip
                assert (
                    await admin.post(
                        path_of(path), data={"token": own}, headers=headers
                    )
                ).status_code == 403
            assert (await admin.put(path_of(path))).status_code == 405
        assert await everything(place) == stored


async def test_looking_changes_nothing(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        client = await place.log_in("admin")
        stored = await everything(place)
        for path in await crawl(client):
            assert (await client.get(path)).status_code in (200, 404), path
        assert await everything(place) == stored


async def test_a_read_only_dashboard_lets_nobody_act(server, namespace):
    await trouble(server, namespace)
    async with board(server, namespace, read_only=True) as place:
        client = await place.log_in("admin")
        page = (await client.get("/streams/orders")).text
        assert "token" not in page
        assert "Read only" in page
        for path, method in ROUTES:
            if method == "POST":
                assert (await client.post(path_of(path), data={})).status_code == 403


async def test_nothing_that_is_shown_becomes_part_of_a_page(server, namespace):
    await trouble(server, namespace, CORPUS)
    async with board(server, namespace) as place:
        client = await place.log_in("admin")
        pages = await crawl(client)
        assert len(pages) > 30
        literally = False
        for path in pages:
            reply = await client.get(path)
            for tag, attributes in Tags(reply.text).tags:
                assert tag not in ("img", "b", "textarea", "iframe", "object") or (
                    tag == "b" and not attributes
                ), path
                assert tag != "script" or (
                    attributes.get("src") in SCRIPTS and len(attributes) == 2
                ), path
                assert not [name for name in attributes if name.startswith("on")], (
                    path,
                    tag,
                    attributes,
                )
                for name in ("href", "src", "action", "formaction"):
                    assert (
                        "javascript:" not in (attributes.get(name) or "")[:20].lower()
                    ), path
            literally = literally or "{{ 7*7 }}" in reply.text
            assert "5511999990000" not in reply.text, path
        assert literally, "what looks like a template is shown as it is"


async def test_every_answer_says_what_a_browser_must_not_do(server, namespace):
    async with board(server, namespace) as place:
        client = await place.log_in("viewer")
        for path in (
            "/",
            "/login",
            "/health",
            "/static/style.css",
            "/nowhere",
            "/streams/nowhere",
            "/search?q=x",
        ):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe-inline" not in policy
            assert "frame-ancestors 'none'" in policy
            assert (headers["x-content-type-options"], headers["cache-control"]) == (
                "nosniff",
                "no-store",
            )
            assert headers["x-frame-options"] == "DENY"
            assert "access-control-allow-origin" not in headers
        reply = await place.client().post(
            "/login", data={"name": "viewer", "password": PASSWORD}
        )
        cookie = reply.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie


async def test_a_form_that_does_not_say_how_long_it_is_is_not_read(server, namespace):
    async def chunks():
        yield b"name=admin&"
        yield b"password=x"

    async with board(server, namespace) as place:
        for path in ("/login", "/logout", "/streams/orders/pause"):
            reply = await place.client().post(path, content=chunks())
            assert reply.status_code == 411


async def test_without_accounts_only_this_machine_gets_in(server, namespace):
    async with board(server, namespace, accounts={}) as place:
        assert (await place.client().get("/")).status_code == 200
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
            assert (await place.client(Host=host).get("/")).status_code == 403
        page = (await place.client().get("/")).text
        assert "Log out" not in page


async def test_it_can_be_mounted_under_a_path(server, namespace):
    await trouble(server, namespace)
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    dashboard = Dashboard(pipeline, DashboardOptions(Accounts(ACCOUNTS)))
    app = Starlette(
        routes=[Mount("/ops/streams", dashboard.app)], lifespan=dashboard.lifespan
    )
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, headers={"Accept": "text/html"}) as client,
    ):
        reply = await client.get("/ops/streams/")
        assert (reply.status_code, reply.headers["location"]) == (
            303,
            "/ops/streams/login",
        )
        page = await client.get("/ops/streams/login")
        assert 'action="/ops/streams/login"' in page.text
        reply = await client.post(
            "/ops/streams/login", data={"name": "admin", "password": PASSWORD}
        )
        assert reply.headers["location"] == "/ops/streams/"
        assert "Path=/ops/streams/" in reply.headers["set-cookie"]
        for path in await crawl(client, "/ops/streams/"):
            assert path.startswith("/ops/streams/"), path
        assert (await client.get("/ops/streams/static/style.css")).status_code == 200


def test_a_password_is_hashed_with_salt_and_compared():
    hashed = hash_password(PASSWORD)
    assert hashed != hash_password(PASSWORD)
    assert is_password(PASSWORD, hashed)
    for given, stored in (
        (PASSWORD + "x", hashed),
        (PASSWORD, "md5$x"),
        (PASSWORD, ""),
        (PASSWORD, "scrypt$a$b$c$d$e"),
    ):
        assert not is_password(given, stored)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x", "no TOML"),
        ("a = 1", "names no users"),
        ("[users.ana]\nrole = 'viewer'", "give password and role"),
        (
            "[users.ana]\nrole = 'king'\npassword = 'scrypt$1$2$3$4$5'",
            "viewer, operator or admin",
        ),
        ("[users.ana]\nrole = 'viewer'\npassword = 'plain'", "--hash-password"),
    ],
)
def test_accounts_that_cannot_be_are_refused(tmp_path, text, match):
    path = tmp_path / "users.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=match) as caught:
        Accounts.read(path)
    assert "plain" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Accounts.read(tmp_path / "nowhere")


def test_accounts_are_read(tmp_path):
    path = tmp_path / "users.toml"
    path.write_text(
        f'[users.ana]\nrole = "operator"\npassword = "{hash_password(PASSWORD)}"\n'
    )
    assert Accounts.read(path).log_in("ana", PASSWORD) is Role.OPERATOR


async def everything(place) -> dict[bytes, object]:
    """All keys of the server's namespace with their contents."""
    control = place.pipeline.broker.control
    keys = await control.call("KEYS", f"{place.pipeline.broker.namespace}:*")
    # The server stores the members of a set in an order that it may change by itself.
    sets = {key for key in keys if await control.call("TYPE", key) == b"set"}
    members = {key: sorted(await control.call("SMEMBERS", key)) for key in sorted(sets)}
    return members | {
        key: await control.call("DUMP", key) for key in sorted(set(keys) - sets)
    }


async def crawl(client, root: str = "/") -> list[str]:
    """Every page that links lead to."""
    found, left = [root], [root]
    while left:
        path = left.pop()
        reply = await client.get(path)
        assert reply.status_code == 200, path
        for link in Tags(reply.text).links():
            where = urljoin(path, link)
            if where.startswith("/") and "#" not in where and where not in found:
                found.append(where)
                left.append(where)
    return found
