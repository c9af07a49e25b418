"""Typed handlers, upcasters and types that nobody serves, from publishing to the dead letters and back."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
from datetime import UTC, datetime
from decimal import Decimal

import pydantic
import pytest
from typer.testing import CliRunner

from streams import Event, Pipeline, Retry, Settings
from streams.cli.app import app
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal


@dataclasses.dataclass
class Order:
    id: int
    placed: datetime
    lines: list[Line]


class Payment(pydantic.BaseModel):
    order: Order
    phone: str = ""


PLACED = datetime(2026, 1, 2, tzinfo=UTC)
ORDER = Order(1, PLACED, [Line("a", Decimal("1.10"))])


@pytest.fixture
def pipeline(server, namespace, monkeypatch) -> Pipeline:
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)
    return Pipeline(settings=Settings(url=server.url, namespace=namespace))


@contextlib.asynccontextmanager
async def serving(pipeline: Pipeline):
    task = asyncio.create_task(pipeline.run())
    try:
        async with pipeline:
            yield
    finally:
        while not task.done():
            pipeline.stop()
            await asyncio.wait([task], timeout=0.05)
        task.result()


async def dead(pipeline: Pipeline, count: int = 1):
    async def there():
        letters = await pipeline.dead_letters("orders", "g").page()
        return letters if len(letters) == count else None

    await eventually(there, what="the dead letters")
    return await pipeline.dead_letters("orders", "g").page()


async def test_each_route_has_its_own_type(pipeline):
    seen = []

    @pipeline.handler("orders", group="g", types=["order.created"])
    async def created(event: Event[Order]) -> None:
        seen.append(event.data)

    @pipeline.handler("orders", group="g", types=["order.paid"])
    def paid(event: "Event[Payment]") -> None:
        seen.append(event.data)

    @pipeline.handler("orders", group="g")
    async def rest(event: Event) -> None:
        seen.append(event.data)

    async with serving(pipeline):
        for data, kind in [
            (ORDER, "order.created"),
            (Payment(order=ORDER), "order.paid"),
            (ORDER, "order.sent"),
        ]:
            await pipeline.publish("orders", data, type=kind)
            await eventually(lambda: seen, what="the handler")
            expected = (
                data
                if kind != "order.sent"
                else json.loads(json.dumps(dataclasses.asdict(ORDER), default=str))
            )
            got = seen.pop()
            if kind == "order.sent":
                got["placed"] = got["placed"].replace("T", " ")
            assert got == expected


async def test_what_does_not_fit_dies_at_once_without_its_values(pipeline, caplog):
    seen = []

    @pipeline.handler("orders", group="g", retry=Retry(max_retries=5, delay=0.0))
    async def paid(event: Event[Payment]) -> None:
        seen.append(event.data)

    async with serving(pipeline):
        with caplog.at_level(logging.DEBUG):
            receipt = await pipeline.publish(
                "orders", {"order": {"id": "hush"}, "phone": 5511999999999}, type="paid"
            )
            (letter,) = await dead(pipeline)
        assert (letter.reason, letter.attempts, letter.event_id, letter.type) == (
            "invalid", 0, receipt.event_id, "paid",
        )  # fmt: skip
        (error,) = letter.errors
        assert error["type"] == "streams.errors.InvalidData"
        assert (
            "order.id: Input should be a valid integer, unable to parse string as an integer"
            in error["message"]
        )
        assert "phone: Input should be a valid string (string_type)" in error["message"]
        stored = await pipeline.dead_letters("orders", "g").page()
        for text in (str(error), caplog.text, repr(stored)):
            assert "hush" not in text
            assert "551199999" not in text
        assert "reason" not in caplog.text or receipt.event_id in str(
            [r.__dict__ for r in caplog.records]
        )
    assert seen == []


async def test_upcasters_on_the_way(pipeline):
    seen = []

    @pipeline.handler("orders", group="g", types=["order.created"])
    async def created(event: Event[Order]) -> None:
        seen.append((event.data.id, event.version, json.loads(event.raw)))

    @pipeline.handler("orders", group="g")
    async def rest(event: Event) -> None:
        seen.append((event.data, event.version, json.loads(event.raw)))

    @pipeline.upcaster("order.created", from_version=None, to_version="1")
    def numbered(data):
        return {"number": data}

    @pipeline.upcaster("order.created", from_version="1", to_version="2")
    def renamed(data):
        return {"id": data.pop("number"), "placed": "2026-01-02T00:00:00Z", "lines": []}

    @pipeline.upcaster("untyped", from_version="1", to_version="2")
    def failing(data):
        return {"total": data["total"] + 1}

    async with serving(pipeline):
        cases = [
            ("order.created", 5, None, (5, "2", 5)),
            ("order.created", {"number": 6}, "1", (6, "2", {"number": 6})),
            ("order.created", {"id": 7, "placed": PLACED, "lines": []}, "2", None),
            ("untyped", {"total": 1}, "1", ({"total": 2}, "2", {"total": 1})),
            ("untyped", {"total": 1}, None, ({"total": 1}, None, {"total": 1})),
        ]
        for kind, data, version, expected in cases:
            await pipeline.publish(
                "orders",
                data,
                type=kind,
                **({} if version is None else {"version": version}),
            )
            await eventually(lambda: seen, what="the handler")
            got = seen.pop()
            assert got == expected or (expected is None and got[:2] == (7, "2"))
        await pipeline.publish("orders", {}, type="untyped", version="1")
        (letter,) = await dead(pipeline)
    assert (letter.reason, letter.attempts) == ("invalid", 0)
    assert (
        "from version 1 to 2 raised KeyError: 'total'" in letter.errors[-1]["message"]
    )


async def test_a_type_that_nobody_served_is_handled_after_a_deploy_and_a_replay(
    pipeline, server, namespace
):
    seen = []

    @pipeline.handler("orders", group="g", types=["order.created"])
    async def created(event: Event) -> None: ...

    async with serving(pipeline):
        receipt = await pipeline.publish("orders", {"id": 1}, type="order.paid")
        (letter,) = await dead(pipeline)
        assert (letter.reason, letter.type, letter.event_id) == (
            "no-handler",
            "order.paid",
            receipt.event_id,
        )

    deployed = Pipeline(settings=pipeline.settings)

    @deployed.handler("orders", group="g", types=["order.created", "order.paid"])
    async def both(event: Event) -> None:
        seen.append((event.id, event.data, event.attempt, event.replays))

    async with serving(deployed):
        command = [
            "dead",
            "replay",
            "orders",
            "g",
            "--reason",
            "no-handler",
            "--yes",
            "--json",
        ]
        env = {**os.environ, "STREAMS_URL": server.url, "STREAMS_NAMESPACE": namespace}
        done = await asyncio.to_thread(CliRunner().invoke, app, command, env=env)
        assert json.loads(done.stdout)["replayed"] == 1, done.output
        await eventually(lambda: seen, what="the replayed event")
        assert await deployed.dead_letters("orders", "g").page() == []
    assert seen == [(receipt.event_id, {"id": 1}, 1, 1)]
