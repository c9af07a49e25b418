"""Answers that are lost on their way. Where only the connection matters, one kind of server is enough."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams import (
    Broker,
    BrokerUnavailable,
    Event,
    Producer,
    ProducerOptions,
    PublishUnknown,
)
from streams.broker.server.scripts import Script
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.load import MakeServer, check_books, drained, messages
from tests.process.proxy import Proxy, is_command
from tests.process.worker_app import LEVELS, STREAM
from tests.servers import BINARIES, Server

# Replies that do not come (one server kind: the connection is the subject)


@pytest.fixture
async def proxied(make_server: MakeServer) -> AsyncIterator[tuple[Server, Proxy]]:
    server = make_server(BINARIES[0])
    async with Proxy(server) as proxy:
        yield server, proxy


def stored_ids(server: Server, broker: Broker) -> Counter[str]:
    with server.client() as client:
        return Counter(
            fields[b"id"].decode()
            for n in LEVELS
            for _, fields in client.xrange(broker.keys(STREAM).level(n))
        )


@pytest.mark.parametrize("action", ["cut", "drop"])
async def test_publish_whose_answer_is_lost(
    proxied: tuple[Server, Proxy], action: Any
) -> None:
    server, proxy = proxied
    async with Broker(proxy.url, timeout=1.5) as broker:
        producer = Producer(broker, STREAM)
        await producer.publish({}, type="job", id="before")
        fault = proxy.arm(action, is_command("XADD"))
        with pytest.raises(PublishUnknown) as unknown:
            await producer.publish({}, type="job", id="doubtful")
        assert fault.fired.is_set()
        assert unknown.value.event_ids == ("doubtful",)
        proxy.arm(action, is_command("EVALSHA"), lambda reply: reply.startswith(b"*"))
        with pytest.raises(PublishUnknown) as unknown:
            await producer.publish_many(
                [Event("job", {}, id=f"many{n}") for n in range(3)]
            )
        assert unknown.value.event_ids == ("many0", "many1", "many2")
        proxy.arm(action, is_command("EVALSHA"), lambda reply: reply.startswith(b"*"))
        receipt = await producer.publish({}, type="job", id="sure", dedup_id="order-1")
        assert receipt.duplicate, "the first try was stored, and the second must say so"
        await producer.publish({}, type="job", id="after")
        found = stored_ids(server, broker)
        assert max(found.values()) == 1
        assert (
            {"before", "sure", "after"}
            <= set(found)
            <= {"before", "doubtful", "many0", "many1", "many2", "sure", "after"}
        )
        assert found["doubtful"] == 1, (
            "the server had it: that is why nobody may send it again"
        )


async def test_publish_to_a_server_that_cannot_be_reached_is_surely_not_stored(
    proxied: tuple[Server, Proxy],
) -> None:
    server, proxy = proxied
    async with Broker(proxy.url, timeout=0.5) as broker:
        producer = Producer(broker, STREAM, ProducerOptions(retry_for=5.0))
        await producer.publish({}, type="job", id="before")
        proxy.refuse()
        await asyncio.sleep(0.3)
        with pytest.raises(BrokerUnavailable) as refused:
            await producer.publish({}, type="job", id="refused")
        assert not refused.value.sent
        waiting = asyncio.create_task(
            producer.publish({}, type="job", id="waits", dedup_id="order-2")
        )
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await proxy.accept()
        assert not (await waiting).duplicate
        assert stored_ids(server, broker) == Counter(["before", "waits"])


_TAKE, _TAKE_DUE = Script("fetch").sha.encode(), Script("fetch_due").sha.encode()


@pytest.mark.parametrize("action", ["cut", "drop"])
@pytest.mark.parametrize("how", ["blocking", "taking", "retrying"])
async def test_entries_of_a_lost_read_come_back_at_no_cost(
    proxied: tuple[Server, Proxy], action: Any, how: str
) -> None:
    """The server gave the entries out, nobody saw them: they come back before the lease is over, attempt not burnt."""
    server, proxy = proxied
    commands = {
        "blocking": is_command("XREADGROUP"),
        "taking": lambda command: command[:2] == [b"EVALSHA", _TAKE],
        "retrying": lambda command: command[:2] == [b"EVALSHA", _TAKE_DUE],
    }
    async with Broker(server.url) as direct, Broker(proxy.url, timeout=1.0) as broker:
        producer = Producer(direct, STREAM)
        fails = 1 if how == "retrying" else 0
        orders = [Event("job", {"fails": fails, "mark": "payload"}) for _ in range(5)]
        if how == "taking":
            await producer.publish_many(orders)
        if how != "retrying":
            fault = proxy.arm(action, commands[how], lambda reply: b"payload" in reply)
        async with Live(broker, lease=3.0) as live:
            if how != "taking":
                await eventually(
                    lambda: any(
                        is_command("XREADGROUP")(words) for _, words in proxy.commands
                    )
                )
                if how == "retrying":
                    fault = proxy.arm(
                        action, commands[how], lambda reply: b"payload" in reply
                    )
                await producer.publish_many(orders)
            await eventually(
                lambda: len(live.done) == 5, what="the entries to come back"
            )
            await drained(server, direct)
        assert fault.fired.is_set()
    expected = [1, 2] if fails else [1]
    assert all(attempts == expected for attempts in live.starts.values()), live.starts
    assert live.reclaimer.stalled == 0


async def test_an_outage_is_one_line_and_few_reconnects(
    proxied: tuple[Server, Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    """While every slot is busy, and more than the settler's queue is finished during the outage."""
    server, proxy = proxied
    caplog.set_level(logging.INFO, "streams")
    async with Broker(proxy.url) as broker:
        producer = Producer(broker, STREAM)
        async with Live(broker, lease=1.0, concurrency=120) as live:
            events = {
                (await producer.publish({"sleep": 0.3 + n / 100}, type="job")).event_id
                for n in range(120)
            }
            await eventually(lambda: len(live.starts) == 120)
            await eventually(lambda: len(live.done) >= 5)
            proxy.hang_up()
            proxy.attempts.clear()
            await asyncio.sleep(2.0)
            tries = len(proxy.attempts)
            away, back = (
                len(messages(caplog, "the server is away")),
                len(messages(caplog, "the server is back")),
            )
            await proxy.accept()
            await drained(server, broker)
            await eventually(lambda: messages(caplog, "the server is back"))
            check_books(server, broker, live, events)
            assert max(live.done.values()) == 1
    assert (away, back) == (1, 0)
    assert len(messages(caplog, "the server is away")) == 1
    # Five connections (reader, fetcher, settler, reclaimer, scheduler) and the lease keeper's, each with back-off.
    assert 3 <= tries <= 60, f"{tries} connection attempts in 2 s"
