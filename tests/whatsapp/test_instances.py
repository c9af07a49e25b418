"""Instances that the server knows, and what is heard of their connections."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import httpx
import pytest

from streams import NotFound
from streams.errors import BrokerError, ConfigurationError
from streams.settings import Settings
from streams.whatsapp import Application, Text, WhatsAppSettings
from streams.whatsapp.connections import Connections
from streams.whatsapp.instances import Instances
from streams.whatsapp.providers.base import Connection
from streams.whatsapp.registry import InstanceRegistry
from streams.whatsapp.status import STREAM
from streams.whatsapp.webhooks.app import WebhookApp
from tests.conftest import eventually
from tests.whatsapp.servers import serving
from tests.whatsapp.stage import PHONE, QUICK, stage
from tests.whatsapp.test_cli_whatsapp import settings as environment_of
from tests.whatsapp.test_cli_whatsapp import typed
from tests.whatsapp.test_sender import status_is


async def test_instances_of_the_server_send_and_no_others(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.whatsapp.instances._FRESH", 0.0)
    async with stage(server, namespace) as place:
        await status_is(
            place, await place.messages.add(PHONE, Text("x"), instance=5), "sent"
        )
        registry = InstanceRegistry(place.application.pipeline.asynchronous)
        assert await registry.add(
            "7", {"provider": "cloud", "name": "p7", "token_env": "SHOP"}
        )
        blocked = await place.messages.add(PHONE, Text("x"), instance=7)
        # The secret is not there: held, and nothing fails.
        await status_is(place, blocked, "retrying")
        assert (await place.messages.show(blocked)).reason == "no_secret"
        wrong = await place.messages.add(PHONE, Text("x"), instance=5)
        await status_is(place, wrong, "failed")
        assert (await place.messages.show(wrong)).reason == "no_instance"
        await registry.remove("7")
        with pytest.raises(NotFound, match="no instance 7"):
            await registry.remove("7")
        await status_is(
            place, await place.messages.add(PHONE, Text("x"), instance=6), "sent"
        )


async def test_a_secret_is_looked_up_where_it_is_named(server, namespace):
    application = Application(
        Settings(url=server.url, namespace=namespace),
        WhatsAppSettings(),
        {"SHOP": "secret"},
    )
    async with application.pipeline.asynchronous as pipeline:
        registry = InstanceRegistry(pipeline)
        await registry.add(
            "7", {"provider": "cloud", "name": "p7", "token_env": "SHOP", "waba": "w"}
        )
        assert not await registry.add(
            "7", {"provider": "cloud", "name": "p8", "token_env": "SHOP", "waba": "w"}
        )
        await application.instances.refresh(pipeline)
        (found,) = application.instances.all()
        assert (found.id, found.called, found.token, found.waba) == (
            "7",
            "p8",
            "secret",
            "w",
        )
        assert application.instances.waba_of("7") == "w"
        stored = await pipeline.broker.control.call(
            "HGETALL", pipeline.broker.keys(STREAM).records("instances")
        )
        assert b"secret" not in b"".join(stored)
        # One that is fresh is not asked for again.
        await registry.remove("7")
        await application.instances.refresh(pipeline)
        assert application.instances.get("7") == found


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"provider": "pigeon"}, "cloud, evolution or sandbox"),
        ({"provider": "cloud"}, "token_env or token_file"),
        ({"provider": "sandbox", "token": "secret"}, "by reference only"),
        ({"provider": "sandbox", "name": 7}, "by reference only"),
    ],
)
async def test_what_cannot_be_right_is_refused(server, namespace, row, complaint):
    application = Application(
        Settings(url=server.url, namespace=namespace), WhatsAppSettings(), {}
    )
    async with application.pipeline.asynchronous as pipeline:
        with pytest.raises(ConfigurationError, match=complaint) as caught:
            await InstanceRegistry(pipeline).add("7", row)
        assert "secret'" not in str(caught.value)
        assert await InstanceRegistry(pipeline).all() == {}


async def test_an_outage_leaves_what_was_known(server, namespace, make_server, binary):
    application = Application(
        Settings(url=server.url, namespace=namespace), WhatsAppSettings(), {}
    )
    async with application.pipeline.asynchronous as pipeline:
        await InstanceRegistry(pipeline).add("7", {"provider": "sandbox"})
        await application.instances.refresh(pipeline)
    gone = Instances(WhatsAppSettings(), {})
    away = make_server(binary)
    async with Application(
        Settings(url=away.url, timeout=0.2), WhatsAppSettings(), {}
    ).pipeline.asynchronous as pipeline:
        away.close()
        with pytest.raises(BrokerError):
            await gone.refresh(pipeline)
        application.instances._asked = -100.0
        await application.instances.refresh(pipeline)
    assert application.instances.get("7") is not None


async def connection_is(
    connections: Connections, expected: tuple[Connection, str, str]
) -> None:
    """Wait for what the instance p1 is said to be: it is noted after the status of the message, by another write."""

    async def noted() -> bool:
        seen = (await connections.all()).get("p1")
        return seen is not None and (seen.state, seen.source, seen.reason) == expected

    await eventually(noted, what=f"the connection that is noted as {expected}")


async def test_what_sending_and_webhooks_say_of_a_connection_is_seen(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.whatsapp.sender._PROBE", 600.0)
    settings = replace(QUICK, webhook_secret="s", phone_number_id="p1")
    async with stage(server, namespace, settings) as place:
        pipeline = place.application.pipeline.asynchronous
        connections = Connections(pipeline)
        await status_is(
            place, await place.messages.add(PHONE, Text("x"), instance="p1"), "sent"
        )
        await connection_is(connections, (Connection.OPEN, "sender", ""))
        place.phone.disconnected.add("p1")
        ident = await place.messages.add(PHONE, Text("x"), instance="p1", max_retries=0)
        await status_is(place, ident, "retrying")
        await connection_is(
            connections, (Connection.CLOSED, "sender", "not_registered")
        )

        async def held() -> bool:
            return [pause.by for pause in await pipeline.pauses(STREAM).list()] == [
                "breaker"
            ]

        await eventually(held, what="the breaker is open, for ten minutes")
        waits = await place.messages.add("5511999990009", Text("x"), instance="p1")
        place.phone.disconnected.clear()
        webhook = WebhookApp(pipeline.twin(), place.application.settings)
        async with serving(webhook.app) as url, httpx.AsyncClient() as client:

            async def tell(state: str) -> None:
                body = {
                    "event": "connection.update",
                    "instance": "p1",
                    "data": {"state": state, "statusReason": 401},
                }
                head = {"X-Webhook-Secret": "s"}
                assert (
                    await client.post(f"{url}/evolution", json=body, headers=head)
                ).status_code == 200

            await tell("close")

            await connection_is(connections, (Connection.CLOSED, "webhook", "401"))
            await pipeline.pauses(STREAM).pause(instance="other")
            await tell("open")
            await status_is(place, waits, "sent")
        assert [pause.value for pause in await pipeline.pauses(STREAM).list()] == [
            "other"
        ]


async def test_they_are_added_shown_and_removed_in_a_terminal(server, namespace):
    environment = environment_of(
        server,
        namespace,
        STREAMS_WHATSAPP_PROVIDER="sandbox",
        SHOP="secret",
        COLUMNS="200",
    )
    add = (
        "instances",
        "add",
        "7",
        "--provider",
        "cloud",
        "--name",
        "106540352242922",
        "--token-env",
        "SHOP",
    )
    said = await typed(environment, *add)
    assert "added instance 7" in said
    assert "only instances that are written down send" in said
    assert "changed instance 7" in await typed(environment, *add, "--waba", "w")
    assert "token_env or token_file" in await typed(environment, *add[:5], code=2)
    (row,) = json.loads(await typed(environment, "instances", "ls", "--json"))[
        "instances"
    ]
    assert (row["id"], row["provider"], row["connection"], row["seen"]) == (
        "7",
        "cloud",
        "",
        None,
    )
    assert "106540352242922" not in json.dumps(row)
    await asyncio.gather(
        typed(environment, "instances", "add", "8", "--provider", "sandbox")
    )
    said = await typed(environment, "instances", "ls", "--check")
    assert "open" in said
    assert "removed instance 7" in await typed(environment, "instances", "rm", "7")
    assert "no instance 7" in await typed(environment, "instances", "rm", "7", code=3)


async def test_news_that_cannot_be_written_leave_the_message_sent(server, namespace):
    """A key of the wrong type in the place of the connections: what was sent stays sent."""
    async with stage(server, namespace) as place:
        broker = place.application.pipeline.asynchronous.broker
        await broker.control.call(
            "SET", broker.keys(STREAM).records("connections"), "x"
        )
        ident = await place.messages.add(PHONE, Text("x"), max_retries=0)
        await status_is(place, ident, "sent")
        assert place.sent(ident) == 1
        assert (await place.messages.show(ident)).reason == ""
