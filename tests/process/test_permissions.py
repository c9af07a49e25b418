"""Permissions on the server: the fewest that suffice, and what a missing one does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams import (
    AccessDenied,
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Groups,
    Lanes,
    Levels,
    Limit,
    Limits,
    OrderedKeys,
    Pauses,
    Producer,
    ProducerOptions,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
)
from streams.admin.status import Status
from streams.admin.tracking import Tracking
from streams.broker.entries.declare import Declaring
from streams.handlers.routes import Route
from streams.middleware import Dedupe
from streams.policy.declaration import Declaration
from streams.worker.loss_watch import LossWatch
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.load import MINIMAL_ACL, MakeServer
from tests.process.worker_app import GROUP, LEVELS, STREAM
from tests.servers import BINARIES, Server


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
