"""Throttles, and limits that an operator sets: what holds at once, for which key, and until when."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any

import pytest
from typer.testing import CliRunner

from streams import (
    Broker,
    ConfigurationError,
    Event,
    Limit,
    Limits,
    NotFound,
    Producer,
    Throttle,
)
from streams.broker.admin.listing import Listing
from streams.cli.app import app
from streams.policy.limit import Rate
from tests.conftest import eventually
from tests.server.asking import Hands
from tests.server.limiting import (
    SLACK,
    consuming,
    most_at_once,
    parked,
    parked_at_least,
    server_now,
    states,
)

# --- Throttle


async def test_throttle_holds_back_its_key_and_no_other(broker):
    starts: defaultdict[str, list[float]] = defaultdict(list)

    async def handler(event: Event) -> None:
        starts[event.tenant].append(time.monotonic())
        if event.tenant == "a" and len(starts["a"]) == 1:
            raise Throttle("tenant", 0.7)

    producer = Producer(broker, "s")
    async with consuming(broker, handler, Limit("tenant")) as consumers:
        await producer.publish(0, type="t", tenant="a")
        await eventually(lambda: consumers[0].stats.snoozed == 1, what="the first")
        await eventually(lambda: states(broker), what="the throttle")
        await producer.publish_many(
            Event("t", n, tenant=t) for n in range(3) for t in ("a", "b")
        )
        await eventually(lambda: len(starts["b"]) == 3, what="the others")
        assert len(starts["a"]) == 1
        await eventually(lambda: len(starts["a"]) == 5, what="all")
        assert consumers[0].stats.retried == 0
    assert starts["a"][1] - starts["a"][0] >= 0.69


async def test_throttle_of_another_key_and_of_an_unknown_limit(broker):
    seen: list[str] = []

    async def handler(event: Event) -> None:
        seen.append(event.data)
        if event.data == "wide":
            raise Throttle("all", 30.0, key="everything")
        if event.data == "unknown":
            raise Throttle("nobody", 0.01)

    limits = Limit("tenant"), Limit(lambda _: "everything", name="all")
    producer = Producer(broker, "s")
    async with consuming(broker, handler, *limits):
        await producer.publish("unknown", type="t")
        await eventually(
            lambda: seen.count("unknown") >= 2, what="it to come back at its time"
        )
        await producer.publish("wide", type="t")
        await eventually(lambda: states(broker), what="the throttle")
        before = len(seen)
        await producer.publish("later", type="t")
        await eventually(lambda: parked_at_least(broker, 2), what="both to wait")
        assert "later" not in seen[before:]
        limiting = Limits(broker, "s", "g")
        (state,) = await limiting.waiting()
        assert (state.limit, state.key) == ("all", "everything")
        assert state.throttled_until > await server_now(broker) + 25


# --- operators


async def test_a_throttle_is_set_and_lifted_by_hand(broker):
    seen: Counter[str] = Counter()

    async def handler(event: Event) -> None:
        seen[event.tenant] += 1

    def command(*words: str) -> Any:
        where = ["--url", broker.url, "--namespace", broker.namespace]
        return asyncio.to_thread(
            CliRunner().invoke, app, ["limits", "throttle", "s", "g", *words, *where]
        )

    producer = Producer(broker, "s")
    async with consuming(broker, handler, Limit("tenant")):
        await producer.publish(0, type="t", tenant="c")
        await eventually(lambda: seen["c"], what="the stream and its limit to be there")
        done = await command("tenant", "10m", "--key", "a")
        assert (done.exit_code, done.stdout[:26]) == (0, "throttled tenant for a of ")
        await producer.publish_many(Event("t", n, tenant=t) for n, t in enumerate("ab"))
        await eventually(
            lambda: seen["b"] and parked_at_least(broker, 1),
            what="the other tenant, and one to wait",
        )
        assert not seen["a"]
        assert (
            "is not throttled any more"
            in (await command("tenant", "--off", "--key", "a")).stdout
        )
        await eventually(lambda: seen["a"] == 1, what="what waited, at once")
    rows = await Listing(broker, broker.keys("s")).audit("", 10)
    assert [(row["action"], row["limit"], row["to"]) for _, row in rows] == [
        ("limit throttle ended", "tenant=a", "0 s"), ("limit throttled", "tenant=a", "600 s"),
    ]  # fmt: skip
    for words in (("tenant", "--key", "a"), ("tenant", "1m", "--off", "--key", "a")):
        assert "--off, which lifts it" in str((await command(*words)).exception)
    assert isinstance((await command("tenat", "1m", "--key", "a")).exception, NotFound)


async def test_what_is_set_holds_at_once_and_until_it_is_reset(broker):
    starts: list[float] = []

    async def handler(event: Event) -> None:
        starts.append(time.monotonic())

    producer, limits = Producer(broker, "s"), Limits(broker, "s", "g", by="op")
    async with consuming(broker, handler, Limit("tenant", rate="1000/s", burst=100)):
        await producer.publish(0, type="t", tenant="a")
        await eventually(lambda: len(starts) == 1, what="the first")
        assert await limits.set("tenant", "10/s", 1) == ""
        assert await limits.set("tenant", "1/h", 1, key="b") == ""
        (info,) = await limits.list()
        assert (info.name, info.declared, info.set) == (
            "tenant",
            "1000/s burst 100",
            "10/s burst 1",
        )
        assert info.keys == {"b": "1/h burst 1"}
        await producer.publish_many(Event("t", n, tenant="c") for n in range(5))
        await eventually(lambda: len(starts) == 6, what="five more")
        assert starts[5] - starts[1] >= 0.4 - SLACK
        assert await limits.reset("tenant") == "10/s burst 1"
        await producer.publish_many(Event("t", n, tenant="d") for n in range(50))
        await eventually(lambda: len(starts) == 56, what="fifty more")
        assert starts[55] - starts[6] < 0.5
        await producer.publish_many(Event("t", n, tenant="b") for n in range(3))
        await eventually(lambda: parked(broker, 2), what="two to wait for an hour")
        (state,) = [state for state in await limits.waiting() if state.key == "b"]
        assert state.waiting_until > await server_now(broker) + 3600
    audit = [
        dict(zip(row[::2], row[1::2], strict=True))
        for _, row in await audit_rows(broker)
    ]
    assert [row[b"action"] for row in audit] == [
        b"limit set",
        b"limit set",
        b"limit reset",
    ]
    assert audit[0][b"by"] == b"op"


async def test_a_limit_that_is_raised_or_lowered_gives_those_who_wait_another_time(
    broker,
):
    starts: list[float] = []

    async def handler(event: Event) -> None:
        starts.append(time.monotonic())

    producer, limits = Producer(broker, "s"), Limits(broker, "s", "g")
    async with consuming(
        broker, handler, Limit("tenant", rate="1/h", burst=1), count=2
    ):
        await producer.publish_many(Event("t", n, tenant="a") for n in range(31))
        await eventually(lambda: parked(broker, 30), what="thirty to wait for hours")
        await limits.set("tenant", "20/s", 5)
        await eventually(lambda: len(starts) >= 12, what="some to start")
        await limits.set("tenant", "100/s", 1)
        await eventually(lambda: len(starts) == 31, what="all")
    assert most_at_once(starts[1:], Rate.parse("100/s", 5)) <= 1.5


async def audit_rows(broker: Broker):
    return await broker.control.call("XRANGE", broker.keys("s").audit(), "-", "+")


async def test_a_limit_that_is_not_there_is_named(broker):
    with pytest.raises(NotFound, match="there is no stream"):
        await Limits(broker, "s", "g").list()
    await Producer(broker, "s").publish(1, type="t")
    with pytest.raises(NotFound, match="no limit 'x'; it has: none yet"):
        await Limits(broker, "s", "g").set("x", "1/s")
    # Before the first worker of the first group has started.
    await Limits(broker, "s", "g").throttle("x", "k", 60)
    await broker.control.call(
        "XGROUP", "CREATE", broker.keys("s").level(0), "other", "0"
    )
    for act in (
        lambda one: one.set("x", "1/s"),
        lambda one: one.throttle("x", "k", 60),
    ):
        with pytest.raises(NotFound, match="no group 'g'; it has: other"):
            await act(Limits(broker, "s", "g"))
    with pytest.raises(ConfigurationError, match="rate is a count per time"):
        await Limits(broker, "s", "g").set("x", "fast")


async def test_a_clock_that_was_set_back_heals(broker):
    """State from a time that has not come yet holds nothing back for longer than the limit itself."""
    hands, limit = Hands(broker), Limit("tenant", rate="10/s", burst=2)
    ahead = (await server_now(broker) + 3600) * 1e6
    key = broker.keys("s").limit_prefix("g") + "tenant=a"
    await broker.control.call("SET", key, f"{ahead:.0f} {ahead:.0f} 0 0 100000")
    (answer,) = await hands.ask(await hands.take_plain(1), (limit, "a"))
    assert answer.wait <= 0.21


async def test_a_stream_without_limits_asks_nothing(server, broker):
    async def handler(event: Event) -> None:
        pass

    await Producer(broker, "s").publish_many(range(200), type="t")
    with server.client() as client:
        async with consuming(broker, handler) as consumers:
            await eventually(lambda: consumers[0].stats.done == 200, what="all")
        assert not client.exists(broker.keys("s").limits("g"))
        assert "gate" not in consumers[0]._tasks
        assert not consumers[0]._gate._admitting._own, (
            "it has no connection for what it never asks"
        )
