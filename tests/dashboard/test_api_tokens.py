"""Tokens of the API: what each may, how often, and from where."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from streams import Pipeline, Settings
from streams.dashboard import Accounts, Dashboard, Role, Token, Tokens, new_token
from streams.errors import ConfigurationError
from tests.dashboard.api import OPERATIONS, api, filled
from tests.whatsapp.servers import serving


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
async def test_each_operation_needs_its_token(server, namespace, operation):
    async with api(server, namespace) as clients:
        for headers in (
            {},
            {"Authorization": "Bearer st_wrong"},
            {"Authorization": "Basic eDp5"},
            {"Authorization": "x"},
        ):
            reply = await clients[""].request(
                operation.method, filled(operation.path), headers=headers, json={}
            )
            assert reply.status_code == 401
            assert reply.headers["content-type"] == "application/problem+json"
        for name, role in (
            ("viewer", Role.VIEWER),
            ("operator", Role.OPERATOR),
            ("shop", Role.VIEWER),
        ):
            allowed = name == "shop" if operation.publishes else role >= operation.role
            reply = await clients[name].request(
                operation.method, filled(operation.path), json={"nonsense": 1}
            )
            assert (reply.status_code == 403) is not allowed, (name, reply.text)


async def test_each_token_has_its_rate(server, namespace):
    now = 0.0
    async with api(server, namespace, lambda: now) as clients:
        replies = await asyncio.gather(
            *(clients["admin"].get("/openapi.json") for _ in range(5))
        )
        assert {reply.status_code for reply in replies} == {200}
        assert (await clients[""].get("/openapi.json")).status_code == 401
        replies = [await clients["viewer"].get("/messages/x") for _ in range(102)]
        assert [reply.status_code for reply in replies] == [404] * 100 + [429] * 2
        assert replies[-1].headers["retry-after"] == "1"
        now += 0.1  # In which five more may come.
        codes = [
            (await clients["viewer"].get("/messages/x")).status_code for _ in range(6)
        ]
        assert codes == [404] * 5 + [429]
        assert (await clients["operator"].get("/messages/x")).status_code == 404


async def test_nothing_changes_through_a_read_only_api(server, namespace):
    async with api(server, namespace, read_only=True) as clients:
        for operation in OPERATIONS:
            if operation.method != "GET":
                reply = await clients["admin"].request(
                    operation.method, filled(operation.path), json={}
                )
                assert reply.status_code == 403


async def test_another_site_gets_nothing_done_even_here(server, namespace):
    dashboard = Dashboard(
        Pipeline(settings=Settings(url=server.url, namespace=namespace))
    )
    async with (
        serving(dashboard.app) as url,
        httpx.AsyncClient(base_url=f"{url}/api/v1") as client,
    ):
        event = {"type": "t", "data": 1}
        assert (await client.post("/streams/s/events", json=event)).status_code == 201
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.example"},
        ):
            assert (
                await client.post("/streams/s/events", json=event, headers=headers)
            ).status_code == 403


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("tokens = 1", "NAME"),
        ("[tokens.a]\nsha256 = 'x'\nrole = 'viewer'", "64 hexadecimal"),
        ("[tokens.a]\nsha256 = 'x'\nrole = 'viewer'\nmore = 1", "nothing else"),
        (
            f"[tokens.a]\nsha256 = '{'0' * 64}'\nrole = 'king'",
            "viewer, operator or admin",
        ),
        (
            f"[tokens.a]\nsha256 = '{'0' * 64}'\nrole = 'viewer'\npublish = 'yes'",
            "true or false",
        ),
    ],
)
def test_tokens_that_cannot_be_are_refused(tmp_path, text, match):
    path = tmp_path / "users.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=match):
        Tokens.read(path)


def test_tokens_are_read(tmp_path):
    token, digest = new_token()
    path = tmp_path / "users.toml"
    path.write_text(
        f'[tokens.shop]\nsha256 = "{digest}"\nrole = "viewer"\npublish = true\n'
    )
    assert Tokens.read(path).find(f"Bearer {token}") == Token(
        "shop", Role.VIEWER, publishes=True
    )
    assert Tokens.read(path).find(f"Bearer {token}x") is None
    assert not Accounts.read(path)
    assert Accounts.read(path).tokens.find(f"Bearer {token}") is not None
