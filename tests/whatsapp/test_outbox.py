"""Webhooks to tenants: signed, tried again, disabled, and never sent where they must not go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from streams.errors import ConfigurationError, NotFound
from streams.whatsapp import Text
from streams.whatsapp.outbox import deliverer
from streams.whatsapp.outbox.endpoints import Endpoint, Endpoints
from streams.whatsapp.outbox.guard import UrlGuard, is_public
from streams.whatsapp.outbox.signing import secret_of, signed
from streams.whatsapp.sandbox.phone import Fault
from tests.conftest import eventually
from tests.whatsapp.servers import serving
from tests.whatsapp.stage import PHONE, QUICK, Stage, stage


class Receiver:
    """An endpoint of a tenant: answers as it is told, and keeps what it got."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.app = Starlette(
            routes=[
                Route("/hook", self.take, methods=["POST"]),
                Route(
                    "/moved", lambda _: RedirectResponse("/hook", 307), methods=["POST"]
                ),
            ]
        )

    async def take(self, request: Request) -> Response:
        self.calls.append((dict(request.headers), await request.body()))
        return PlainTextResponse(
            "x" * 200_000 if self.status == 200 else "", self.status
        )

    def verified(self, secret: str) -> list[dict]:
        """What came, checked by the specification's own library."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.calls]


@asynccontextmanager
async def told(
    server, namespace: str, path: str = "hook"
) -> AsyncIterator[tuple[Stage, Receiver, Endpoints, Endpoint]]:
    """A stage whose tenant ``acme`` has an endpoint."""
    receiver = Receiver()
    async with serving(receiver.app) as url:
        host = url.removeprefix("http://")
        settings = replace(QUICK, webhook_key="master", webhook_allow=host)
        async with stage(server, namespace, settings) as place:
            endpoints = Endpoints(
                place.application.pipeline.asynchronous, place.application.settings
            )
            yield (
                place,
                receiver,
                endpoints,
                await endpoints.add("acme", f"{url}/{path}"),
            )


async def test_a_tenant_is_told_of_its_messages_and_of_no_others(server, namespace):
    async with told(server, namespace) as (place, receiver, endpoints, endpoint):
        ident = await place.messages.add(PHONE, Text("a secret text"), tenant="acme")
        await place.messages.add("5511999990001", Text("x"), tenant="other")
        await eventually(lambda: len(receiver.calls) == 1)
        # Bound to its recipient: the other tenant's message may still be on its way, and would take the fault.
        place.phone.faults = [Fault(131047, count=1, to=PHONE)]
        failed = await place.messages.add(PHONE, Text("x"), tenant="acme")
        await eventually(lambda: len(receiver.calls) == 2)
        (secret,) = endpoints.secrets(endpoint)
        first, second = receiver.verified(secret)
        assert (first["type"], first["data"]["message_id"]) == ("message.sent", ident)
        assert (second["type"], second["data"]["message_id"]) == (
            "message.failed",
            failed,
        )
        assert (second["data"]["code"], second["data"]["reason"]) == (
            "131047",
            "window_closed",
        )
        assert first["data"]["provider_id"].startswith("wamid.")
        for headers, body in receiver.calls:
            assert b"secret" not in body
            assert PHONE.encode() not in body
            assert "." not in headers["webhook-id"]


async def test_a_call_that_fails_is_tried_again_with_the_same_id(
    server, namespace, monkeypatch
):
    monkeypatch.setattr(deliverer, "SCHEDULE", (0.05, 0.05, 0.05))
    async with told(server, namespace) as (place, receiver, endpoints, endpoint):
        receiver.status = 500
        await place.messages.add(PHONE, Text("x"), tenant="acme")
        await eventually(lambda: len(receiver.calls) == 2)
        assert (await endpoints.get(endpoint.id)).failing_since > 0
        receiver.status = 200  # With a body that nobody wants to read.
        await eventually(lambda: len(receiver.calls) >= 3)

        async def well() -> bool:
            return (await endpoints.get(endpoint.id)).failing_since == 0

        await eventually(well)
        assert len({headers["webhook-id"] for headers, _ in receiver.calls}) == 1
        assert len(receiver.verified(endpoints.secrets(endpoint)[0])) == len(
            receiver.calls
        )


@pytest.mark.parametrize(("path", "status"), [("hook", 410), ("moved", 204)])
async def test_gone_disables_and_redirects_are_not_followed(
    server, namespace, monkeypatch, path, status
):
    monkeypatch.setattr(deliverer, "SCHEDULE", (3600.0,))
    async with told(server, namespace, path) as (place, receiver, endpoints, endpoint):
        receiver.status = status
        await place.messages.add(PHONE, Text("x"), tenant="acme")

        async def noticed() -> bool:
            found = await endpoints.get(endpoint.id)
            return bool(found.disabled if status == 410 else found.failing_since)

        await eventually(noticed)
        assert len(receiver.calls) == (1 if status == 410 else 0)
        if status == 410:
            receiver.status = 204
            assert (await endpoints.enable(endpoint.id)).disabled == ""


async def test_an_endpoint_that_fails_for_days_is_disabled(
    server, namespace, monkeypatch
):
    monkeypatch.setattr(deliverer, "SCHEDULE", (0.05,) * 20)
    monkeypatch.setattr(deliverer, "_PATIENCE", 0.3)
    async with told(server, namespace) as (place, receiver, endpoints, endpoint):
        receiver.status = 503
        await place.messages.add(PHONE, Text("x"), tenant="acme")

        async def disabled() -> bool:
            return "five days" in (await endpoints.get(endpoint.id)).disabled

        await eventually(disabled)
        calls = len(receiver.calls)
        await place.messages.add(PHONE, Text("x"), tenant="acme")
        letters = place.application.pipeline.asynchronous.dead_letters(
            deliverer.WEBHOOK_STREAM, "deliverer"
        )

        async def buried() -> bool:
            return await letters.count() >= 1

        await eventually(buried)
        assert len(receiver.calls) <= calls + 1


async def test_a_secret_is_rotated_without_a_gap(server, namespace):
    async with told(server, namespace) as (place, receiver, endpoints, endpoint):
        (old,) = endpoints.secrets(endpoint)
        rotated = await endpoints.rotate(endpoint.id)
        new, still = endpoints.secrets(rotated)
        assert still == old != new
        await place.messages.add(PHONE, Text("x"), tenant="acme")
        await eventually(lambda: len(receiver.calls) == 1)
        assert receiver.verified(old) == receiver.verified(new)
        later = replace(rotated, rotated_at=rotated.rotated_at - 100_000)
        assert endpoints.secrets(later) == [new]
        records = await place.application.pipeline.asynchronous.records(
            "whatsapp", "endpoints"
        ).all()
        assert old.removeprefix("whsec_") not in str(records), "no secret is stored"


async def test_endpoints_are_added_and_removed(server, namespace):
    async with told(server, namespace) as (_, __, endpoints, endpoint):
        only = await endpoints.add("acme", "https://example.org/h", ["message.failed"])
        assert only.events == ("failed",)
        assert {e.id for e in await endpoints.all("acme")} == {endpoint.id, only.id}
        assert await endpoints.all("other") == []
        await endpoints.remove(only.id)
        with pytest.raises(NotFound):
            await endpoints.remove(only.id)
        for bad in (
            ("acme", "http://example.org"),
            ("", "https://example.org"),
            ("a", "https://example.org", ["x"]),
        ):
            with pytest.raises(ConfigurationError):
                await endpoints.add(*bad)


# --- signatures


@given(
    st.binary(max_size=200), st.text("abc", min_size=1, max_size=5), st.integers(1, 3)
)
def test_the_specifications_library_takes_our_signatures(body, endpoint, version):
    secret = secret_of("master", endpoint, version)
    headers = signed(
        "msg_1",
        int(datetime.now(UTC).timestamp()),
        b'{"a":1}',
        [secret_of("m", "x", 1), secret],
    )
    assert Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
    assert signed("msg_1", 1, body, [secret]) == signed("msg_1", 1, body, [secret])
    with pytest.raises(Exception):  # noqa: B017, PT011 - the library's own
        Webhook(secret_of("master", endpoint, version + 1)).verify(b'{"a":1}', headers)


# --- the guard


PRIVATE = [
    *(
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
    ),
    *(
        "255.255.255.255",
        "240.0.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.1",
        "168.63.129.16",
    ),
    *(
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "fec0::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
    ),
    *(
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "::7f00:1",
        "2001::1",
        "2001:db8::1",
        "fe80::1%eth0",
    ),
    *("nonsense", "", "1.2.3", "0x7f.1"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "200.160.2.3"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "https://example.org:8443/", "https://user@example.org/", "https://",
        "https://user:pass@example.org/", "https:///path", "https://example.org\\@evil.org/", "https://exa mple.org/",
        "https://example.org/\r\nX: y", "https://example.org:x/", "https://[::1", "javascript:alert(1)",
        "//example.org",
        "https://" + "x" * 2048, "", "https://@example.org/", "https://:@example.org/", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_urls_that_are_refused_unseen(url):
    with pytest.raises(ConfigurationError):
        UrlGuard().check(url)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254"])
async def test_a_name_with_one_private_address_is_refused(address):
    async def resolve(host: str, port: int) -> list[str]:
        return ["8.8.8.8", address]

    with pytest.raises(ConfigurationError, match="not public"):
        await UrlGuard(resolve=resolve).target("https://example.org/hook")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://localhost/",
    ],
)
async def test_spellings_of_this_machine_are_refused(url):
    with pytest.raises((ConfigurationError, OSError)):
        await UrlGuard().target(url)


async def test_the_call_goes_to_the_address_that_was_checked():
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    guard = UrlGuard(resolve=resolve)
    target = await guard.target("https://example.org/hook?a=1")
    assert (target.url, target.authority, target.host) == (
        "https://8.8.8.8:443/hook?a=1",
        "example.org",
        "example.org",
    )
    with pytest.raises(ConfigurationError):
        await guard.target("https://example.org/hook?a=1")


async def test_an_allowed_host_may_be_anything():
    guard = UrlGuard(["127.0.0.1:8080", "intern"])
    assert (
        await guard.target("http://127.0.0.1:8080/x")
    ).url == "http://127.0.0.1:8080/x"
    assert guard.check("http://intern:99/").port == 99
    with pytest.raises(ConfigurationError):
        guard.check("http://127.0.0.1:8081/x")
    await asyncio.sleep(0)
