"""What must hold at the edges of a consumer's life with an entry, shown on a real server."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from streams import (
    BrokerUnavailable,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Levels,
    Producer,
    Retry,
)
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import LOST, Buried, Postponed, Settling
from streams.broker.keys import PARKED
from streams.handlers.routes import Route
from streams.policy.declaration import Declaration
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn


async def owners(broker) -> list[str]:
    rows = await broker.control.call(
        "XPENDING", broker.keys("s").level(0), "g", "-", "+", 100
    )
    return [owner.decode() for _, owner, _, _ in rows]


async def test_the_late_return_of_an_abandoned_handler_settles_nothing(broker):
    release, returned = asyncio.Event(), asyncio.Event()

    async def handler(event: Event) -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        returned.set()

    await Producer(broker, "s").publish(1, type="t")
    route = Route(handler, timeout=0.05, retry=Retry(delay=3600.0))
    consumer = Consumer(broker, "s", "g", route, ConsumerOptions(cancel_grace=0.05))
    task = asyncio.create_task(consumer.run())

    async def waits_for_its_retry() -> bool:
        return await owners(broker) == [PARKED]

    await eventually(
        lambda: consumer.stats.abandoned, what="the handler to be abandoned"
    )
    await eventually(waits_for_its_retry, what="the attempt to be counted as failed")
    release.set()
    await returned.wait()
    # Settled after whatever the late return may have caused.
    await Producer(broker, "s").publish(2, type="t")
    await eventually(lambda: consumer.stats.done == 1, what="the event after it")
    assert await owners(broker) == [PARKED]
    assert consumer.stats.retried == consumer.stats.abandoned == 1
    consumer.stop(grace=0.0)
    await asyncio.wait_for(task, 5)


async def test_what_is_settled_is_forgotten(broker):
    async def handler(event: Event) -> None:
        if event.data % 10 == 0:
            raise ValueError

    route = Route(handler, retry=Retry(max_retries=0))
    await Producer(broker, "s").publish_many(range(500), type="t")
    consumer = Consumer(broker, "s", "g", route)
    task = asyncio.create_task(consumer.run())
    await eventually(
        lambda: consumer.stats.done + consumer.stats.dead == 500,
        what="all to be settled",
    )
    assert await DeadLetters(broker, "s", "g").count() == 50
    assert not consumer._state.held
    assert not consumer._state.unstarted
    assert not consumer._settler._why
    consumer.stop()
    await asyncio.wait_for(task, 5)


async def test_who_lost_an_entry_to_another_name_at_the_same_count_may_write_nothing(
    broker,
):
    """As after a sweep: the reclaimer owns it, and the count is not raised before it is handed out again."""
    keys = broker.keys("s")
    levels = Levels((0,))
    await Declaring(keys, levels, "g", Declaration()).declare(broker.control)
    receipts = await Producer(broker, "s").publish_many(range(3), type="t")
    taken = await Fetching(GroupConsumer(broker, keys, levels, "g", "old")).take(3)
    old = Settling(GroupConsumer(broker, keys, levels, "g", "old"))
    ids = [receipt.entry_id for receipt in receipts]
    await broker.control.call("XCLAIM", keys.level(0), "g", "new", 0, *ids, "JUSTID")
    assert await old.renew(taken) == taken
    outcome = await old.settle(
        (), [Postponed(taken[0], 0)], [Buried(taken[1], "rejected", b"{}")]
    )
    assert set(outcome.statuses.values()) == {LOST}
    rows = await broker.control.call("XPENDING", keys.level(0), "g", "-", "+", 10)
    assert {(row[1], row[3]) for row in rows} == {(b"new", 1)}
    assert await broker.control.call("XLEN", keys.dead("g")) == 0


async def test_what_a_lost_read_took_is_handed_back_before_the_end(broker, monkeypatch):
    """Else it would wait for the lease of a worker that is gone, and count as stalled."""
    consumer = Consumer(
        broker, "s", "g", lambda _: None, ConsumerOptions(name="me", lease=60.0)
    )
    lost = []

    def without_an_answer(read):
        async def ask(*given, **options):
            taken = await read(*given, **options)
            if not taken:
                return taken
            lost.append(taken)
            consumer.stop(5.0)
            raise BrokerUnavailable("the answer was lost")

        return ask

    for name in ("take", "wait"):
        monkeypatch.setattr(Fetching, name, without_an_answer(getattr(Fetching, name)))
    await Producer(broker, "s").publish(1, type="t")
    await asyncio.wait_for(consumer.run(), 30)
    assert len(lost) == 1
    assert await owners(broker) == [PARKED]
