"""Suspects: entries whose next stall would be their last. While one runs, nothing else of its process does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Levels,
    Limit,
    Producer,
    Retry,
    Snooze,
)
from streams.admin.why import Wanted, Why
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import FetchingByKey, Ways
from streams.broker.entries.settle import Postponed, Settling
from streams.consuming.isolation import Isolation
from streams.handlers.routes import Route
from streams.policy.declaration import AS_IT_IS
from streams.policy.ordering import Lanes
from streams.policy.retry import AttemptRecord
from streams.worker.heartbeat import Heartbeat
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn

RETRY = Retry(max_retries=2, delay=0.0)
RECORD = AttemptRecord(stalls=2, suspect=True).to_json()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)
    monkeypatch.setattr("streams.consuming.isolation.LEAVE", (0.05, 0.1))


async def suspects(
    broker: Broker, stream: str, events: Sequence[Event[Any]], delay_ms: int = 0
) -> list[Delivery]:
    """Retries of events that were with a worker each time it was killed."""
    keys, levels = broker.keys(stream), Levels((0,))
    fetching = Fetching(GroupConsumer(broker, keys, levels, "g", "killed"))
    await fetching.ensure_group()
    await Producer(broker, stream).publish_many(events)
    taken = await fetching.take(len(events))
    await Settling(GroupConsumer(broker, keys, levels, "g", "killed")).settle(
        (), [Postponed(one, delay_ms, RECORD) for one in taken]
    )
    return taken


async def make_due(broker: Broker, *members: str | bytes) -> None:
    seconds, micros = await broker.control.call("TIME")
    for member in members:
        await broker.control.call(
            "ZADD",
            broker.keys("s").retry("g"),
            int(seconds) * 1000 + int(micros) // 1000,
            member,
        )


def member(delivery: Delivery) -> str:
    return f"{delivery.level}|{delivery.entry_id}"


@contextlib.asynccontextmanager
async def consuming(*consumers: Consumer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield
    finally:
        for consumer in consumers:
            consumer.stop(1.0)
        await asyncio.gather(*tasks)


class Books:
    """What ran, and what ran beside a suspect."""

    def __init__(self) -> None:
        self.consumers: list[Consumer] = []
        self.running: set[str] = set()
        self.done: list[str] = []
        self.beside: list[object] = []
        self._lock = threading.Lock()

    def begin(self, event: Event[Any]) -> None:
        with self._lock:
            if (
                any(name.startswith("suspect") for name in (*self.running, event.id))
                and self.running
            ):
                self.beside.append((event.id, *self.running))
            self.running.add(event.id)
            if (
                event.id.startswith("suspect")
                and (held := sum(one.held for one in self.consumers)) != 1
            ):
                self.beside.append((event.id, held))

    def end(self, event: Event[Any]) -> None:
        with self._lock:
            self.running.discard(event.id)
            self.done.append(event.id)

    async def handle(self, event: Event[Any]) -> None:
        self.begin(event)
        await asyncio.sleep(0.005)
        self.end(event)

    def consumer(
        self, broker: Broker, stream: str, handler: Any = None, **options: Any
    ) -> Consumer:
        limits = options.pop("limits", ())
        route = Route(handler or self.handle, retry=RETRY, limits=limits)
        consumer = Consumer(
            broker,
            stream,
            "g",
            route,
            ConsumerOptions(levels=Levels((0,)), concurrency=5, **options),
        )
        self.consumers.append(consumer)
        return consumer


def events(kind: str, count: int) -> list[Event[Any]]:
    return [Event("t", n, id=f"{kind} {n}", key=f"key {n % 2}") for n in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"lanes": Lanes(order_by=("key",))}, id="lined-up"),
        pytest.param({"limits": (Limit("key", concurrency=1),)}, id="limited"),
    ],
)
async def test_a_suspect_runs_alone_in_its_process(broker, options):
    """Two streams, one with handlers in threads. What is lined up or has a slot handed over is no exception."""
    books = Books()

    def in_thread(event: Event[Any]) -> None:
        books.begin(event)
        books.end(event)

    await suspects(broker, "s", events("suspect", 4))
    await Producer(broker, "s").publish_many(events("plain", 30))
    await Producer(broker, "t").publish_many(events("other", 30))
    async with consuming(
        books.consumer(broker, "s", **options), books.consumer(broker, "t", in_thread)
    ):
        await eventually(lambda: len(books.done) >= 64, what="all to be done")
    assert books.beside == []
    assert sorted(books.done) == sorted(
        e.id for e in events("suspect", 4) + events("plain", 30) + events("other", 30)
    )


async def test_a_suspect_that_waits_behind_its_key_runs_alone_too(broker):
    """Lined up, it is handed out when it is the first of its key, and not by a look for retries."""
    (suspect,), starts, alone = (
        await suspects(broker, "s", events("suspect", 1), 3_600_000),
        [],
        [],
    )
    keys, retry = broker.keys("s"), broker.keys("s").retry("g")

    async def handle(event: Event[Any]) -> None:
        starts.append(event.id)
        if event.id.startswith("suspect"):
            alone.append(Isolation.of(broker).is_closed)
        elif len(starts) == 1:
            raise Snooze(3600.0)

    options = ConsumerOptions(levels=Levels((0,)), lanes=Lanes(order_by=("key",)))
    async with consuming(
        Consumer(broker, "s", "g", Route(handle, retry=RETRY), options)
    ):
        await Producer(broker, "s").publish_many(
            [Event("t", 1, id="first", key="key 0")]
        )
        await eventually(
            lambda: broker.control.call("ZRANGE", retry, 1, 1),
            what="the first of the key to be snoozed",
        )
        waiting = set(await broker.control.call("ZRANGE", retry, 0, -1))
        (first,) = waiting - {member(suspect).encode()}
        await make_due(broker, member(suspect))
        await eventually(
            lambda: broker.control.call("ZCARD", keys.behind("g")),
            what="the suspect to be lined up",
        )
        await make_due(broker, first)
        await eventually(lambda: alone, what="the suspect to run")
    assert starts == ["first", "first", "suspect 0"]
    assert alone == [True]


async def test_a_suspect_that_is_handed_a_slot_keeps_it_until_it_runs_alone(
    broker, server, namespace
):
    """Whoever gave the slot back has room for what waits for it, but not for a suspect."""
    gate, ran = asyncio.Event(), []
    (suspect,) = await suspects(broker, "s", events("suspect", 1), 3_600_000)

    async def handle(event: Event[Any]) -> None:
        ran.append(event.id)
        if event.id == "first":
            await gate.wait()

    def consumer(broker: Broker) -> Consumer:
        route = Route(handle, retry=RETRY, limits=(Limit("key", concurrency=1),))
        return Consumer(broker, "s", "g", route, ConsumerOptions(levels=Levels((0,))))

    async with Broker(server.url, namespace=namespace) as second:
        busy, idle = consumer(broker), consumer(second)
        async with consuming(busy):
            await Producer(broker, "s").publish_many(
                [Event("t", 1, id="first", key="key 0")]
            )
            await eventually(lambda: ran, what="the slot to be taken")
            async with consuming(idle):
                await make_due(broker, member(suspect))
                await eventually(
                    lambda: idle.stats.limited == 1,
                    what="the suspect to wait for the slot",
                )
                gate.set()
                await eventually(
                    lambda: idle.stats.done + busy.stats.done == 2,
                    what="the suspect to run",
                )
    assert ran == ["first", "suspect 0"]
    assert busy.stats.released == idle.stats.released == 0


async def test_a_busy_process_leaves_a_suspect_to_an_idle_one(
    broker, server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.consuming.isolation.LEAVE", (60.0, 60.0))
    gate, ran = asyncio.Event(), []

    async def hold(event: Event[Any]) -> None:
        await gate.wait()

    async def handle(event: Event[Any]) -> None:
        ran.append(event.id)

    later = await suspects(broker, "s", events("suspect", 3), 3_600_000)
    async with Broker(server.url, namespace=namespace) as second:
        busy, idle = (
            Consumer(
                one,
                "s",
                "g",
                Route(one_handles, retry=RETRY),
                ConsumerOptions(concurrency=2),
            )
            for one, one_handles in ((broker, hold), (second, handle))
        )
        async with consuming(busy):
            await Producer(broker, "s").publish(1, type="t")
            await eventually(lambda: busy.busy == 1, what="the handler to run")
            await make_due(broker, *map(member, later))
            await eventually(
                lambda: busy._fetcher._suspects.waiting, what="the busy one to see them"
            )
            async with consuming(idle):
                await eventually(lambda: len(ran) == 3, what="the idle one to run them")
            assert busy.busy == 1
            gate.set()


async def test_a_suspect_that_waits_holds_up_no_stop_and_is_told(broker, monkeypatch):
    """While the gate is closed the consumer counts as one that reads, has no free place, and stops in time."""
    monkeypatch.setattr("streams.consuming.isolation.FIRST_WAIT", 600.0)
    gate, started = asyncio.Event(), []

    async def handle(event: Event[Any]) -> None:
        started.append(event.id)
        if not event.id.startswith("suspect"):
            await gate.wait()

    later = await suspects(broker, "s", events("suspect", 1), 3_600_000)
    consumer = Consumer(
        broker, "s", "g", Route(handle, retry=RETRY), ConsumerOptions(concurrency=3)
    )
    isolation = Isolation.of(broker)
    async with consuming(consumer):
        await Producer(broker, "s").publish(1, type="t")
        await eventually(lambda: started, what="the handler to run")
        await make_due(broker, *map(member, later))
        await eventually(lambda: isolation.is_closed, what="the gate to close")
        assert consumer.free == 0
        consumer.stop(5.0)
        await eventually(lambda: not isolation.is_closed, what="the gate to open")
        gate.set()
    assert len(started) == 1
    rows = await broker.control.call(
        "XPENDING", broker.keys("s").level(0), "g", "-", "+", 10
    )
    assert [(row[0].decode(), row[1]) for row in rows] == [
        (later[0].entry_id, b"-parked-")
    ]


# Groups do not wait together on a cluster: they are on several servers.
@pytest.mark.one_server
async def test_idle_groups_that_wait_together_hold_up_no_suspect(
    broker, caplog, monkeypatch
):
    """They wait for up to a minute, and have nothing in hand meanwhile."""
    monkeypatch.setattr("streams.broker.entries.lookout.CROWD", 4)
    monkeypatch.setattr("streams.consuming.idle.QUIET", 0.05)
    caplog.set_level("INFO", "streams.consumer")
    books = Books()
    waiting = await suspects(broker, "s", events("suspect", 2), 3_600_000)
    consumers = [books.consumer(broker, name) for name in ("s", "t", "u", "v")]
    async with consuming(*consumers):
        await eventually(
            lambda: all(one._idling.is_resting for one in consumers), what="all to rest"
        )
        await make_due(broker, *map(member, waiting))
        await eventually(lambda: len(books.done) == 2, what="the suspects to be done")
        await Producer(broker, "t").publish_many(events("plain", 2))
        await eventually(lambda: len(books.done) == 4, what="the others to go on")
    assert books.beside == []
    assert not [record for record in caplog.records if "waits on" in record.message]


async def test_other_groups_are_told_for_which_suspect_they_wait(broker):
    """The worker says so while it lasts; by its last note every handler of it was free."""
    ended = asyncio.Event()

    async def kills(event: Event[Any]) -> None:
        await ended.wait()

    books = Books()
    (suspect,) = await suspects(broker, "s", events("suspect", 1), 3_600_000)
    killing, other = (
        books.consumer(broker, "s", kills, name="w"),
        books.consumer(broker, "t", name="w"),
    )

    async def states() -> list[tuple[str, str]]:
        found = await Why(broker, "t", patience=0.0).ask(Wanted(level=0))
        return [(reason.state, reason.facts.get("by", "")) for reason in found.reasons]

    async with consuming(killing, other):
        recording = asyncio.create_task(Heartbeat(broker, (killing, other), "w").run())
        await eventually(lambda: other.vitals.read_at, what="both to look")
        await make_due(broker, member(suspect))
        await eventually(lambda: killing.busy, what="the suspect to run")
        await Producer(broker, "t").publish_many(events("other", 1))

        async def is_told() -> bool:
            return await states() == [("isolated", f"s/g {member(suspect)}")]

        await eventually(is_told, what="the reason", seconds=5.0)
        ended.set()
        await eventually(lambda: books.done == ["other 0"], what="the other one")
        recording.cancel()


async def test_one_that_is_lined_up_is_not_handed_out_among_others(broker):
    """Its worker may be killed before it gave it back: that stall would be its last, and it never ran alone."""
    keys, levels, by_key = broker.keys("s"), Levels((0,)), Lanes(order_by=("key",))
    declaring = Declaring(keys, levels, "g", AS_IT_IS)
    made = FetchingByKey(
        GroupConsumer(broker, keys, levels, "g", "c"), declaring, by_key
    )
    await made.ensure_group()
    receipts = await Producer(broker, "s").publish_many(
        Event("t", n, key=f"k{n % 2}") for n in range(4)
    )
    await broker.control.call(
        "HSET", keys.attempts("g"), f"0|{receipts[2].entry_id}", RECORD
    )
    first = await made.take(10)
    await Settling(GroupConsumer(broker, keys, levels, "g", "c"), Ways(by_key)).settle(
        first
    )
    assert [delivery.entry_id for delivery in await made.take(10)] == [
        receipts[3].entry_id
    ]
    suspect = (await made.take_due(10, 0)).suspect
    assert suspect == f"0|{receipts[2].entry_id}"
    (alone,) = await made.take_alone(suspect)
    assert (alone.entry_id, alone.record) == (receipts[2].entry_id, RECORD)


async def test_a_suspect_that_comes_among_others_is_given_back(
    broker, monkeypatch: pytest.MonkeyPatch
):
    """The second line: no script hands one out, and if one did it would not start beside what runs."""
    taking, books, gate = Fetching.take_due, Books(), asyncio.Event()

    async def take_all(
        self: Fetching, limit: int, suspects: int, turns: Any = None
    ) -> Any:
        return await taking(self, limit, suspects + 100, turns)

    async def handle(event: Event[Any]) -> None:
        books.begin(event)
        await gate.wait()

    monkeypatch.setattr(Fetching, "take_due", take_all)
    (suspect,) = await suspects(broker, "s", events("suspect", 1), 3_600_000)
    consumer = books.consumer(broker, "s", handle)
    async with consuming(consumer):
        await Producer(broker, "s").publish(Event("t", 1, id="plain"))
        await eventually(lambda: consumer.busy, what="another one to run")
        await make_due(broker, member(suspect))
        await eventually(
            lambda: consumer.stats.fetched >= 3, what="the suspect to be handed out"
        )
        assert books.running == {"plain"}
        gate.set()
