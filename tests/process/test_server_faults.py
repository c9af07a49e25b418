"""Faults of the server and of the way to it. The worker is never restarted, and afterwards the books balance.

Where servers word things differently each kind is tried; where only the connection matters, one kind is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest

from streams import (
    AccessDenied,
    Broker,
    BrokerUnavailable,
    Consumer,
    ConsumerOptions,
    Event,
    Groups,
    Lanes,
    Levels,
    Limit,
    Limits,
    OrderedKeys,
    OutOfMemory,
    Pauses,
    Producer,
    ProducerOptions,
    PublishUnknown,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
    StreamsError,
)
from streams.admin.status import Status
from streams.admin.tracking import Tracking
from streams.broker.entries.declare import Declaring
from streams.broker.server.scripts import Script
from streams.handlers.routes import Route
from streams.middleware import Dedupe
from streams.policy.declaration import Declaration
from streams.worker.loss_watch import LossWatch
from tests.conftest import eventually
from tests.process.proxy import Proxy, is_command
from tests.process.worker_app import (
    GROUP,
    LEVELS,
    STREAM,
    Live,
    balance,
    dead_letters,
    unfinished,
)
from tests.servers import BINARIES, Server

MakeServer = Callable[..., Server]

MINIMAL_ACL = (
    # Everybody.
    "+auth +select +time +script|load +evalsha"
    # Producers.
    " +xadd +sadd +xlen +zcard +hexists +hset +zadd +get +set"
    # Workers.
    " +xreadgroup +xgroup|create +xgroup|delconsumer +xack +xdel +xclaim +xautoclaim +xpending +xrange"
    " +xinfo|groups +xinfo|consumers +type +exists +zrangebyscore +zrange +zrem +zscore +zrank +hget +hmget +hdel"
    " +hgetall +hlen +pexpire +unlink +xread +zrangebylex +hscan +hincrby +xinfo|stream"
    # Whoever looks at status and dead letters, replays and discards, pauses and resumes, drops groups.
    " +smembers +xrevrange +xgroup|destroy +scan +mget"
)
"""What one user needs for everything; keys: ``~<namespace>:*``."""


class Load:
    """Publishes until stopped, and keeps what became of each event."""

    def __init__(self, producer: Producer, pause: float = 0.004) -> None:
        self.stored: set[str] = set()
        self.unknown: set[str] = set()
        self.refused = 0
        self._producer = producer
        self._pause = pause
        self._count = itertools.count()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        async with asyncio.timeout(15):
            await self._task

    async def _run(self) -> None:
        while not self._stopping:
            n = next(self._count)
            event = Event(
                "job",
                {"fails": 1 if n % 5 == 0 else 0, "reject": n % 17 == 0},
                id=f"n{n}",
                priority=LEVELS[n % 4],
                delay=0.2 if n % 7 == 0 else 0.0,
            )
            try:
                await self._producer.publish(event)
            except PublishUnknown:
                self.unknown.add(event.id)
            except StreamsError:
                self.refused += 1
                await asyncio.sleep(0.02)
            else:
                self.acknowledged(event.id)
            await asyncio.sleep(self._pause)

    def acknowledged(self, ident: str) -> None:
        """The server has the event."""
        self.stored.add(ident)


async def drained(server: Server, broker: Broker, seconds: float = 40.0) -> None:
    """Wait until the server keeps nothing unfinished."""
    left: dict[str, int] = {}

    def empty() -> bool:
        nonlocal left
        with server.client() as client:
            left = unfinished(client, broker.keys(STREAM))
        return not left

    try:
        await eventually(empty, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not drained after {seconds} s: {left}") from None


def dead(server: Server, broker: Broker) -> dict[str, dict[str, Any]]:
    with server.client() as client:
        return dead_letters(client, broker.keys(STREAM))


def check_books(
    server: Server,
    broker: Broker,
    live: Live,
    stored: set[str],
    unknown: set[str] = frozenset(),
) -> None:  # type: ignore[assignment]
    """Every stored event is done or dead; one with an unknown fate is at most that, too."""
    letters = dead(server, broker)
    came = unknown & (set(live.done) | set(letters))
    balance(stored | came, live.done, letters, set(live.starts) - (unknown - came))


@contextlib.asynccontextmanager
async def under_load(
    server: Server, url: str | None = None, **options: Any
) -> AsyncIterator[tuple[Live, Load, Broker]]:
    """A live worker and a publishing producer; on leaving: stop publishing, drain, check the books."""
    async with (
        Broker(server.url, timeout=3.0) as broker,
        Live(broker, **options) as live,
    ):
        async with Load(Producer(broker, STREAM)) as load:
            await eventually(lambda: len(live.done) > 50, what="the load to run")
            yield live, load, broker
            there = len(live.done)
            await eventually(
                lambda: len(live.done) > there + 50, what="the worker to go on"
            )
        await drained(server, broker)
        check_books(server, broker, live, load.stored, load.unknown)
        assert len(load.stored) > 100


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


# The whole server


async def test_server_killed_and_restarted_with_aof(
    make_server: MakeServer, binary: str
) -> None:
    server = make_server(binary, aof=True)
    async with under_load(server) as (live, load, _):
        for _ in range(2):
            before = len(live.done)
            await asyncio.to_thread(server.kill)
            await eventually(lambda: load.refused > 0, what="a publish to be refused")
            await asyncio.to_thread(server.start)
            await eventually(
                lambda n=before: len(live.done) > n + 20, what="the worker to go on"
            )
    assert live.consumer.stats.dead > 0
    assert live.consumer.stats.retried > 0


async def test_server_frozen_for_two_seconds(make_server: MakeServer) -> None:
    # One kind: the server is not asked anything while it stands still.
    server = make_server(BINARIES[0])
    async with under_load(server, lease=1.0) as (live, load, _):
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(2.0)
        server.signal(signal.SIGCONT)
    assert load.unknown == set(), "two seconds are within the timeout"
    assert max(live.done.values()) == 1


async def test_server_frozen_for_longer_than_the_timeout(
    make_server: MakeServer,
) -> None:
    server = make_server(BINARIES[0])
    async with (
        Broker(server.url, timeout=0.5) as broker,
        Live(broker, lease=1.0) as live,
        Load(Producer(broker, STREAM)) as load,
    ):
        await eventually(lambda: len(live.done) > 50)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        server.signal(signal.SIGCONT)
        there = len(live.done)
        await eventually(lambda: len(live.done) > there + 50)
        load._stopping = True
        await load._task
        assert load.unknown, "the publish under way must not claim to know"
        await drained(server, broker)
        check_books(server, broker, live, load.stored, load.unknown)


async def test_script_flush_under_load(make_server: MakeServer, binary: str) -> None:
    server = make_server(binary)
    async with under_load(server) as (live, load, _):
        with server.client() as client:
            for _ in range(400):
                client.script_flush()
                await asyncio.sleep(0.001)
    assert (load.refused, load.unknown) == (0, set())
    assert live.consumer.stats.lost == 0


async def test_client_kill_under_load(make_server: MakeServer) -> None:
    # One kind: a closed connection looks the same from either.
    server = make_server(BINARIES[0])
    async with under_load(server) as (_, _, _):
        with server.client() as client:
            for _ in range(15):
                client.execute_command(
                    "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"
                )
                await asyncio.sleep(0.06)


async def test_too_few_replicas(make_server: MakeServer) -> None:
    # One kind: both refuse with the same word.
    server = make_server(BINARIES[0])
    async with under_load(server) as (live, load, _):
        with server.client() as client:
            client.config_set("min-replicas-to-write", "1")
            await eventually(lambda: load.refused > 0, what="a publish to be refused")
            client.config_set("min-replicas-to-write", "0")
    assert load.unknown == set(), "a refusal is a certain answer"
    assert live.consumer.stats.lost == 0


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


# No memory


async def test_maxmemory_reached(make_server: MakeServer, binary: str) -> None:
    server = make_server(
        binary, "--maxmemory", "12mb", "--maxmemory-policy", "noeviction"
    )
    async with Broker(server.url) as broker:
        producer = Producer(broker, STREAM)
        stored: list[str] = []
        body = "x" * 20_000

        async def fill() -> None:
            for n in range(2000):
                order = {
                    "fails": 1 if n % 10 == 1 else 0,
                    "reject": n % 10 == 2,
                    "body": body if n >= 50 else "",
                }
                stored.append(
                    (await producer.publish(order, type="job", id=f"m{n}")).event_id
                )

        with pytest.raises(OutOfMemory):
            await fill()
        assert len(stored) > 60
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
            lengths = client.xlen(broker.keys(STREAM).level(0))
            assert lengths == len(stored), "the refused event must not be stored"
            with pytest.raises(OutOfMemory):
                await producer.publish({}, type="job", delay=1.0)
            with pytest.raises(OutOfMemory):
                await producer.publish({}, type="job", dedup_id="d")
            with pytest.raises(OutOfMemory):
                await producer.publish_many([{}] * 10, type="job")
            # A worker that starts only now must be able to drain the backlog. Its group is there from before.
            client.config_set("maxmemory", "0")
            for level in LEVELS:
                client.xgroup_create(
                    broker.keys(STREAM).level(level), GROUP, "0", mkstream=True
                )
            client.config_set("maxmemory", "1mb")
        async with Live(broker) as live:
            # All the while over the limit: acks, retries and dead letters are what frees memory.
            await drained(server, broker)
            check_books(server, broker, live, set(stored))
            assert live.consumer.stats.retried == sum(
                1 for n in range(len(stored)) if n % 10 == 1
            )
            assert len(dead(server, broker)) == sum(
                1 for n in range(len(stored)) if n % 10 == 2
            )
            with server.client() as client:
                client.config_set("maxmemory", "12mb")
            later = await producer.publish({}, type="job")
            await eventually(lambda: live.done[later.event_id] == 1)


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


# Permissions


def acl_user(server: Server, name: str, *rules: str) -> str:
    """Create a user; returns the URL."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
    return f"redis://{name}:secret@127.0.0.1:{server.port}/0"


async def everything(broker: Broker) -> None:
    """Publish in every way, handle, retry, bury, snooze, look, replay, discard, pause, resume."""
    from streams.admin.dead_letters import DeadLetters, Filter

    producer = Producer(broker, STREAM, ProducerOptions(max_len=10_000))
    plain = Producer(broker, STREAM)
    async with Live(broker, lease=0.6) as live:
        events = {(await plain.publish({}, type="job")).event_id}
        events |= {
            (await producer.publish({"fails": 1}, type="job", priority=n)).event_id
            for n in LEVELS
        }
        events |= {
            r.event_id for r in await producer.publish_many([{}] * 20, type="job")
        }
        events.add((await producer.publish({}, type="job", delay=0.1)).event_id)
        events.add((await producer.publish({}, type="job", dedup_id="d1")).event_id)
        events.add(
            (await producer.publish({}, type="job", dedup_id="d2", delay=0.1)).event_id
        )
        hopeless = [
            (await producer.publish({"reject": True}, type="job")).event_id
            for _ in range(2)
        ]
        long = (await producer.publish({"sleep": 0.7}, type="job")).event_id
        await eventually(
            lambda: set(live.done) == events | {long}, what="everything to be done"
        )
        await LossWatch(broker, [live.consumer]).look_after_outage()
        letters = DeadLetters(broker, STREAM, GROUP)
        await eventually(lambda: _count_is(letters, 2))
        assert (await letters.replay(Filter(event_id=hopeless[0]))).moved
        await eventually(lambda: live.starts[hopeless[0]] == [1, 1])
        await eventually(lambda: _count_is(letters, 2))
        assert await letters.discard(Filter(event_id=hopeless[1])) == 1
        pauses = Pauses(broker, STREAM)
        await pauses.pause(group=GROUP, level=5)
        status = Status(broker)
        (row,) = await status.overview()
        assert row.groups[0].dead == len(row.paused) == 1
        await pauses.resume_all()
        assert (await status.find(STREAM, hopeless[0]))[0].state == "dead"
        await Declaring(
            broker.keys("other"), Levels(), "a", Declaration("fanout", ("b",))
        ).declare(broker.control)
        assert (await Groups(broker, "other").drop("b")).dropped
        await fail_once_with_dedupe(broker)
        await wait_for_limits(broker)
        await in_order(broker)
        # A consumer that goes silent: what it held is reclaimed.
        with_nobody = await producer.publish({}, type="job", priority=10)
        await eventually(lambda: live.done[with_nobody.event_id])


async def fail_once_with_dedupe(broker: Broker) -> None:
    attempts: list[int] = []

    async def handle(event: Event) -> None:
        attempts.append(event.attempt)
        if event.attempt == 1:
            raise ValueError

    options = ConsumerOptions(middleware=(Dedupe(),))
    consumer = Consumer(
        broker, "deduped", "g", Route(handle, retry=Retry(delay=0.0)), options
    )
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "deduped").publish({}, type="job")
    await eventually(lambda: consumer.stats.done == 1, what="the second attempt")
    assert attempts == [1, 2]
    consumer.stop()
    await running


async def in_order(broker: Broker) -> None:
    """Order, fairness, a key that is held, a pause of a tenant."""
    done: list[object] = []

    async def handle(event: Event) -> None:
        if event.data == "bad":
            raise Reject
        done.append(event.data)

    lanes = Lanes(("key",), ("tenant",), on_dead="hold", weights={"a": 2})
    consumer = Consumer(
        broker, "ordered", "g", Route(handle), ConsumerOptions(lanes=lanes)
    )
    reclaimer = Reclaimer(broker, "ordered", "g", None, ReclaimerOptions(lanes=lanes))
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "ordered").publish_many(
        Event("job", n, key="k", tenant="a") for n in (0, "bad", 1)
    )
    await eventually(lambda: consumer.stats.dead == 1, what="the key to be held")
    await reclaimer.sweep()
    keys = OrderedKeys(broker, "ordered", "g")
    assert [key.behind for key in await keys.list()] == [1]
    await keys.skip("k")
    await eventually(lambda: done == [0, 1], what="the key to go on")
    await Tracking(broker, "ordered", {"sent": 0}, 60.0).note("id", "sent")
    await Pauses(broker, "ordered").pause(tenant="a")
    await Pauses(broker, "ordered").resume(tenant="a")
    consumer.stop()
    await running


async def wait_for_limits(broker: Broker) -> None:
    gate = asyncio.Event()

    async def handle(event: Event) -> None:
        await gate.wait()

    limits = [Limit("tenant", concurrency=1), Limit("instance", rate="1/h")]
    consumer = Consumer(broker, "limited", "g", Route(handle, limits=limits))
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "limited").publish_many(
        [Event("job", n, tenant="a") for n in range(2)]
        + [Event("job", n, instance="i") for n in range(2)]
    )
    await eventually(lambda: consumer.stats.limited >= 2, what="two to wait")
    operator = Limits(broker, "limited", "g")
    assert [state.limit for state in await operator.waiting()] == ["instance"]
    await operator.set("instance", "1000/s")
    gate.set()
    await eventually(lambda: consumer.stats.done == 4, what="all")
    consumer.stop()
    await running


async def _count_is(letters: Any, count: int) -> bool:
    return len([letter async for letter in letters.iterate()]) == count


async def test_the_minimal_permissions_suffice_and_are_needed(
    make_server: MakeServer, binary: str
) -> None:
    server = make_server(binary, port=True)
    url = acl_user(server, "app", "~streams:*", *MINIMAL_ACL.split())
    with server.client() as client:
        client.config_resetstat()
    async with Broker(url) as broker:
        await everything(broker)
        with server.client() as client:
            called = {
                name.removeprefix("cmdstat_") for name in client.info("commandstats")
            }
            refused = [row for row in client.acl_log() if row["username"] == "app"]
        assert refused == [], "something was refused on the way and went unnoticed"
    # Too rare to be met here: another database, a retry row that was lost, a consumer that was silent for an hour.
    rare = {"select", "xautoclaim"}
    if not any("|" in name for name in called):
        # Servers before 7.0 count no subcommands.
        assert {
            rule.removeprefix("+").partition("|")[0] for rule in MINIMAL_ACL.split()
        } - called <= rare
        return
    assert {rule.removeprefix("+") for rule in MINIMAL_ACL.split()} - called == rare


@pytest.mark.parametrize(
    "missing",
    ["xreadgroup", "xack", "xclaim", "xpending", "xinfo|consumers", "zrangebyscore"],
)
async def test_a_missing_permission_ends_the_worker_and_is_named(
    make_server: MakeServer, missing: str
) -> None:
    # One kind: the words differ, and the test above shows that both are understood; this one is about the roles.
    server = make_server(BINARIES[0], port=True)
    url = acl_user(server, "app", "~streams:*", *MINIMAL_ACL.split(), f"-{missing}")
    async with Broker(url) as broker:
        await Producer(broker, STREAM).publish({"fails": 1}, type="job")
        live = Live(broker, lease=0.6)
        with pytest.raises(AccessDenied, match=f"(?i){missing.partition('|')[0]}"):
            async with asyncio.timeout(8):
                await (await live.__aenter__()).ended()


async def test_keys_of_others_are_refused_by_name(
    make_server: MakeServer, binary: str
) -> None:
    server = make_server(binary, port=True)
    url = acl_user(server, "app", "~mine:*", *MINIMAL_ACL.split())
    async with Broker(url, namespace="theirs") as broker:
        with pytest.raises(AccessDenied, match=r"(?i)key"):
            await Producer(broker, STREAM).publish({}, type="job")
        with pytest.raises(AccessDenied, match=r"(?i)key"):
            await (await Live(broker).__aenter__()).ended()
    async with Broker(url, namespace="mine") as broker:
        await Producer(broker, STREAM).publish({}, type="job")
    with pytest.raises(AccessDenied):
        await Broker(url.replace("secret", "wrong")).connect()
