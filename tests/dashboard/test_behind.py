"""A dashboard behind a proxy: what does not fit is told to who can mend it, and addresses are those of browsers."""

from __future__ import annotations

import logging
import subprocess
import sys
from ipaddress import ip_network

import httpx
import pytest
from starlette.requests import Request

from streams import Pipeline
from streams.dashboard import Accounts, Dashboard, DashboardOptions
from streams.dashboard.place import place_of
from tests.dashboard.board import ACCOUNTS, board
from tests.servers import clean_environment

WRONG = {"name": "viewer", "password": "wrong"}
NETWORKS = [ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")]


async def test_a_proxy_that_changes_the_host_is_told_of_in_answer_and_log(
    server, namespace, caplog
):
    async with board(server, namespace) as place:
        replies = [
            await place.client().post(
                "/login", data=WRONG, headers={"Origin": "https://streams.example"}
            )
            for _ in range(3)
        ]
    here = place.url.removeprefix("http://")
    for reply in replies:
        assert reply.status_code == 403
        assert (
            f"Origin is 'https://streams.example', and Host is '{here}'" in reply.text
        )
        assert "proxy_set_header Host $http_host" in reply.text
    said = [row.getMessage() for row in caplog.records if "refused" in row.getMessage()]
    assert len(said) == 1, "strangers do not fill the log"
    assert "proxy_set_header Host" in said[0]


async def test_a_page_of_another_site_is_told_that_there_is_no_cors(server, namespace):
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    async with board(server, namespace) as place:
        reply = await place.client().request("OPTIONS", "/api/v1/streams", headers=asks)
        assert (reply.status_code, reply.headers["content-type"]) == (
            403,
            "application/problem+json",
        )
        assert "(CORS)" in reply.json()["detail"]
        assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("behind", "counted"),
    [
        ("127.0.0.1", ["203.0.113.9", "203.0.113.9", "127.0.0.1"]),
        ("10.0.0.0/8", ["127.0.0.1"] * 3),
    ],
)
async def test_a_refused_log_in_is_the_browsers_behind_a_proxy_that_is_named(
    caplog, behind, counted
):
    caplog.set_level(logging.WARNING, "streams.dashboard")
    options = DashboardOptions(Accounts(ACCOUNTS), behind=(ip_network(behind),))
    # Nothing is asked of the server.
    dashboard = Dashboard(Pipeline("redis://127.0.0.1/0"), options)
    proxy = httpx.ASGITransport(dashboard.app, client=("127.0.0.1", 5))
    async with httpx.AsyncClient(
        transport=proxy, base_url="http://streams.example"
    ) as client:
        for passed in ("203.0.113.9", "127.9.9.9, 203.0.113.9", "nonsense"):
            reply = await client.post(
                "/login", data=WRONG, headers={"X-Forwarded-For": passed}
            )
            assert reply.status_code == 401
    assert [
        row.place
        for row in caplog.records
        if row.streams_message == "a log-in was refused"
    ] == counted


@pytest.mark.parametrize(
    ("peer", "passed", "found"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["6.6.6.6, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
        ("127.0.0.1", ["6.6.6.6", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["6.6.6.6, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("192.0.2.7", ["192.0.2.1"], "192.0.2.7"),
        ("", ["192.0.2.1"], ""),
    ],
)
def test_only_what_a_named_proxy_wrote_is_believed(peer, passed, found):
    headers = [(b"x-forwarded-for", line.encode()) for line in passed]
    request = Request({"type": "http", "client": (peer, 1), "headers": headers})
    assert place_of(request, NETWORKS) == found


@pytest.mark.parametrize("given", ["", "\n", "one\ntwo\n"])
def test_no_password_and_several_are_refused(given):
    ended = subprocess.run(
        [sys.executable, "-m", "streams", "dashboard", "--hash-password"],
        input=given, capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "give it in one line" in ended.stderr
