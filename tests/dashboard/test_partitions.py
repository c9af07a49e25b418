"""On the dashboard and in the API a stream's name means all of its partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from streams import Settings
from tests.dashboard.board import Board, board, do, token_in
from tests.partitioned import ALL, COUNT, KEYS, Spread
from tests.servers import Server


@pytest.fixture
async def spread(
    server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Spread:
    monkeypatch.setattr("streams.worker.assignment.BEAT", 0.1)
    made = Spread(Settings(url=server.url, namespace=namespace, lease=2.0))
    await made.fill()
    return made


@pytest.fixture
async def alone(spread: Spread, server: Server, namespace: str) -> AsyncIterator[Board]:
    """A dashboard for who is on this machine."""
    async with board(server, namespace, accounts={}) as made:
        yield made


async def ask(
    client: httpx.AsyncClient, method: str, path: str, body: Any = None, code: int = 200
) -> Any:
    reply = await client.request(method, f"/api/v1{path}", json=body)
    assert reply.status_code == code, reply.text
    return reply.json()


async def test_the_api(alone: Board, spread: Spread) -> None:
    client = alone.client(Accept="application/json")
    listed = await ask(client, "GET", "/streams")
    assert [view["row"]["stream"] for view in listed["streams"]] == ALL
    (total,) = listed["totals"]
    assert (total["row"]["stream"], total["row"]["scheduled"]) == ("orders", COUNT)
    one = await ask(client, "GET", "/streams/orders")
    assert (one["row"]["scheduled"], len(one["row"]["partitions"])) == (COUNT, COUNT)
    assert (await ask(client, "GET", "/streams/orders?partition=2"))["row"][
        "scheduled"
    ] == 1
    await ask(client, "GET", "/streams/orders?partition=7", code=404)
    await ask(client, "GET", "/streams/orders?partition=x", code=400)
    paused = [len(row) for row in await spread.read(lambda keys: keys.paused())]
    await ask(client, "POST", "/streams/orders/pause", {"reason": "all"})
    assert [len(row) for row in await spread.read(lambda keys: keys.paused())] == [
        count + 1 for count in paused
    ]
    await ask(client, "POST", "/streams/orders/resume?partition=2", {})
    assert [len(row) for row in await spread.read(lambda keys: keys.paused())] == [
        1,
        1,
        0,
        1,
    ]
    rows = (await ask(client, "GET", "/streams/orders/audit"))["rows"]
    assert {row["partition"] for row in rows if row["action"] == "pause"} == {
        "0",
        "1",
        "2",
        "3",
    }
    (state,) = (await ask(client, "GET", "/streams/orders/events/later-3"))["states"]
    assert state["stream"] == "orders.p3"
    await ask(
        client,
        "POST",
        "/streams/orders/events/later-3/cancel?partition=1",
        {},
        code=404,
    )
    gone = await ask(client, "POST", "/streams/orders/events/later-3/cancel", {})
    assert gone["cancelled"]["stream"] == "orders.p3"
    group = "/streams/orders/groups/g"
    letters = (await ask(client, "GET", f"{group}/dead"))["letters"]
    assert {letter["stream"] for letter in letters} == set(ALL)
    await ask(client, "POST", f"{group}/limits", {"limit": "key", "rate": "5/s"})
    assert all(
        b"key" in row for row in await spread.read(lambda keys: keys.limits("g"))
    )
    assert len((await ask(client, "GET", f"{group}/held"))["keys"]) == COUNT
    await ask(client, "POST", f"{group}/held/skip", {"key": KEYS[2]})
    assert len((await ask(client, "GET", f"{group}/held"))["keys"]) == COUNT - 1
    done = await ask(client, "POST", f"{group}/dead/replay", {"filter": {}})
    assert done == {"matched": COUNT, "moved": COUNT}
    await ask(
        client, "POST", f"{group}/limits", {"limit": "key", "throttle": 60, "key": "x"}
    )
    await ask(
        client, "POST", f"{group}/limits", {"limit": "key", "throttle": 0, "key": "x"}
    )
    rows = (await ask(client, "GET", "/streams/orders/audit"))["rows"]
    assert {"limit throttled", "limit throttle ended"} <= {
        row["action"] for row in rows
    }
    await ask(
        client, "POST", f"{group}/limits", {"limit": "key", "throttle": 60}, code=422
    )
    await ask(
        client,
        "POST",
        f"{group}/limits",
        {"limit": "key", "throttle": 60, "rate": "1/s", "key": "x"},
        code=422,
    )


async def test_the_pages(alone: Board, spread: Spread) -> None:
    client = alone.client()
    overview = (await client.get("/")).text
    assert f"{COUNT} partitions" in overview
    assert "orders.p1" not in overview
    page = (await client.get("/streams/orders")).text
    assert all(f"/streams/{name}?group=g" in page for name in ALL)
    first = (await client.get("/streams/orders?group=g&partition=0")).text
    assert "Partition 0" in first
    assert "waits-0" in first
    assert "waits-1" not in first
    assert 'action="/streams/orders/pause"' not in first, (
        "what is done here would be done to all"
    )
    assert "waits-2" in (await client.get("/streams/orders.p2")).text
    dead = (await client.get("/streams/orders/dead?group=g")).text
    assert all(f"bad-{number}" in dead for number in range(COUNT))
    await do(
        client,
        "/streams/orders/pause",
        {"token": token_in(page), "group": "g", "attribute": "", "value": ""},
    )
    assert all(await spread.read(lambda keys: keys.paused()))


async def test_a_group_is_looked_up_on_the_partition_that_is_named(
    alone: Board, spread: Spread
) -> None:
    client, group = alone.client(), "/streams/orders/groups/g"
    for path in ("replays", "workers/w", "held", "limits", "dead"):
        await ask(client, "GET", f"{group}/{path}?partition=3")
        refused = await ask(client, "GET", f"{group}/{path}?partition=7", code=404)
        assert refused["code"] == "not-found"
    key = {"key": KEYS[2]}
    await ask(client, "POST", f"{group}/held/skip?partition=7", key, code=404)
    assert len((await ask(client, "GET", f"{group}/held"))["keys"]) == COUNT
    await ask(client, "POST", f"{group}/held/skip?partition=2", key)
    assert len((await ask(client, "GET", f"{group}/held"))["keys"]) == COUNT - 1


async def test_a_worker_has_in_hand_on_one_partition_only_its_own(
    alone: Board, spread: Spread
) -> None:
    async with spread.pipeline() as pipeline:
        for stream in ALL:
            level = pipeline.broker.keys(stream).level(0)
            take = ("XREADGROUP", "GROUP", "g", "w", "COUNT", 1, "STREAMS", level, ">")
            await pipeline.broker.control.call(*take)
    client, path = alone.client(), "/streams/orders/groups/g/workers/w"
    assert len((await ask(client, "GET", path))["in_hand"]) == COUNT
    (one,) = (await ask(client, "GET", f"{path}?partition=2"))["in_hand"]
    assert one["event_id"] == "waits-2"
