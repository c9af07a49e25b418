"""Webhooks of providers: verified, taken once, and written down in the order that makes sense."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import replace
from pathlib import Path

import httpx
import jsonschema
import pytest

from streams import Event, Pipeline
from streams.settings import Settings
from streams.whatsapp import Text, WhatsAppSettings
from streams.whatsapp.sandbox.phone import Fault
from streams.whatsapp.webhooks.app import WebhookApp
from streams.whatsapp.webhooks.tracker import INBOUND_STREAM
from streams.whatsapp.webhooks.updates import from_evolution, from_meta, signed_by_meta
from tests.conftest import eventually
from tests.whatsapp.servers import serving
from tests.whatsapp.stage import PHONE, QUICK, stage

SECRETS = replace(
    QUICK, verify_token="verify", app_secret="app", webhook_secret="hook", inbound=True
)


def endpoint(
    server, namespace: str, settings: WhatsAppSettings = SECRETS
) -> WebhookApp:
    return WebhookApp(
        Pipeline(settings=Settings(url=server.url, namespace=namespace)), settings
    )


def meta(value: dict) -> bytes:
    metadata = {"display_phone_number": "1555", "phone_number_id": "p1"}
    whole = {"messaging_product": "whatsapp", "metadata": metadata, **value}
    return json.dumps(
        {
            "object": "whatsapp_business_account",
            "entry": [{"id": "w", "changes": [{"field": "messages", "value": whole}]}],
        }
    ).encode()


def status(ident: str, word: str, callback: str = "", **more: object) -> dict:
    row = {
        "id": ident,
        "status": word,
        "timestamp": "1795000000",
        "recipient_id": PHONE,
        **more,
    }
    return row | ({"biz_opaque_callback_data": callback} if callback else {})


def signed(raw: bytes, secret: str = "app") -> dict[str, str]:
    return {
        "X-Hub-Signature-256": "sha256="
        + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    }


async def test_meta_verifies_the_endpoint(server, namespace):
    async with (
        serving(endpoint(server, namespace).app) as url,
        httpx.AsyncClient() as client,
    ):
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": "12345",
            "hub.verify_token": "verify",
        }
        answer = await client.get(f"{url}/meta", params=query)
        assert (answer.status_code, answer.text) == (200, "12345")
        for wrong in ({"hub.verify_token": "x"}, {"hub.mode": "x"}):
            assert (
                await client.get(f"{url}/meta", params=query | wrong)
            ).status_code == 403


async def test_what_is_not_signed_is_refused(server, namespace):
    raw = meta({"statuses": [status("wamid.1", "read")]})
    async with (
        serving(endpoint(server, namespace).app) as url,
        httpx.AsyncClient() as client,
    ):
        for headers in (
            {},
            signed(raw, "other"),
            signed(raw + b" "),
            {"X-Hub-Signature-256": "é".encode("latin-1")},
        ):
            assert (
                await client.post(f"{url}/meta", content=raw, headers=headers)
            ).status_code == 403
        assert (
            await client.post(f"{url}/meta", content=raw, headers=signed(raw))
        ).status_code == 200
        assert (
            await client.post(f"{url}/meta", content=b"{", headers=signed(b"{"))
        ).status_code == 400
        large = b" " * (5 * 1024 * 1024)
        assert (
            await client.post(f"{url}/meta", content=large, headers=signed(large))
        ).status_code == 413
        for headers in ({}, {"X-Webhook-Secret": "x"}):
            assert (
                await client.post(f"{url}/evolution", content=b"{}", headers=headers)
            ).status_code == 403
    without = replace(SECRETS, app_secret="", verify_token="", webhook_secret="")
    async with (
        serving(endpoint(server, namespace, without).app) as url,
        httpx.AsyncClient() as client,
    ):
        assert (
            await client.post(f"{url}/meta", content=raw, headers=signed(raw, ""))
        ).status_code == 403
        query = {"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": ""}
        assert (await client.get(f"{url}/meta", params=query)).status_code == 403
        headers = {"X-Webhook-Secret": ""}
        assert (
            await client.post(f"{url}/evolution", content=b"{}", headers=headers)
        ).status_code == 403


async def test_a_message_is_followed_to_where_it_was_read(server, namespace):
    """The whole circle: queued, sent, its statuses signed and delivered by the sandbox, and written down."""
    app = endpoint(server, namespace).app
    async with serving(app) as url:
        options = {"webhook_url": f"{url}/meta", "app_secret": "app"}
        statuses = {"sent": 0.0, "delivered": 0.05, "read": 0.1}
        async with stage(
            server, namespace, SECRETS, statuses=statuses, **options
        ) as place:
            ident = await place.messages.add(PHONE, Text("x"))

            async def read() -> bool:
                return await place.messages.status(ident) == "read"

            await eventually(read)
            record = await place.messages.show(ident)
            assert {row["state"] for row in record.timeline} >= {
                "sent",
                "delivered",
                "read",
            }
            totals = await place.messages.totals()
            assert (totals["sent"], totals["delivered"], totals["read"]) == (1, 1, 1)


async def test_statuses_come_in_any_order_and_twice(server, namespace):
    async with (  # noqa: SIM117
        serving(endpoint(server, namespace).app) as url,
        httpx.AsyncClient() as client,
    ):
        async with stage(server, namespace, SECRETS) as place:
            ident = await place.messages.add(PHONE, Text("x"))
            await eventually(lambda: place.sent(ident) == 1)
            wamid = place.phone.taken[0].wamid

            async def tell(*words: str) -> None:
                for word in words:
                    raw = meta({"statuses": [status(wamid, word)]})
                    answer = await client.post(
                        f"{url}/meta", content=raw, headers=signed(raw)
                    )
                    assert answer.status_code == 200

            async def is_(wanted: str) -> bool:
                return await place.messages.status(ident) == wanted

            await tell("failed")
            await eventually(lambda: is_("failed"))
            await tell("delivered", "delivered")
            await eventually(lambda: is_("delivered"))
            await tell("read")
            await eventually(lambda: is_("read"))
            before = len((await place.messages.show(ident)).timeline)
            await tell("read", "sent", "delivered")

            async def noted() -> bool:
                return len((await place.messages.show(ident)).timeline) == before + 1

            await eventually(noted)
            assert await is_("read")
            assert (await place.messages.totals())["delivered"] == 1


async def test_a_webhook_resolves_an_unknown_outcome(server, namespace):
    settings = replace(SECRETS, timeout=0.3, unknown_after=3600.0)
    async with serving(endpoint(server, namespace, settings).app) as url:
        options = {
            "webhook_url": f"{url}/meta",
            "app_secret": "app",
            "statuses": {"sent": 0.5},
        }
        async with stage(server, namespace, settings, **options) as place:
            place.phone.faults = [Fault(-1, count=1)]
            ident = await place.messages.add(PHONE, Text("x"))

            async def sent() -> bool:
                return await place.messages.status(ident) == "sent"

            await eventually(sent)
            assert place.sent(ident) == 1
            assert (await place.messages.show(ident)).provider_id == place.phone.taken[
                0
            ].wamid


async def test_messages_of_people_are_published_once(server, namespace):
    rows = [
        {
            "from": PHONE,
            "id": "wamid.in",
            "timestamp": "1",
            "type": "text",
            "text": {"body": "Oi"},
        }
    ]
    raw = meta(
        {"contacts": [{"wa_id": PHONE, "profile": {"name": "Ana"}}], "messages": rows}
    )
    got: list[Event] = []
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    @pipeline.handler(INBOUND_STREAM, group="bot")
    async def handle(event: Event) -> None:
        got.append(event)

    async with (
        serving(endpoint(server, namespace).app) as url,
        httpx.AsyncClient() as client,
    ):
        running = asyncio.create_task(pipeline.run())
        for _ in range(3):
            assert (
                await client.post(f"{url}/meta", content=raw, headers=signed(raw))
            ).status_code == 200
        body = {"event": "messages.upsert", "instance": "shop", "data": {
            "key": {"id": "E1", "fromMe": False, "remoteJid": f"{PHONE}@s.whatsapp.net"},
            "message": {"conversation": "Oi"}}}  # fmt: skip
        headers = {"X-Webhook-Secret": "hook"}
        assert (
            await client.post(f"{url}/evolution", json=body, headers=headers)
        ).status_code == 200
        await eventually(lambda: len(got) == 2)
        pipeline.stop()
        await running
    assert [(e.data["text"], e.data["sender"], e.data["instance"]) for e in got] == [
        ("Oi", PHONE, "p1"),
        ("Oi", PHONE, "shop"),
    ]


async def test_a_large_batch_is_answered_soon(server, namespace):
    raw = meta({"statuses": [status(f"wamid.{n}", "delivered") for n in range(1000)]})
    async with (
        serving(endpoint(server, namespace).app) as url,
        httpx.AsyncClient(timeout=30) as client,
    ):
        at = time.monotonic()
        assert (
            await client.post(f"{url}/meta", content=raw, headers=signed(raw))
        ).status_code == 200
        assert time.monotonic() - at < 5.0


def test_evolutions_words_are_ours():
    def read(word: str) -> list[str]:
        data = {"keyId": "K", "status": word, "fromMe": True}
        return [
            str(update.status)
            for update in from_evolution({"event": "messages.update", "data": data})
        ]

    assert read("SERVER_ACK") == ["sent"]
    assert read("DELIVERY_ACK") == ["delivered"]
    assert read("READ") == read("PLAYED") == ["read"]
    assert read("ERROR") == ["failed"]
    assert read("PENDING") == []


@pytest.mark.parametrize(
    "body", [None, [], {}, {"entry": 1}, {"entry": [{"changes": [{"field": "messages", "value": 3}]}]},
             {"entry": [{"changes": [{"field": "messages", "value": {"statuses": [{"id": 1, "status": "read"}]}}]}]}]
)  # fmt: skip
def test_what_is_none_of_ours_is_passed_over(body):
    assert list(from_meta(body)) == []
    assert list(from_evolution(body)) == []


def test_failures_name_their_reason_and_the_fixture_is_metas():
    value = json.loads(
        meta(
            {
                "statuses": [
                    status("w", "failed", errors=[{"code": 131047, "title": "x"}])
                ]
            }
        )
    )
    (update,) = from_meta(value)
    assert (update.code, update.reason) == ("131047", "window_closed")
    schemas = json.loads(
        (Path(__file__).parent / "contracts" / "meta-messages.json").read_text()
    )
    fine = json.loads(meta({"statuses": [status("w", "sent")]}))["entry"][0]["changes"][
        0
    ]["value"]
    jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/StatusMessageValue", **schemas}
    ).validate(fine)


def test_the_signature_is_that_of_the_bytes():
    raw = b'{"text":"\\u00e9"}'
    assert signed_by_meta(raw, signed(raw)["X-Hub-Signature-256"], "app")
    assert not signed_by_meta(
        '{"text":"é"}'.encode(), signed(raw)["X-Hub-Signature-256"], "app"
    )
