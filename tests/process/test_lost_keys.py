"""Keys that are deleted or have another type under load, and a worker that is never restarted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from streams import Broker, Producer, Retry
from streams.admin.status import Status
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.load import (
    MakeServer,
    check_books,
    dead,
    drained,
    messages,
    under_load,
)
from tests.process.worker_app import GROUP, LEVELS, STREAM
from tests.servers import BINARIES, Server

# Keys that disappear


async def test_group_destroyed(
    make_server: MakeServer, binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(binary)
    async with under_load(server) as (_, load, broker):
        with server.client() as client:
            for _ in range(3):
                for level in LEVELS:
                    client.xgroup_destroy(broker.keys(STREAM).level(level), GROUP)
                await asyncio.sleep(0.3)
    assert load.refused == 0
    assert messages(caplog, "the group was gone and is created again")


async def test_level_stream_deleted(
    make_server: MakeServer, binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was on it is gone by somebody else's hand; what comes after is handled, other levels lose nothing."""
    server = make_server(binary)
    async with Broker(server.url) as broker, Live(broker) as live:
        producer = Producer(broker, STREAM)
        kept = {
            (await producer.publish({"sleep": 0.3}, type="job", priority=5)).event_id
            for _ in range(8)
        }
        await producer.publish({"gate": "never"}, type="job", priority=1)
        await eventually(lambda: len(live.starts) == 9)
        with server.client() as client:
            client.delete(broker.keys(STREAM).level(1))
        after = {
            (await producer.publish({"fails": 1}, type="job", priority=n)).event_id
            for n in LEVELS * 5
        }
        await eventually(
            lambda: set(live.done) >= kept | after,
            what="kept and later events to be done",
        )
        await drained(server, broker)
        assert set(live.done) == kept | after
        await eventually(
            lambda: live.consumer.busy == 0,
            what="the handler of the deleted entry to be cancelled",
        )
    assert live.consumer.stats.lost >= 1
    assert messages(caplog, "the group was gone and is created again")


async def test_flushall(
    make_server: MakeServer, binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(binary)
    async with Broker(server.url) as broker, Live(broker) as live:
        producer = Producer(broker, STREAM)
        for n in range(20):
            await producer.publish({"fails": 9}, type="job", delay=0.1 * (n % 2))
        await eventually(lambda: len(live.starts) == 20)
        with server.client() as client:
            client.flushall()
        after = {
            (await producer.publish({"fails": 1}, type="job", delay=0.1)).event_id
            for _ in range(20)
        }
        await eventually(
            lambda: set(live.done) == after, what="later events to be done"
        )
        await drained(server, broker)
        assert set(await Status(broker).streams()) == {STREAM}, (
            "the stream must be listed again"
        )
    (line,) = messages(caplog, "the group was gone and is created again")
    assert line.levelno >= logging.WARNING


# Keys of the wrong type


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """To save time: a refused read is tried again sooner than after five seconds."""
    monkeypatch.setattr("streams.consuming.fetcher._WRONG_TYPE_WAIT", 0.7)


@contextlib.asynccontextmanager
async def wrong_type(
    server: Server, broker: Broker, key: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    """Puts a string in place of a key for a second, and counts what the worker does about it."""
    with server.client() as client:
        client.set(key, "somebody else's")
        client.config_resetstat()
        caplog.clear()
        began = time.monotonic()
        yield
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
        errors = [
            record for record in caplog.records if record.levelno >= logging.ERROR
        ]
        assert errors, "nobody would notice"
        assert any(
            "WRONGTYPE" in str(getattr(record, "error", "")) for record in errors
        )
        assert len(errors) < 25, "log lines without end"
        calls = sum(row["calls"] for row in client.info("commandstats").values())
        assert calls < 1500, f"spinning: {calls} commands"
        client.delete(key)


@pytest.mark.usefixtures("_short_waits")
async def test_wrong_type_in_place_of_the_dead_letters(
    make_server: MakeServer, binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(binary)
    async with Broker(server.url) as broker, Live(broker, lease=1.5) as live:
        producer = Producer(broker, STREAM)
        async with wrong_type(server, broker, broker.keys(STREAM).dead(GROUP), caplog):
            hopeless = await producer.publish({"reject": True}, type="job")
            await eventually(lambda: live.starts[hopeless.event_id])
            others = {
                (await producer.publish({"fails": 1}, type="job")).event_id
                for _ in range(60)
            }
            await eventually(
                lambda: set(live.done) == others,
                seconds=8.0,
                what="the others to go on",
            )
        await drained(server, broker)
        check_books(server, broker, live, others | {hopeless.event_id})
        assert set(dead(server, broker)) == {hopeless.event_id}
        assert live.starts[hopeless.event_id] == [1], "its lease must hold meanwhile"


@pytest.mark.usefixtures("_short_waits")
async def test_wrong_type_in_place_of_the_retries(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    # One kind: both say WRONGTYPE, as the test above shows.
    server = make_server(BINARIES[0])
    async with Broker(server.url) as broker, Live(broker, lease=0.6) as live:
        producer = Producer(broker, STREAM)
        async with wrong_type(server, broker, broker.keys(STREAM).retry(GROUP), caplog):
            failing = await producer.publish({"fails": 2}, type="job")
            await eventually(lambda: live.starts[failing.event_id])
            others = {
                (await producer.publish({}, type="job")).event_id for _ in range(60)
            }
            await eventually(
                lambda: set(live.done) == others,
                seconds=8.0,
                what="the others to go on",
            )
        await drained(server, broker)
        check_books(server, broker, live, others | {failing.event_id})
        assert live.starts[failing.event_id] == [1, 2, 3]


@pytest.mark.usefixtures("_short_waits")
async def test_wrong_type_in_place_of_a_level(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """That stream waits, aloud; what is running on its other levels is settled; other streams of the worker go on."""
    # One kind: both say WRONGTYPE, as the test above shows.
    server = make_server(BINARIES[0])
    async with (
        Broker(server.url) as broker,
        Live(broker) as live,
        Live(broker, "other") as other,
    ):
        producer, elsewhere = Producer(broker, STREAM), Producer(broker, "other")
        await eventually(lambda: _registered(server, broker))
        running = {
            (await producer.publish({"gate": "go"}, type="job", priority=5)).event_id
            for _ in range(3)
        }
        broken = (
            await producer.publish({"gate": "go"}, type="job", priority=1)
        ).event_id
        await eventually(lambda: len(live.starts) == 4)
        async with wrong_type(server, broker, broker.keys(STREAM).level(1), caplog):
            live.gates["go"].set()
            others = {
                (await elsewhere.publish({"fails": 1}, type="job")).event_id
                for _ in range(60)
            }
            await eventually(
                lambda: set(other.done) == others,
                seconds=8.0,
                what="the other stream to go on",
            )
            waiting = {
                (await producer.publish({}, type="job", priority=n)).event_id
                for n in (0, 5, 10)
            }
            await eventually(
                lambda: set(live.done) >= running,
                seconds=8.0,
                what="running handlers to be settled",
            )
        await eventually(
            lambda: set(live.done) >= running | waiting, what="the stream to heal"
        )
        await drained(server, broker)
        assert set(live.done) - {broken} == running | waiting


def _registered(server: Server, broker: Broker) -> bool:
    with server.client() as client:
        return all(client.exists(broker.keys(STREAM).level(level)) for level in LEVELS)


# Entries and consumers that disappear


async def test_entry_deleted_while_its_handler_runs_or_while_it_waits_for_a_retry(
    make_server: MakeServer, binary: str
) -> None:
    server = make_server(binary)
    retry = Retry(max_retries=5, delay=0.4, backoff="fixed", jitter=0.0)
    async with (
        Broker(server.url) as broker,
        Live(broker, lease=0.9, retry=retry) as live,
    ):
        producer, key = Producer(broker, STREAM), broker.keys(STREAM).level(0)
        finishing = await producer.publish({"gate": "go"}, type="job")
        failing = await producer.publish({"gate": "go", "fails": 9}, type="job")
        hopeless = await producer.publish({"gate": "go", "reject": True}, type="job")
        long = await producer.publish({"gate": "never"}, type="job")
        retrying = await producer.publish({"fails": 9}, type="job")
        neighbour = await producer.publish({"gate": "go"}, type="job")
        await eventually(
            lambda: len(live.starts) == 6 and live.consumer.stats.retried == 1
        )
        gone = [finishing, failing, hopeless, long, retrying]
        with server.client() as client:
            assert client.xdel(key, *(receipt.entry_id for receipt in gone)) == 5
        live.gates["go"].set()
        await eventually(
            lambda: live.consumer.busy == 0, what="the long handler to be cancelled"
        )
        await drained(server, broker)
        assert dead(server, broker) == {}
        assert all(attempts == [1] for attempts in live.starts.values()), (
            "nobody runs what is deleted"
        )
        assert live.done == Counter([finishing.event_id, neighbour.event_id])
    stats = live.consumer.stats
    assert (stats.done, stats.vanished + stats.lost) == (2, 4)
    assert stats.fetched == 6


async def test_live_consumer_deleted_from_the_group(
    make_server: MakeServer, binary: str
) -> None:
    """Its pending entries leave the pending list with it; they are not lost."""
    server = make_server(binary)
    async with Broker(server.url) as broker, Live(broker, lease=0.6) as live:
        producer = Producer(broker, STREAM)
        events = {
            (await producer.publish({"sleep": 1.0}, type="job", priority=n)).event_id
            for n in LEVELS * 2
        }
        events |= {
            (await producer.publish({"sleep": 1.0, "fails": 1}, type="job")).event_id
            for _ in range(2)
        }
        await eventually(lambda: len(live.starts) == 10)
        with server.client() as client:
            dropped = sum(
                client.xgroup_delconsumer(
                    broker.keys(STREAM).level(level), GROUP, live.consumer.name
                )
                for level in LEVELS
            )
        assert dropped == 10
        events |= {(await producer.publish({}, type="job")).event_id for _ in range(10)}
        await drained(server, broker)
        check_books(server, broker, live, events)
