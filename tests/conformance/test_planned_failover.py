"""Somebody asks for another primary. The old one goes on answering, and nobody may stay with it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from streams import Broker, BrokerUnavailable, Producer, PublishUnknown
from streams import sync as blocking
from streams.broker.server import following
from tests.conformance.conftest import OURS
from tests.conformance.test_failover import promoted
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.worker_app import STREAM
from tests.servers import Server, wait_until
from tests.topologies import SERVICE, Clustered, Watched

SECONDS_AFTER = 20.0
"""Within this time of the new primary everybody is with it. Sentinels would demote the old one after some 10."""
ELSEWHERE = f"{{{STREAM}}}elsewhere"


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """Servers behind Sentinels; each test finds one primary or another."""
    running = Watched(OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


@contextlib.contextmanager
def never_demoted(server: Server) -> Iterator[None]:
    """Let it go on as a primary that takes writes, however often it is told not to.

    Sentinels close all connections when they demote a server, so those would follow by that as well, sooner or later.
    """
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
        try:
            yield
            assert client.info("replication")["role"] == "master", (
                "it must still take writes, or nothing is shown"
            )
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")


async def everybody_follows(broker: Broker, live: Live, primary: Server) -> None:
    """A reader that waits gets what others put there, and what is published from now on is there."""
    began = time.monotonic()
    with primary.client() as client:
        found = client.xadd(
            broker.keys(STREAM).level(0),
            {"type": "job", "id": f"by-{began}", "data": "{}"},
        )
        assert found

        async def lands_there() -> bool:
            with contextlib.suppress(BrokerUnavailable):  # It was just left.
                await broker.control.call("SET", ELSEWHERE, str(time.monotonic()))
            return client.get(ELSEWHERE) is not None

        await eventually(
            lands_there,
            seconds=SECONDS_AFTER,
            what="what is written to be on the new primary",
        )
    left = began + SECONDS_AFTER - time.monotonic()
    await eventually(
        lambda: f"by-{began}" in live.done,
        seconds=left,
        what="the reader to be with the new primary",
    )


async def idle(broker: Broker, live: Live) -> None:
    """Wait until the worker has handled something, and then for the blocking read that follows."""
    receipt = await Producer(broker, STREAM).publish({}, type="job")
    await eventually(
        lambda: receipt.event_id in live.done, what="the worker to be there"
    )


async def test_everybody_leaves_the_old_primary_though_it_answers(
    watched: Watched,
) -> None:
    async with Broker(watched.url, timeout=2.0) as broker, Live(broker) as live:
        await idle(broker, live)
        before = watched.primary()
        with never_demoted(before):
            await asyncio.to_thread(watched.ask_for_failover)
            await everybody_follows(broker, live, await promoted(watched, before))


@pytest.mark.parametrize("how", ["", "FORCE", "TAKEOVER"])
async def test_a_node_that_is_demoted_says_so_at_once(how: str) -> None:
    """Who waits there for events is told, too: nobody has to ask the cluster again and again."""
    servers = Clustered(OURS[0])
    try:
        servers.start()
        async with Broker(servers.url, timeout=2.0) as broker, Live(broker) as live:
            await idle(broker, live)
            before = servers.of(STREAM)
            await asyncio.to_thread(servers.failover, STREAM, how)
            try:
                after = await promoted(servers, before)
            except AssertionError:
                # A server gives a planned failover up when the two do not come to the same offset within five seconds.
                await asyncio.to_thread(servers.failover, STREAM, how)
                after = await promoted(servers, before)
            await everybody_follows(broker, live, after)
    finally:
        servers.close()


def followers() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if thread.name == "streams-primary"
    ]


def commands(watched: Watched) -> int:
    """How many commands a Sentinel had so far, those of the other Sentinels included."""
    with watched._sentinel(watched.ports[0]) as client:
        return client.info("stats")["total_commands_processed"]


async def test_one_thread_asks_for_all_connections_and_ends_with_the_broker(
    watched: Watched,
) -> None:
    async with Broker(watched.url) as broker:
        links = [broker.link() for _ in range(100)]
        await asyncio.gather(*(link.call("PING") for link in links))
        before, began = commands(watched), time.monotonic()
        await asyncio.sleep(2.0)
        assert len(followers()) == 1
        others = 8  # A second: what Sentinels say to each other.
        most = (time.monotonic() - began) * (1 / following.EVERY + others) + 10
        assert 2 <= commands(watched) - before <= most
    assert not followers()


async def test_nobody_asks_for_who_has_no_connection(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_IDLE", 0.5)
    async with Broker(watched.url) as broker:
        assert len(followers()) == 1
        await broker.control.close()
        await eventually(lambda: not followers(), what="the thread to end")
        await broker.link().call("PING")
        assert len(followers()) == 1


async def use(broker: Broker) -> None:
    """Connect, ask, and leave nothing open."""
    link = broker.link()
    await link.call("PING")
    await link.close()


def test_it_goes_on_when_the_event_loop_that_connected_ends(watched: Watched) -> None:
    broker = Broker(watched.url)
    asyncio.run(use(broker))
    (thread,) = followers()
    asyncio.run(use(broker))
    assert followers() == [thread]
    asyncio.run(broker.close())
    assert not followers()


def test_the_blocking_form_follows_too(watched: Watched) -> None:
    with blocking.Pipeline(watched.url) as pipeline:
        pipeline.publish("elsewhere", 1, type="t")
        before = watched.primary()
        with never_demoted(before):
            watched.ask_for_failover()
            wait_until(lambda: watched.primary() is not before, what="another primary")
            with watched.primary().client() as client:

                def lands_there() -> bool:
                    with contextlib.suppress(BrokerUnavailable, PublishUnknown):
                        entry_id = pipeline.publish("elsewhere", 1, type="t").entry_id
                        return bool(client.xrange("streams:{elsewhere}:0", entry_id))
                    return False

                wait_until(
                    lands_there,
                    seconds=SECONDS_AFTER,
                    what="what is published to be on the new primary",
                )
    assert not followers()


def test_a_forgotten_broker_keeps_no_thread(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What ends it is that nothing holds the broker any more.
    monkeypatch.setattr(following, "_IDLE", 3600.0)
    asyncio.run(use(Broker(watched.url)))
    gc.collect()
    for thread in followers():
        thread.join(30)
        assert not thread.is_alive()


def test_a_forked_child_has_a_thread_of_its_own(watched: Watched) -> None:
    broker = Broker(watched.url)
    asyncio.run(use(broker))
    # Later Pythons warn of forks beside threads; this is about those.
    with warnings.catch_warnings(action="ignore"):
        child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(use(broker))
            code = 0 if len(followers()) == 1 and followers()[0].is_alive() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(broker.close())


@pytest.mark.parametrize(
    ("said", "primary"),
    [
        (["a", "a", "b"], "a"),
        (["a", "b", "b"], "b"),
        (["a", None, "a"], "a"),
        (["a", None, None], None),
        (["a", "b", None], None),
        (["a", "b", "c"], None),
        ([None, None, None], None),
    ],
)
def test_most_of_all_sentinels_must_agree(
    said: list[str | None], primary: str | None
) -> None:
    """Those that say nothing count: a lone one that is cut off with the old primary must not be believed."""

    def node(name: str | None) -> tuple[str, int] | None:
        return (name, 1) if name else None

    sentinels = following.Sentinels(None, [("s", n) for n in range(3)], SERVICE)  # type: ignore[arg-type]
    assert sentinels.most([node(name) for name in said]) == node(primary)
