"""``streams run-now``, ``find``, ``workers``, ``audit``, ``dead edit`` and ``dead replays``, as they are typed."""

from __future__ import annotations

import asyncio
import json

from streams import Event, Pipeline, Retry, Settings
from tests.conftest import eventually
from tests.dashboard.board import trouble
from tests.process.test_cli_keys import PHONE, typed


async def test_an_operator_mends_in_a_terminal(make_server, binary):
    server = make_server(binary)
    url = ("--url", server.url)
    await trouble(server, "streams", [PHONE])
    shown = await typed("run-now", "orders", "later-0", *url)
    assert "later-0 on orders, level 0 is due now: it was scheduled, due " in shown
    found = json.loads(
        await typed(
            "run-now", "orders", "waits-0 ", "--group", "billing", "--json", *url
        )
    )
    assert [(row["was"], row["group"]) for row in found["due_now"]] == [
        ("retrying", "billing")
    ]
    assert "is dead" in await typed("run-now", "orders", "dies-0 ", *url, code=1)
    assert "no trace" in await typed("run-now", "orders", "nothing", *url, code=3)

    assert "orders/billing" in await typed("find", "dies-0 ", *url)
    found = json.loads(await typed("find", "billing", "--json", *url))
    assert (found["states"], found["matches"], found["left_out"]) == ([], [], [])
    assert "no event has this id" in await typed("find", "billing", *url, code=3)
    assert "find what?" in await typed("find", "", *url, code=2)
    assert (
        len(
            json.loads(
                await typed("find", PHONE, "--stream", "orders", "--json", *url)
            )["matches"]
        )
        > 2
    )

    letters = json.loads(
        await typed(
            "dead", "ls", "orders", "billing", "--text", "oserror", "--json", *url
        )
    )
    (letter,) = letters["dead_letters"]
    refused = await typed(
        "dead", "edit", "orders", "billing", letter["id"], "--data", "{x", *url, code=2
    )
    assert "no JSON" in refused
    shown = await typed(
        "dead", "edit", "orders", "billing", letter["id"], "--data", '{"say": 1}', *url
    )
    assert f"replayed {letter['id']} with another body: it is 0|" in shown
    assert "has no dead letter" in await typed(
        "dead", "edit", "orders", "billing", letter["id"], "--data", "1", *url, code=3
    )
    (row,) = json.loads(
        await typed("dead", "replays", "orders", "billing", "--json", *url)
    )["replays"]
    assert (row["edited"], row["count"], row["now"]) == (True, 1, {"waiting": 1})
    assert "DEAD AGAIN" in await typed("dead", "replays", "orders", "billing", *url)

    rows = json.loads(await typed("audit", "orders", "--json", *url))["rows"]
    assert [row["action"] for row in rows[:3]] == [
        "edit-and-replay",
        "run-now",
        "run-now",
    ]
    assert "run-now" in await typed("audit", "orders", *url)
    assert "no stream" in await typed("audit", "nowhere", *url, code=3)


async def test_who_works_and_on_what(make_server, binary):
    server, free = make_server(binary), asyncio.Event()
    pipeline = Pipeline(settings=Settings(url=server.url))

    @pipeline.handler("orders", group="billing", concurrency=3, retry=Retry())
    async def work(event: Event) -> None:
        await free.wait()

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as other:
        await other.publish("orders", 1, type=PHONE, id="held")

        async def busy() -> bool:
            told = await typed("workers", "--in-hand", "--json", "--url", server.url)
            return any(worker["in_hand"] for worker in json.loads(told)["workers"])

        await eventually(busy, seconds=20, what="the event in a worker's hand")
        assert "orders/billing" in await typed(
            "workers", "--in-hand", "--url", server.url
        )
        free.set()
    pipeline.stop()
    await running
