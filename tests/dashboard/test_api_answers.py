"""What the API answers: each operation as its document says, and each field of an event."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from streams import Pipeline, Settings
from streams.cli.app import app
from streams.dashboard import Role, Token, Tokens
from streams.dashboard import told as own
from streams.dashboard.schemas import ATTRIBUTES
from streams.dashboard.tokens import hashed
from streams.dashboard.told import told_of
from streams.errors import ConfigurationError
from streams.events.event import EventAttributes
from tests.conftest import eventually
from tests.dashboard import conftest
from tests.dashboard.api import GROUP, OPERATIONS, api
from tests.dashboard.board import trouble
from tests.whatsapp.stage import PHONE, stage

TOLD = {operation.name: told_of(operation) for operation in OPERATIONS}

TAGS = {**own.TAGS, "messages": "of an application"}


def test_every_operation_says_what_it_is_and_what_it_answers():
    for name, told in TOLD.items():
        assert told.tag in TAGS, name
        assert told.text.endswith("."), name
        assert told.answer, name


def test_every_answer_with_a_property_that_nobody_told_of_is_found():
    for told in TOLD.values():
        assert list(conftest.closed(told.answer).iter_errors({"more": 1}))
    row = {
        "stream": "s",
        "stored": 1,
        "scheduled": 0,
        "groups": [],
        "paused": [],
        "partitions": [],
        "undeclared": {},
    }
    view: dict[str, Any] = {"row": row, "groups": []}
    assert not list(conftest.closed(TOLD["getStream"].answer).iter_errors(view))
    view["row"]["more"] = 1  # Inside, too.
    assert list(conftest.closed(TOLD["getStream"].answer).iter_errors(view))


async def test_every_operation_answers_as_its_document_says(server, namespace):
    """The fixture of this directory compares each answer with the document; here is one of each."""
    await trouble(server, namespace, ["one", "two"])
    conftest.seen.clear()
    async with stage(server, namespace), api(server, namespace) as clients:
        viewer, operator, admin, shop = (
            clients[name] for name in ("viewer", "operator", "admin", "shop")
        )
        event = {"type": "works", "data": 1}
        sent = [
            await shop.post("/streams/orders/events", json=event),
            await shop.post("/streams/orders/batches", json={"events": [event, event]}),
            await shop.post("/messages", json={"to": PHONE, "text": "Olá!"}),
        ]
        assert [reply.status_code for reply in sent] == [201] * 3
        letters = (await viewer.get(f"{GROUP}/dead")).json()["letters"]
        replies = [
            await viewer.get(path)
            for path in (
                "/streams", "/streams/orders", "/streams/orders/events/waits-0 one",
                "/streams/orders/why?event=later-0", "/streams/orders/audit", f"{GROUP}/limits",
                f"{GROUP}/held", f"{GROUP}/workers/worker-1", "/doctor", "/workers", "/search?q=one",
                f"/messages/{sent[2].json()['message_id']}",
            )
        ]  # fmt: skip
        replies += [
            await client.post(path, json=body)
            for client, path, body in (
                (admin, "/streams/orders/events/dies-0 one/reveal", {}),
                (operator, "/streams/orders/events/later-0/run-now", {}),
                (operator, "/streams/orders/events/later-1/cancel", {}),
                (
                    operator,
                    "/streams/orders/pause",
                    {"attribute": "tenant", "value": "x", "reason": "why"},
                ),
                (
                    operator,
                    "/streams/orders/resume",
                    {"attribute": "tenant", "value": "x"},
                ),
                (operator, f"{GROUP}/dead/replay", {"ids": [letters[0]["id"]]}),
                (admin, f"{GROUP}/dead/edit", {"letter": letters[1]["id"], "data": 1}),
                (operator, f"{GROUP}/dead/discard", {"filter": {}, "dry_run": True}),
                (operator, f"{GROUP}/dead/discard", {"filter": {}}),
            )
        ]
        replies.append(await viewer.get(f"{GROUP}/replays"))
        assert [reply.status_code for reply in replies] == [200] * len(replies), [
            reply.text for reply in replies
        ]
    # A key that is held, and a limit, have tests of their own.
    assert set(TOLD) - conftest.seen == {"releaseKey", "skipKey", "setLimit"}


def test_the_document_is_printed_without_a_server():
    printed = CliRunner().invoke(app, ["dashboard", "--openapi"])
    told = orjson.loads(printed.output)
    assert (printed.exit_code, told["security"]) == (0, [{"token": []}])
    assert len([row for rows in told["paths"].values() for row in rows]) == len(
        OPERATIONS
    )


def test_every_attribute_of_an_event_can_be_published():
    assert set(ATTRIBUTES) == {
        *EventAttributes.__annotations__,
        "type",
        "data",
        "data_base64",
    }


async def test_an_event_arrives_with_all_that_was_sent(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    given = {
        "id": "e-1", "priority": 5, "key": "k", "tenant": "acme", "instance": "i", "source": "/shop", "subject": "s",
        "time": "2026-11-30T10:00:00Z", "datacontenttype": "application/vnd.shop+json", "dataschema": "https://x/y",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b",
        "max_retries": 2, "retry_delay": 1.5, "version": "2", "headers": {"region": "br", "weight": 1.5, "vip": True},
    }  # fmt: skip
    seen: list[Any] = []

    @pipeline.handler("orders", group="billing")
    async def work(event: Any) -> None:
        seen.append(event)

    async with api(server, namespace) as clients:
        for body in (
            {
                "type": "t",
                "data": {"n": 1},
                **given,
                "dedup_id": "d",
                "expires": 600,
                "delay": 0,
            },
            {"type": "t", "data_base64": base64.b64encode(b"\x00\xff").decode()},
            {"type": "t", "data": "Olá", "datacontenttype": "text/plain"},
        ):
            reply = await clients["shop"].post("/streams/orders/events", json=body)
            assert reply.status_code == 201, reply.text
        running = asyncio.create_task(pipeline.run())
        await eventually(lambda: len(seen) == 3, what="the events")
        pipeline.stop()
        await running
    found = next(event for event in seen if event.id == "e-1")
    assert (found.data, found.priority, found.headers) == (
        {"n": 1},
        5,
        given["headers"],
    )
    assert {name: found.meta[name] for name in given if name in found.meta} == {
        name: value
        for name, value in given.items()
        if name not in ("id", "priority", "headers")
    }
    assert found.expires is not None
    assert sorted(str(event.data) for event in seen if event.id != "e-1") == [
        "Olá",
        "b'\\x00\\xff'",
    ]


async def test_resuming_says_what_was_resumed_and_what_remains(server, namespace):
    await trouble(server, namespace, ["one"])
    async with api(server, namespace) as clients:
        operator = clients["operator"]

        async def resumed(**named: Any) -> tuple[list[str], list[str]]:
            reply = await operator.post("/streams/orders/resume", json=named)
            assert reply.status_code == 200
            ended, remaining = reply.json()["resumed"], reply.json()["remaining"]
            return [each["scope"] for each in ended], [
                each["scope"] for each in remaining
            ]

        tenant = {"attribute": "tenant", "value": PHONE}
        await operator.post("/streams/orders/resume", json={})
        for held in ({"level": 5}, tenant):
            await operator.post(
                "/streams/orders/pause", json={**held, "reason": f"asked by {PHONE}"}
            )
        ended, remaining = await resumed()
        assert (ended, "level=5" in remaining) == ([], True)
        ended, remaining = await resumed(level=5)
        assert (ended, "level=5" in remaining) == (["level=5"], False)
        reply = await operator.post("/streams/orders/resume", json=tenant)
        assert len(reply.json()["resumed"]) == 1
        assert PHONE not in reply.text


def test_a_token_is_for_its_streams(tmp_path):
    path = tmp_path / "users.toml"
    digest = f'sha256 = "{hashed("st_x")}"'
    path.write_text(
        f'[tokens.shop]\n{digest}\nrole = "operator"\npublish = true\nstreams = ["orders", "invoices-*"]\n'
    )
    token = Tokens.read(path).find("Bearer st_x")
    assert token == Token(
        "shop", Role.OPERATOR, publishes=True, streams=("orders", "invoices-*")
    )
    names = ("orders", "invoices-br", "orders2", "orders.p1", "invoices", "")
    assert [token.reaches(name) for name in names] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert Token("all", Role.VIEWER).reaches("")
    for wrong in ('"orders"', "[]", '["a b"]', "[1]", '["[ab]"]'):
        path.write_text(
            f'[tokens.shop]\n{digest}\nrole = "viewer"\nstreams = {wrong}\n'
        )
        with pytest.raises(ConfigurationError, match="a list of names"):
            Tokens.read(path)


async def test_the_document_makes_a_client_whose_answers_have_types(server, namespace):
    """What generators need: a name for each schema, and no answer without one."""
    async with api(server, namespace) as clients:
        told = (await clients["viewer"].get("/openapi.json")).json()
    names = set(told["components"]["schemas"])
    for path, rows in told["paths"].items():
        for method, row in rows.items():
            assert row["tags"], (method, path)
            assert row["description"], (method, path)
            assert all(parameter["description"] for parameter in row["parameters"]), (
                method,
                path,
            )
            for status, answer in row["responses"].items():
                assert answer["description"], (method, path)
                (content,) = answer["content"].values()
                assert content["schema"], (method, path, status)
    referred = {
        part.split('"')[0]
        for part in orjson.dumps(told).decode().split("#/components/schemas/")[1:]
    }
    assert referred <= names
