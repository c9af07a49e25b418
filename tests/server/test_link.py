"""One connection: refusals, scripts, lost answers, and who gets which reply."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import threading
import time

import pytest

from streams import Broker, BrokerUnavailable, Producer, PublishUnknown
from streams.broker.server.scripts import Script
from streams.errors import (
    AccessDenied,
    CommandRefused,
    GroupMissing,
    WrongCredentials,
    WrongKeyType,
)
from tests.conftest import eventually

ADD = Script("publish")


def add(key: str, ident: str, body: str) -> tuple:
    return ADD.command((key, f"{key}:scheduled"), 0, 1, 1, "t", "", ident, body)


# --- replies and refusals


async def test_a_refused_command_leaves_its_neighbours_alone(broker, namespace):
    key = f"{namespace}:k"
    commands = [
        ("SET", key, "1"),
        ("LPUSH", key, "x"),
        ("INCR", key),
        ("NONSENSE",),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", f"{namespace}:none", ">"),
        ("INCR", key),
        ("XADD", key),
    ]
    replies = await broker.link().batch(commands)
    assert replies[0] == b"OK"
    assert [replies[2], replies[5]] == [2, 3]
    refused = [type(replies[n]) for n in (1, 3, 4, 6)]
    assert refused == [WrongKeyType, CommandRefused, GroupMissing, CommandRefused]


async def test_nothing_to_send_needs_no_server_and_leaves_the_connection_alone(broker):
    """A transport that is given nothing to write spins on Python 3.12 and later, and never closes."""
    assert await Broker("redis://127.0.0.1:1").link().batch([]) == []
    link = broker.link()
    assert await link.call("PING") == b"PONG"
    assert await link.batch([]) == []
    await asyncio.wait_for(link.close(), 1)


async def test_call_raises_what_batch_returns(broker, namespace):
    link = broker.link()
    with pytest.raises(CommandRefused, match="NONSENSE"):
        await link.call("NONSENSE")
    assert await link.call("ECHO", "still here") == b"still here"


async def test_bytes_numbers_and_text_pass(broker):
    link = broker.link()
    for value, reply in (
        (b"\x00\xff\r\n", b"\x00\xff\r\n"),
        ("ä", "ä".encode()),
        (7, b"7"),
        (0.5, b"0.5"),
    ):
        assert await link.call("ECHO", value) == reply


async def test_many_commands_and_large_replies(broker, namespace):
    link = broker.link()
    assert await link.batch([("ECHO", n) for n in range(5_000)]) == [
        b"%d" % n for n in range(5_000)
    ]
    large = b"x" * 5_000_000
    assert await link.batch([("ECHO", large), ("ECHO", "y")]) == [large, b"y"]


async def test_concurrent_callers_get_their_own_replies(broker):
    link = broker.link()
    replies = await asyncio.gather(*(link.call("ECHO", n) for n in range(200)))
    assert replies == [b"%d" % n for n in range(200)]


async def test_a_cancelled_caller_takes_no_reply_from_the_next(broker):
    link = broker.link()
    rng = random.Random(1)

    async def echo(n: int) -> bytes:
        await asyncio.sleep(rng.random() * 0.01)
        return await link.call("ECHO", n)

    tasks = [asyncio.create_task(echo(n)) for n in range(200)]

    async def cancel(task: asyncio.Task[bytes]) -> None:
        await asyncio.sleep(rng.random() * 0.015)
        task.cancel()

    await asyncio.gather(*(cancel(task) for task in rng.sample(tasks, 100)))
    replies = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(
        reply in (b"%d" % n,)
        for n, reply in enumerate(replies)
        if not isinstance(reply, BaseException)
    )
    assert {type(r) for r in replies if isinstance(r, BaseException)} == {
        asyncio.CancelledError
    }
    assert await link.call("ECHO", "last") == b"last"


async def test_a_blocking_read_that_is_cancelled_leaves_no_late_reply(
    broker, namespace
):
    link = broker.link()
    reading = asyncio.create_task(link.call("BLPOP", f"{namespace}:list", 0, within=60))

    async def blocked() -> bool:
        servers = (await broker.primaries()).values()
        return any(
            [b"cmd=blpop" in await server.call("CLIENT", "LIST") for server in servers]
        )

    await eventually(blocked, what="the read to block")
    reading.cancel()
    await asyncio.wait([reading])
    await broker.control.call("RPUSH", f"{namespace}:list", "late")
    assert await link.call("ECHO", "mine") == b"mine"


# --- several round trips at once


async def test_round_trips_under_way_are_answered_in_their_order(broker):
    link = broker.link(depth=2)
    await link.call("PING")
    replies = await asyncio.gather(
        *(link.batch([("ECHO", n), ("ECHO", -n)]) for n in range(500))
    )
    assert replies == [[b"%d" % n, b"%d" % -n] for n in range(500)]


@pytest.mark.one_server
async def test_no_more_are_under_way_than_its_depth(broker, namespace):
    """The first two block; the third is not even sent before one of them has its answer."""
    link = broker.link(depth=2)
    await link.call("PING")
    first = asyncio.create_task(link.call("BLPOP", f"{namespace}:a", 0, within=60))
    second = asyncio.create_task(
        link.call("SET", f"{namespace}:b", "second", within=60)
    )
    third = asyncio.create_task(link.call("SET", f"{namespace}:c", "third"))

    async def blocked() -> bool:
        return b"cmd=blpop" in await broker.control.call("CLIENT", "LIST")

    await eventually(blocked, what="the first to block")
    assert link._wire is not None
    assert link._wire.awaited == 2
    await broker.control.call("RPUSH", f"{namespace}:a", "x")
    assert (await first)[1] == b"x"
    assert await asyncio.gather(second, third) == [b"OK", b"OK"]


@pytest.mark.one_server
async def test_one_of_two_under_way_is_cancelled_and_the_other_keeps_its_answer(
    broker, namespace
):
    """Closing the connection would leave the other caller without knowing what became of its write."""
    link = broker.link(depth=2)
    await link.call("PING")
    for gone, kept in ((0, 1), (1, 0)):
        calls = [
            link.call("BLPOP", f"{namespace}:l{gone}", 0, within=60),
            link.call("INCR", f"{namespace}:n{gone}"),
        ]
        if gone:
            calls.reverse()
        tasks = [asyncio.create_task(call) for call in calls]

        async def blocked() -> bool:
            return b"cmd=blpop" in await broker.control.call("CLIENT", "LIST")

        await eventually(blocked, what="the read to block")
        waiting = tasks[0] if not gone else tasks[1]
        writing = tasks[1] if not gone else tasks[0]
        waiting.cancel()
        await asyncio.wait([waiting])
        await broker.control.call("RPUSH", f"{namespace}:l{gone}", "late")
        assert await writing == 1
        assert await link.call("ECHO", kept) == b"%d" % kept


async def test_both_of_two_under_way_learn_that_the_connection_is_lost(
    make_server, binary
):
    server = make_server(binary)
    async with Broker(server.url) as broker:
        link = broker.link(depth=2)
        await link.call("PING")
        server.signal(signal.SIGSTOP)
        tasks = [asyncio.create_task(link.call("INCR", "n")) for _ in range(3)]
        await eventually(
            lambda: link._wire is not None and link._wire.awaited == 2,
            what="two to be sent",
        )
        server.kill()
        lost = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in lost] == [BrokerUnavailable] * 3
        assert [error.sent for error in lost] == [True, True, False]


@pytest.mark.one_server
async def test_what_nobody_asked_for_ends_the_connection(broker, namespace):
    """Taken for an answer it would shift all that follow it."""
    link = broker.link()
    for n, unasked in enumerate((b"+OK\r\n", b"?what\r\n", b"+OK\r\n+OK\r\n")):
        await link.call("PING")
        link._wire.data_received(unasked)
        assert await link.call("ECHO", n) == b"%d" % n
        asking = asyncio.create_task(
            link.call("BLPOP", f"{namespace}:list", 0, within=60)
        )
        await eventually(lambda: link._wire.awaited == 1, what="the call to be sent")
        link._wire.data_received(b"?what\r\n")
        with pytest.raises(BrokerUnavailable, match="cannot be read") as caught:
            await asking
        assert caught.value.sent is True


# --- scripts


async def test_an_unknown_script_is_loaded_and_only_it_is_sent_again(
    server, broker, namespace
):
    link = broker.link()
    await link.call("SCRIPT", "FLUSH")
    count, stream = f"{{{namespace}}}:n", f"{{{namespace}}}:s"
    one, first, two, second, refused = await link.batch(
        [
            ("INCR", count),
            add(stream, "a", "1"),
            ("INCR", count),
            add(stream, "a", "2"),
            ("LPUSH", count, "x"),
        ]
    )
    assert (one, two) == (1, 2)
    assert isinstance(refused, WrongKeyType)
    assert await link.call("GET", count) == b"2"
    rows = await link.call("XRANGE", stream, "-", "+")
    assert [fields for _, fields in rows] == [
        [b"type", b"t", b"id", b"a", b"data", body] for body in (b"1", b"2")
    ]
    assert [i for i, _ in rows] == [first[0], second[0]]
    with server.client() as client:
        client.config_resetstat()
        await link.batch([add(stream, "a", "3")])
        assert "cmdstat_script" not in client.info("commandstats")
        assert "cmdstat_script|load" not in client.info("commandstats")


async def test_scripts_that_are_flushed_all_the_time_still_run_once(broker, namespace):
    link, other = broker.link(), broker.link()
    stream = f"{{{namespace}}}:s"
    flushing = True

    async def flush() -> None:
        while flushing:
            await other.call("SCRIPT", "FLUSH")
            await asyncio.sleep(0.001)

    task = asyncio.create_task(flush())
    replies = [(await link.batch([add(stream, "n", str(n))]))[0] for n in range(100)]
    flushing = False
    await task
    stored = [reply for reply in replies if isinstance(reply, list)]
    assert await link.call("XLEN", stream) == len(stored) >= 95


# --- lost answers


async def test_a_server_that_does_not_answer(make_server, binary):
    """The answer is lost, says the error; the late one is never taken for that of a later command."""
    server = make_server(binary)
    async with Broker(server.url, timeout=0.1) as broker:
        link = broker.link()
        assert await link.call("ECHO", "before") == b"before"
        producer = Producer(broker, "s")
        await producer.publish(1, type="t", id="e1")
        server.signal(signal.SIGSTOP)
        with pytest.raises(
            BrokerUnavailable, match=r"no answer within 0.1 s"
        ) as caught:
            await link.call("ECHO", "stale")
        assert caught.value.sent is True
        with pytest.raises(PublishUnknown) as unknown:
            await producer.publish(2, type="t", id="e2")
        assert unknown.value.event_ids == ("e2",)
        server.signal(signal.SIGCONT)
        for n in range(5):
            assert await link.call("ECHO", n, within=5) == b"%d" % n
        receipt = await producer.publish(3, type="t", id="e3")
        rows = await link.call(
            "XRANGE", "streams:{s}:0", receipt.entry_id, receipt.entry_id
        )
        assert rows[0][1][3] == b"e3"
        ids = [
            fields[3]
            for _, fields in await link.call("XRANGE", "streams:{s}:0", "-", "+")
        ]
        assert ids.count(b"e2") <= 1
        assert [i for i in ids if i != b"e2"] == [b"e1", b"e3"]


async def test_a_call_ends_within_its_time_though_others_wait_before_it(
    make_server, binary
):
    """It says that it was not sent; a call whose time is longer goes on waiting."""
    server = make_server(binary)
    async with Broker(server.url, timeout=0.5) as broker:
        link = broker.link()
        await link.call("PING")
        server.signal(signal.SIGSTOP)
        began = time.monotonic()
        first = asyncio.create_task(link.call("PING", within=2.0))
        await asyncio.sleep(0)
        calls = [asyncio.create_task(link.call("PING")) for _ in range(3)]
        longer = asyncio.create_task(link.call("PING", within=30))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 1.5
        assert not first.done()
        for error in errors:
            assert isinstance(error, BrokerUnavailable)
            assert error.sent is False
            assert "nothing was sent within 0.5 s" in str(error)
        with pytest.raises(
            BrokerUnavailable, match=r"no answer within 2\.0 s"
        ) as caught:
            await first
        assert caught.value.sent is True
        server.signal(signal.SIGCONT)
        assert await longer == b"PONG"


async def test_a_call_that_connects_ends_within_its_time():
    """Somebody listens and says nothing: connecting is part of the call, for the first one and for those behind it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=16)
    broker = Broker(
        f"redis://:secret@127.0.0.1:{listening.getsockname()[1]}", timeout=0.5
    )
    link = broker.link(depth=3)
    began = time.monotonic()
    errors = await asyncio.gather(
        *(link.call("PING") for _ in range(3)), return_exceptions=True
    )
    assert time.monotonic() - began < 0.95
    assert [(type(error), error.sent) for error in errors] == [
        (BrokerUnavailable, False)
    ] * 3
    await broker.close()
    listening.close()


async def test_what_links_tell_each_other_is_not_what_users_see(make_server, binary):
    """What a replica refuses is plainly an unavailable server, wherever it is found out."""
    server = make_server(binary)
    async with Broker(server.url) as broker:
        await broker.control.call("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(BrokerUnavailable, match="READONLY") as caught:
            await broker.control.call("SET", "k", "v")
        assert type(caught.value) is BrokerUnavailable
        replies = await broker.link().batch([("SET", "k", "v"), ("PING",)])
        assert type(replies[0]) is BrokerUnavailable


async def test_a_call_may_take_longer_than_the_timeout(server, namespace):
    async with Broker(server.url, namespace=namespace, timeout=0.4) as broker:
        assert (
            await broker.link().call("BLPOP", f"{namespace}:none", 0.5, within=5)
            is None
        )


async def test_a_connection_closed_while_idle_is_noticed_before_the_next_write(broker):
    producer = Producer(broker, "s")
    looking = broker.link()
    await looking.call("CLIENT", "SETNAME", "looking")
    for n in range(3):
        await producer.publish(n, type="t")
        await looking.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.21)  # What idle means.
        await producer.publish(n, type="t", delay=60)
        await broker.control.call("PING")
    assert await looking.call("XLEN", broker.keys("s").level(0)) == 3
    assert await looking.call("ZCARD", broker.keys("s").scheduled()) == 3


async def test_a_server_that_restarts_while_idle_is_found_again(make_server, binary):
    server = make_server(binary)
    async with Broker(server.url) as broker:
        link = broker.link()
        await link.call("PING")
        server.kill()
        await asyncio.sleep(0.21)  # What idle means.
        with pytest.raises(BrokerUnavailable) as caught:
            await link.call("PING")
        assert caught.value.sent is False
        server.start()
        assert await link.call("PING") == b"PONG"


async def test_a_server_that_is_not_there(tmp_path):
    broker = Broker(f"unix://{tmp_path}/none", timeout=0.5)
    with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
        await broker.connect()
    assert caught.value.sent is False
    await broker.close()


@pytest.mark.one_server
async def test_a_wrong_password_is_fatal_and_not_shown(server):
    broker = Broker(f"unix://nobody:hunter2@{server.socket}")
    with pytest.raises(WrongCredentials, match="look at both in the URL") as caught:
        await broker.connect()
    assert isinstance(caught.value, AccessDenied)
    assert "hunter2" not in str(caught.value)
    assert "permission" not in str(caught.value)
    await broker.close()


async def test_after_closing_nothing_is_sent(server, namespace):
    async with Broker(server.url, namespace=namespace) as broker:
        link = broker.link()
        await link.call("PING")
    with pytest.raises(BrokerUnavailable, match="closed"):
        await link.call("PING")
    await link.close()


@pytest.mark.one_server
async def test_closing_the_broker_ends_what_a_thread_is_waiting_for(server, namespace):
    """Its connection belongs to another event loop, and is closed there."""
    waiting, failed = threading.Event(), []

    async def wait_in_thread(broker: Broker) -> None:
        link = broker.link()
        await link.call("TIME")
        waiting.set()
        try:
            await link.call("BLPOP", f"{namespace}:nothing", 60)
        except BrokerUnavailable as error:
            failed.append(str(error))
        await link.close()

    async with Broker(server.url, namespace=namespace, timeout=60.0) as broker:
        thread = threading.Thread(target=lambda: asyncio.run(wait_in_thread(broker)))
        thread.start()
        await asyncio.to_thread(waiting.wait)
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    assert len(failed) == 1
    assert "closed" in failed[0]
