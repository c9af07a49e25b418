"""Many groups in one process: idle ones wait together, on a few connections and in one thread, and miss nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    OrderedKeys,
    Pauses,
    Producer,
    Reject,
    Retry,
    Scheduler,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.lookout import Lookout
from streams.broker.entries.ordering import FetchingByKey
from streams.broker.entries.settle import Postponed, Settling
from streams.broker.server.wire import Wire
from streams.handlers.routes import Route
from streams.policy.declaration import AS_IT_IS
from streams.policy.levels import Levels
from streams.policy.ordering import Lanes
from tests.conftest import eventually

COUNT = 10
LAST = f"s{COUNT - 1}"


class Crowd:
    """Consumers of many streams, and what their handlers were given."""

    def __init__(self, broker: Broker, count: int = COUNT, **options: object) -> None:
        self.broker = broker
        self.handled: list[tuple[str, object]] = []
        route = Route(self._handle, retry=Retry(delay=0.05, backoff="fixed", jitter=0))
        self.consumers = [
            Consumer(
                broker, f"s{n}", "g", route, ConsumerOptions(concurrency=4, **options)
            )  # type: ignore[arg-type]
            for n in range(count)
        ]
        self.last = self.consumers[-1]

    async def _handle(self, event: Event) -> None:
        if event.data == "bad":
            raise Reject("bad")
        self.handled.append((event.stream, event.data))

    async def publish(self, data: object, stream: str = LAST) -> None:
        await Producer(self.broker, stream).publish(data, type="t")

    async def hears(self, data: object, stream: str = LAST) -> None:
        await self.publish(data, stream)
        await eventually(
            lambda: (stream, data) in self.handled,
            what=f"{data} on {stream} to be handled",
        )

    async def rests(self) -> None:
        """Return when all wait together."""
        await eventually(
            lambda: all(c._idling.heard_at for c in self.consumers), what="all to rest"
        )


@asynccontextmanager
async def crowd(
    broker: Broker, count: int = COUNT, **options: object
) -> AsyncIterator[Crowd]:
    made = Crowd(broker, count, **options)
    running = [asyncio.create_task(consumer.run()) for consumer in made.consumers]
    try:
        await made.rests()
        yield made
    finally:
        for consumer in made.consumers:
            consumer.stop()
        async with asyncio.timeout(30):
            await asyncio.gather(*running)


def open_connections(broker: Broker) -> int:
    return sum(link._wire is not None for link in broker._links)  # type: ignore[attr-defined]


pytestmark = [pytest.mark.one_server, pytest.mark.in_turn]


@pytest.fixture(autouse=True)
def _small_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consuming.idle.QUIET", 0.2)
    monkeypatch.setattr("streams.broker.entries.lookout.CROWD", COUNT)


async def test_idle_groups_share_connections_thread_and_looks(broker, monkeypatch):
    sent: Counter[str] = Counter()
    exchange = Wire.exchange

    async def counted(self, commands, count, within):
        sent.update(str(command[0]) for command in commands)
        return await exchange(self, commands, count, within)

    async with crowd(broker, count=70) as many:
        leases = [
            thread
            for thread in threading.enumerate()
            if thread.name == "streams-leases" and thread.is_alive()
        ]
        assert len(leases) == 1
        # Shared, control, lookout, two ears, the one for newcomers, and the leases' if there are any.
        assert open_connections(broker) <= 7
        assert not any(
            task.get_name() == "streams-runner" for task in asyncio.all_tasks()
        )
        lookout = Lookout.of(broker)
        monkeypatch.setattr(Wire, "exchange", counted)
        looks = set()

        async def four_looks() -> bool:
            looks.add(lookout.heard_at)
            return len(looks) > 4

        await eventually(four_looks, what="four looks")
        assert set(sent) == {"EXISTS", "XREAD"}
        # Two and two per look, and some for a first look that was under way; no more for more groups.
        assert sent["EXISTS"] <= 12
        assert sent["XREAD"] <= 16
        assert all(consumer.vitals.read_at >= min(looks) for consumer in many.consumers)


async def test_an_idle_group_is_woken_works_by_itself_and_rests_again(broker):
    async with crowd(broker) as many:
        for n in range(3):
            await many.hears(n)
            assert many.last._fetching._link is many.last._fetching._own
            await many.rests()
            assert many.last._fetching._own._wire is None
            assert many.last._fetching._blocking._wire is None
        assert len(many.handled) == 3


async def test_not_all_start_at_once(broker, monkeypatch):
    """The answers to hundreds of first calls on one connection would come too late for the last ones."""
    ensure, under_way, most = Fetching.ensure_group, 0, 0

    async def counted(self):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await ensure(self)
        finally:
            under_way -= 1

    monkeypatch.setattr(Fetching, "ensure_group", counted)
    async with crowd(broker, count=40):
        assert 1 < most <= 16


async def test_what_comes_between_where_a_group_is_and_waiting_is_heard(
    broker, monkeypatch
):
    positions, missed = Fetching.positions, asyncio.Event()

    async def slowly(self):
        found = await positions(self)
        if self._keys.stream == LAST and not missed.is_set():
            missed.set()
            await Producer(broker, LAST).publish("between", type="t")
        return found

    monkeypatch.setattr(Fetching, "positions", slowly)
    async with crowd(broker) as many:
        await eventually(
            lambda: many.handled == [(LAST, "between")], what="the event in between"
        )


async def test_a_retry_of_another_worker_wakes_a_group_that_rests(broker):
    other = Fetching(GroupConsumer(broker, broker.keys(LAST), Levels(), "g", "other"))
    await other.ensure_group()
    await Producer(broker, LAST).publish("again", type="t")
    [taken] = await other.take(1)
    async with crowd(broker) as many:
        assert many.handled == []
        settling = Settling(
            GroupConsumer(broker, broker.keys(LAST), Levels(), "g", "other")
        )
        await settling.settle((), [Postponed(taken, 0)])
        await eventually(lambda: many.handled == [(LAST, "again")], what="the retry")


async def test_what_a_worker_of_before_lines_up_wakes_a_group_that_rests(
    broker, monkeypatch
):
    """It reads what is new before the group says where it is, and is killed: no read announces that any more."""
    positions, missed = Fetching.positions, asyncio.Event()

    async def slowly(self):
        if self._keys.stream == LAST and not missed.is_set():
            missed.set()
            lanes, keys = Lanes(fair_by=("tenant",)), self._keys
            declaring = Declaring(keys, Levels(), "g", AS_IT_IS)
            before = FetchingByKey(
                GroupConsumer(broker, keys, Levels(), "g", "before"), declaring, lanes
            )
            await before.declare()
            await Producer(broker, LAST).publish("lined up", type="t")
            await before.take(0)
            await before.close()
        return await positions(self)

    monkeypatch.setattr(Fetching, "positions", slowly)
    async with crowd(broker, lease=600.0) as many:
        await eventually(
            lambda: many.handled == [(LAST, "lined up")], what="what was lined up"
        )


async def test_a_key_that_an_operator_lets_go_wakes_a_group_that_rests(broker):
    """What may start then was published long ago: nothing new is heard, and no retry is due."""
    async with crowd(broker, lanes=Lanes(order_by=("key",), on_dead="hold")) as many:
        await Producer(broker, LAST).publish_many(
            Event("t", data, key="k") for data in ("bad", "next")
        )
        await eventually(lambda: many.last.stats.dead == 1, what="the head to die")
        await many.rests()
        await OrderedKeys(broker, LAST, "g").skip("k")
        await eventually(
            lambda: many.handled == [(LAST, "next")], what="the next of the key"
        )


async def test_pauses_and_what_is_scheduled_reach_those_who_rest(broker):
    scheduler = Scheduler(broker, LAST)
    async with crowd(broker) as many:
        scheduling = asyncio.create_task(scheduler.run())
        await eventually(
            lambda: scheduler._watch is not None,
            what="the scheduler to wait with the others",
        )
        await Producer(broker, LAST).publish("later", type="t", delay=0.01)
        await eventually(
            lambda: (LAST, "later") in many.handled, what="what was scheduled"
        )
        await many.rests()
        await Pauses(broker, LAST).pause()
        await eventually(lambda: many.last.paused, what="the pause")
        await many.publish("held")
        await many.hears("other", "s0")
        assert (LAST, "held") not in many.handled
        await Pauses(broker, LAST).resume()
        await eventually(lambda: (LAST, "held") in many.handled, what="what was held")
        scheduler.stop()
        await scheduling


async def test_the_trouble_of_one_group_is_its_own(broker, caplog):
    async with crowd(broker) as many:
        odd, gone = broker.keys("s0").level(0), broker.keys("s1").level(0)
        await broker.control.call("UNLINK", odd)
        await broker.control.call("SET", odd, "no stream")
        await broker.control.call("UNLINK", gone)
        await broker.control.call("XGROUP", "DESTROY", broker.keys("s2").level(0), "g")
        await many.hears("fine")
        await many.hears("after", "s1")
        await many.hears("back", "s2")
        await eventually(
            lambda: many.consumers[0].vitals.trouble, what="the trouble of the odd one"
        )
        resting = [
            consumer for consumer in many.consumers[3:-1] if consumer._idling.heard_at
        ]
        assert len(resting) == COUNT - 4
        assert not any(consumer.vitals.trouble for consumer in many.consumers[3:])
        await broker.control.call("UNLINK", odd)
    assert not any("server is away" in line.message for line in caplog.records)


async def test_an_outage_is_told_once_and_outlived_by_all(
    make_server, binary, namespace, caplog
):
    caplog.set_level(logging.INFO)
    server = make_server(binary)
    async with Broker(server.url, namespace=namespace) as broker, crowd(broker) as many:
        server.kill()
        await eventually(
            lambda: all(c.vitals.trouble for c in many.consumers), what="all to know"
        )
        server.start()
        await many.rests()
        await many.hears("again", "s3")
    told = [
        line.streams_message
        for line in caplog.records
        if "the server is" in line.message
    ]
    assert told == [
        "the server is away, trying again until it is back",
        "the server is back",
    ]


@pytest.mark.parametrize(
    "part",
    ["streams.broker.entries.ears._lowest", "streams.broker.entries.lookout._parts"],
)
async def test_a_defect_where_many_wait_is_told_and_nobody_stands_still(
    broker, monkeypatch, caplog, part
):
    async with crowd(broker) as many:
        with monkeypatch.context() as broken:
            broken.setattr(part, lambda _: 1 / 0)
            await eventually(
                lambda: "for many groups failed" in caplog.text,
                what="the defect to be told",
            )
            await many.hears("all the same")
        await many.rests()
        await many.hears("as before", "s4")


async def test_who_may_not_listen_for_all_waits_by_itself(server, namespace, broker):
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "deaf", "reset", "on", ">pw", "~*", "+@all", "-xread"
        )
    url = server.url.replace("unix://", "unix://deaf:pw@")
    async with Broker(url, namespace=namespace) as deaf:
        many = Crowd(deaf)
        running = [asyncio.create_task(consumer.run()) for consumer in many.consumers]
        await eventually(
            lambda: all(c.vitals.read_at for c in many.consumers), what="all to look"
        )
        await eventually(
            lambda: not Lookout.of(deaf).is_crowded,
            what="them to give up waiting together",
        )
        await many.hears("by itself")
        for consumer in many.consumers:
            consumer.stop()
        await asyncio.gather(*running)


@pytest.mark.parametrize(
    "options",
    [{"lanes": Lanes(order_by="key")}, {"max_wait": 5.0}],
    ids=["by key", "overdue"],
)
async def test_other_ways_to_read_wait_together_too(broker, options):
    async with crowd(broker, **options) as many:
        # What is next by key depends on what others do with its key, so there one looks as often as ever.
        assert many.last._idling.sees_to_retries == ("lanes" not in options)
        for n in range(3):
            await many.hears(n)


async def test_nothing_is_left_when_all_have_stopped(broker):
    before = {thread.ident for thread in threading.enumerate()}
    async with crowd(broker) as many:
        await many.hears("one")
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not {name for name in names if name.startswith("streams-")}
    assert Lookout.of(broker)._consumers == 0
    mine = [
        t
        for t in threading.enumerate()
        if t.name == "streams-leases" and t.ident not in before
    ]
    await eventually(
        lambda: not any(thread.is_alive() for thread in mine),
        what="the lease thread to end",
    )


async def test_few_groups_wait_each_by_itself(broker):
    handled = asyncio.Event()
    consumer = Consumer(
        broker, "s", "g", lambda event: handled.set(), ConsumerOptions(concurrency=2)
    )
    running = asyncio.create_task(consumer.run())
    await eventually(
        lambda: consumer._fetching._blocking._wire is not None, what="a read of its own"
    )
    assert not Lookout.of(broker)._watches
    consumer.stop()
    await running


async def test_a_blocked_loop_is_told_only_to_who_had_work(broker, caplog):
    async def handler(event: Event) -> None:
        time.sleep(1.3)

    consumers = [
        Consumer(broker, name, "g", handler, ConsumerOptions(concurrency=2))
        for name in ("busy", "idle")
    ]
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]
    await eventually(
        lambda: all(c.vitals.read_at for c in consumers), what="both to look"
    )
    time.sleep(1.3)  # Somebody else's, or ours: no handler has run.
    await asyncio.sleep(0.2)
    assert "was blocked" not in caplog.text
    await Producer(broker, "busy").publish(1, type="t")
    await eventually(lambda: "was blocked" in caplog.text, what="the warning")
    for consumer in consumers:
        consumer.stop()
    await asyncio.gather(*running)
    assert [line.where for line in caplog.records if "was blocked" in line.message] == [
        "busy/g"
    ]


async def test_one_thread_renews_the_leases_of_all_while_the_loop_is_blocked(
    server, broker
):
    done: list[str] = []
    renewed: set[str] = set()
    both = asyncio.Barrier(2)

    def silent(client: Any, name: str) -> int:
        [row] = client.xpending_range(broker.keys(name).level(0), "g", "-", "+", 1)
        return int(row["time_since_delivered"])

    def block_until_renewed() -> None:
        """Block the event loop until the server has heard of both entries twice."""
        with server.client() as client:
            counts, before, give_up = (
                Counter[str](),
                {"a": 0, "b": 0},
                time.monotonic() + 20,
            )
            while len(renewed) < 2 and time.monotonic() < give_up:
                for name in "ab":
                    now = silent(client, name)
                    counts[name] += now < before[name]
                    before[name] = now
                renewed.update(name for name, count in counts.items() if count >= 2)
                time.sleep(0.01)

    async def handler(event: Event) -> None:
        await both.wait()
        if event.stream == "a":
            block_until_renewed()
        done.append(event.stream)

    consumers = [
        Consumer(broker, name, "g", handler, ConsumerOptions(lease=0.6, concurrency=2))
        for name in "ab"
    ]
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]
    for name in "ab":
        await Producer(broker, name).publish(1, type="t")
    await eventually(lambda: len(done) == 2, what="both to be handled")
    for consumer in consumers:
        consumer.stop()
    await asyncio.gather(*running)
    assert renewed == {"a", "b"}
