"""Logging in and out: who has to wait, when a session ends, and what says twice who somebody is."""

from __future__ import annotations

import itertools
from ipaddress import ip_network
from typing import Any

import pytest

from streams import Pipeline
from streams.dashboard import Dashboard, DashboardOptions, Proxy, Role, hash_password
from streams.dashboard.accounts import Account
from streams.dashboard.guesses import BROWSER, NAME, PLACE, Guesses, Key
from streams.dashboard.sessions import BROWSER_COOKIE, COOKIE, Sessions
from tests.dashboard.asking import ask, scope_of
from tests.dashboard.board import ACCOUNTS, PASSWORD, board, trouble

SECRET = "of all processes"


async def test_who_logs_out_is_out_in_every_process_and_after_a_restart(
    server, namespace
):
    async with (
        board(server, namespace, secret=SECRET) as one,
        board(server, namespace, secret=SECRET) as other,
    ):
        client, second = await one.log_in("admin"), await one.log_in("admin")
        stolen = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        for place in (one, other):
            assert (await place.client(**stolen).get("/")).status_code == 200
        assert (await client.post("/logout")).headers["location"] == "/login"
        for place in (one, other):
            reply = await place.client(**stolen).get("/")
            assert (reply.status_code, reply.headers.get("location")) == (303, "/login")
        # Another session of the same name.
        assert (await second.get("/")).status_code == 200
    async with board(server, namespace, secret=SECRET) as again:
        assert (await again.client(**stolen).get("/")).status_code == 303
        assert (await again.client(**stolen).post("/logout")).status_code == 401


async def test_what_says_that_a_session_is_over_expires_with_it(server, namespace):
    async with board(server, namespace) as place:
        await (await place.log_in("viewer")).post("/logout")
        control = place.pipeline.broker.control
        (key,) = await control.call("KEYS", f"{namespace}:ended-session:*")
        assert 12 * 3600 - 120 < await control.call("TTL", key) <= 12 * 3600


async def test_a_new_password_ends_the_sessions_of_its_name_and_no_others(
    server, namespace
):
    async with board(server, namespace, secret=SECRET) as place:
        admin, viewer = await place.log_in("admin"), await place.log_in("viewer")
        cookies = [client.cookies[COOKIE] for client in (admin, viewer)]
    changed = ACCOUNTS | {
        "admin": Account("admin", Role.ADMIN, hash_password("another one"))
    }
    async with board(server, namespace, secret=SECRET, accounts=changed) as place:
        codes = [
            (await place.client(Cookie=f"{COOKIE}={cookie}").get("/")).status_code
            for cookie in cookies
        ]
        assert codes == [303, 200]


async def test_who_is_at_work_stays_while_the_server_is_away(
    make_server, binary, namespace
):
    running = make_server(binary)
    async with board(running, namespace, secret=SECRET) as place:
        client = await place.log_in("admin")
        assert (await client.get("/")).status_code == 200
        fresh = Sessions(SECRET, lambda name: ACCOUNTS[name].password).make("admin")
        running.close()
        # Whether this one was ended nobody can say, and it was not seen before.
        reply = await place.client(Cookie=f"{COOKIE}={fresh}").get("/")
        assert (reply.status_code, "does not answer" in reply.text) == (503, True)
        reply = await client.get("/nowhere")
        assert reply.status_code == 404


async def test_the_page_says_how_long_one_has_to_wait(server, namespace):
    async with board(server, namespace) as place:
        place.dashboard._log_in._guesses = Guesses(lambda: 0.0)
        client = place.client()
        replies = [
            await client.post(
                "/login", data={"name": "admin", "password": f"wrong {n}"}
            )
            for n in range(6)
        ]
        assert [reply.status_code for reply in replies] == [401] * 5 + [429]
        assert "Try again in 2 s." in replies[4].text
        assert replies[5].headers["retry-after"] == "2"
        assert "Too many attempts." in replies[5].text
        reply = await client.post(
            "/login", data={"name": "admin", "password": PASSWORD}
        )
        # The right one, too: else it would tell that it is.
        assert reply.status_code == 429
        reply = await client.post(
            "/login", data={"name": "viewer", "password": PASSWORD}
        )
        assert reply.status_code == 303  # Nobody guessed at this name.


async def test_a_browser_that_was_let_in_before_is_not_kept_out_by_strangers(
    server, namespace
):
    async with board(server, namespace) as place:
        mine = await place.log_in("admin")
        await mine.post("/logout")
        place.dashboard._log_in._guesses = Guesses(lambda: 0.0)
        stranger = place.client()
        for n in range(8):
            await stranger.post(
                "/login", data={"name": "admin", "password": f"wrong {n}"}
            )
        right = {"name": "admin", "password": PASSWORD}
        assert (await place.client().post("/login", data=right)).status_code == 429
        assert (await mine.post("/login", data=right)).status_code == 303
        # It is known of this name only, and guesses no more often than others do.
        for forged in ("", "x", "1.2.3.4", mine.cookies[COOKIE]):
            reply = await place.client(Cookie=f"{BROWSER_COOKIE}={forged}").post(
                "/login", data=right
            )
            assert reply.status_code == 429
        known = place.client(Cookie=f"{BROWSER_COOKIE}={mine.cookies[BROWSER_COOKIE]}")
        codes = [
            (
                await known.post("/login", data={"name": "admin", "password": str(n)})
            ).status_code
            for n in range(6)
        ]
        assert codes == [401] * 5 + [429]


def test_waits_grow_and_end_and_wrong_passwords_are_forgotten():
    now = 0.0
    guesses, name, place = (
        Guesses(lambda: now),
        Key("name a", NAME),
        Key("place p", PLACE),
    )
    for _ in range(5):
        assert guesses.wait([place, name]) == 0
        guesses.wrong([place, name])
    assert (
        guesses.wait([name]),
        guesses.wait([place]),
        guesses.wait([place, name]),
    ) == (2, 0, 2)
    now = 2.0
    assert guesses.wait([name]) == 0
    guesses.wrong([name])
    assert guesses.wait([name]) == 2  # One was half forgotten: 5.97 are left.
    now = 1000.0
    assert guesses.wait([name]) == 0
    guesses.wrong([name])
    assert guesses.wait([name]) == 0  # What was long ago counts no more.


def test_one_wrong_password_in_five_minutes_keeps_nobody_out_for_ever():
    now = 0.0
    guesses, place = Guesses(lambda: now), Key("place of everybody", PLACE)
    for _ in range(100):
        guesses.wrong([place])
        assert guesses.wait([place]) == 0
        now += 300.0


@pytest.mark.parametrize(("limit", "free"), [(NAME, 5), (PLACE, 20), (BROWSER, 5)])
def test_nobody_guesses_often(limit, free):
    now, tried, key = 0.0, 0, Key("it", limit)
    guesses = Guesses(lambda: now)
    while now < 86_400.0:
        now += guesses.wait([key])
        guesses.wrong([key])
        tried += 1
    assert free < tried < 86_400 / 60 + 2 * free + 10
    guesses.forget(key)
    assert guesses.wait([key]) == 0


# --- what says twice who somebody is


BEHIND = Proxy((ip_network("10.0.0.0/8"),))
PEER = ("10.1.2.3", 5)


def app_of(proxy: Proxy) -> Any:
    return Dashboard(
        Pipeline("redis://127.0.0.1:1/0"), DashboardOptions(proxy=proxy)
    ).app


def with_headers(
    *headers: tuple[str, str], path: str = "/static/style.css"
) -> dict[str, Any]:
    scope = scope_of(path, peer=PEER)
    scope["headers"] += [(name.encode(), value.encode()) for name, value in headers]
    return scope


SAID = [(b"x-forwarded-user", b"ana"), (b"x-forwarded-groups", b"viewer")]
SPELLED = ["X-Forwarded-{}", "x_forwarded_{}", "X-Forwarded_{}", "X_FORWARDED-{}"]
TWICE = list(itertools.product(SPELLED, ["user", "groups"], [True, False]))
BELIEVED = [
    "Host",
    "Origin",
    "Sec-Fetch-Site",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
]


@pytest.mark.parametrize(
    ("spelled", "what", "first"),
    list(itertools.product(SPELLED, ["user", "groups"], [True, False])),
)
async def test_what_the_proxy_says_is_there_once_in_any_spelling(spelled, what, first):
    other = (spelled.format(what).encode(), b"ana" if what == "user" else b"admin")
    scope = scope_of("/live/nowhere", peer=PEER)
    scope["headers"] += [other, *SAID] if first else [*SAID, other]
    found = await ask(app_of(BEHIND), scope)
    assert found.status == 400
    assert f"x-forwarded-{what}".encode() in found.body
    scope["headers"].remove(other)
    # It is let in, and there is no such page.
    assert (await ask(app_of(BEHIND), scope)).status == 404


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Origin",
        "Sec-Fetch-Site",
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/v1/streams", "/login", "/metrics"])
async def test_what_is_believed_is_there_once(name, path):
    options = DashboardOptions(tokens=DashboardOptions().tokens, proxy=BEHIND)
    app = Dashboard(Pipeline("redis://127.0.0.1:1/0"), options).app
    for second in (name, name.replace("-", "_")):
        scope = with_headers((name, "localhost"), (second, "localhost"), path=path)
        if second == name or "-" in name:
            assert (await ask(app, scope)).status == 400


@pytest.mark.parametrize(
    ("user", "groups", "several", "role"),
    [
        ("ana", "viewer", "refuse", Role.VIEWER),
        (" ana ", "staff, operator", "refuse", Role.OPERATOR),
        # What a proxy makes that joins two headers.
        ("ana", "viewer, admin", "refuse", None),
        ("ana", "admin,admin", "refuse", None),
        ("ana", "viewer, admin", "highest", Role.ADMIN),
        ("ana, bia", "viewer", "refuse", None),
        ("ana,bia", "viewer", "highest", None),
        ("", "viewer", "refuse", None),
        ("ana", "staff", "highest", None),
    ],
)
async def test_one_name_and_one_role(user, groups, several, role):
    from starlette.requests import Request

    scope = scope_of("/", peer=PEER)
    scope["headers"] += [
        (b"x-forwarded-user", user.encode()),
        (b"x-forwarded-groups", groups.encode()),
    ]
    found = Proxy(BEHIND.networks, several=several).viewer(Request(scope), str)
    assert (found.role if found is not None else None) == role


async def test_the_address_of_a_live_part_needs_a_session_that_goes_on(
    server, namespace
):
    await trouble(server, namespace)
    async with board(server, namespace) as place:
        client = await place.log_in("viewer")
        stolen = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
        await client.post("/logout")
        for path in (
            "/live/overview",
            "/streams/orders",
            "/live/streams/orders?group=billing",
        ):
            assert (await place.client(**stolen).get(path)).status_code == 303
