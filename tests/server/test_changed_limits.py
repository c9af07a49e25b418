"""Limits that are declared otherwise from one deployment to the next: what waits by the old ones goes on by the new."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Levels,
    Limit,
    Producer,
    Reclaimer,
    ReclaimerOptions,
)
from streams.handlers.routes import Route, Router
from tests.conftest import eventually
from tests.server.limiting import no_slots, parked

pytestmark = pytest.mark.in_turn

LEVELS = Levels((0,))
HOURLY = Limit("tenant", rate="1/h", burst=1)
ONE = Limit("tenant", concurrency=1)
QUICK = Limit("tenant", rate="500/s", burst=50)


class Handler:
    """Holds the first event until it is let go; the others are done at once."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.seen: Counter[int] = Counter()

    async def __call__(self, event: Event) -> None:
        self.seen[event.data] += 1
        if event.data == 0:
            await self.go_on.wait()


@asynccontextmanager
async def working(
    broker: Broker, handler: Handler, limits: Sequence[Limit], **options
) -> AsyncIterator[Consumer]:
    route = Route(handler.__call__, limits=limits)
    consumer = Consumer(
        broker, "s", "g", route, ConsumerOptions(levels=LEVELS, **options)
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await running


def events(count: int) -> list[Event]:
    return [Event("t", n, tenant="acme", instance="i") for n in range(count)]


CHANGES = [
    pytest.param([ONE], [], id="a concurrency that is no more"),
    pytest.param(
        [ONE], [Limit("tenant", concurrency=3)], id="a concurrency that is raised"
    ),
    pytest.param(
        [Limit("tenant", concurrency=1)],
        [Limit("instance", concurrency=2)],
        id="by something else",
    ),
    pytest.param([ONE], [QUICK], id="a rate instead of a concurrency"),
    pytest.param([HOURLY], [], id="a rate that is no more"),
    pytest.param([HOURLY], [QUICK], id="a rate that is raised"),
    pytest.param([HOURLY], [ONE], id="a concurrency instead of a rate"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_what_waits_for_a_limit_goes_on_after_it_is_changed(
    broker, before, after
):
    """The first event runs with an old worker while a new one starts, and ends there, after it was told to stop."""
    handler = Handler()
    async with working(broker, handler, before, name="old") as old:
        await Producer(broker, "s").publish_many(events(30))
        await eventually(lambda: handler.seen[0], what="the first to run")
        await eventually(lambda: parked(broker, 29), what="the others to wait")
        old.stop()
        async with working(broker, handler, after, name="new"):
            if after != [ONE]:
                await eventually(
                    lambda: len(handler.seen) == 30, seconds=10, what="what waited"
                )
            handler.go_on.set()
            await eventually(
                lambda: len(handler.seen) == 30, seconds=10, what="all of it"
            )
    assert set(handler.seen.values()) == {1}
    await eventually(lambda: no_slots(broker), what="the slots to be gone")


@pytest.mark.parametrize(
    ("before", "after"), [([ONE], []), ([ONE], [QUICK]), ([QUICK], [ONE])]
)
async def test_workers_with_other_limits_side_by_side_leave_nothing_behind(
    broker, before, after
):
    """Whatever waits in a queue of the old ones is looked at by the reclaimer of the new ones."""
    handler = Handler()
    handler.go_on.set()
    router = Router([Route(handler.__call__, limits=after)])
    options = ReclaimerOptions(levels=LEVELS, lease=3.0, interval=0.1)
    reclaimer = Reclaimer(broker, "s", "g", router, options)
    async with (
        working(broker, handler, before, name="old", concurrency=4) as old,
        working(broker, handler, after, name="new", concurrency=4),
    ):
        sweeping = asyncio.create_task(reclaimer.run())
        for part in range(3):
            await Producer(broker, "s").publish_many(
                events(90)[part * 30 : part * 30 + 30]
            )
            await eventually(
                lambda least=part * 30 + 10: len(handler.seen) > least,
                what="some of it",
            )
        old.stop()
        await eventually(lambda: len(handler.seen) == 90, seconds=10, what="all of it")
        # A slot that was handed to an event which the new worker took is given back by nobody but the sweep.
        await eventually(lambda: no_slots(broker), what="the slots to be gone")
        reclaimer.stop()
        await sweeping
    assert set(handler.seen.values()) == {1}


async def test_a_worker_lets_go_what_waits_for_limits_that_it_does_not_have(broker):
    """Though an old worker sweeps, and for as long as it does."""
    handler = Handler()
    options = ReclaimerOptions(levels=LEVELS, lease=30.0, interval=20.0)
    knows = Reclaimer(
        broker, "s", "g", Router([Route(handler.__call__, limits=[ONE])]), options
    )
    does_not = Reclaimer(broker, "s", "g", Router([Route(handler.__call__)]), options)
    async with working(broker, handler, [ONE]) as old:
        await Producer(broker, "s").publish_many(events(3))
        await eventually(lambda: parked(broker, 2), what="two to wait")
        await knows.sweep()
        await does_not.sweep()
        await eventually(
            lambda: old.stats.limited == 4, seconds=10, what="the two to ask anew"
        )
        handler.go_on.set()
        await eventually(lambda: old.stats.done == 3)
    await does_not.sweep()
    assert await broker.control.call("EXISTS", broker.keys("s").queues("g")) == 0
    assert await no_slots(broker)


async def test_what_was_declared_otherwise_is_looked_at_once(broker):
    """Each worker of a deployment writes down the same; the first one finds it changed."""
    handler = Handler()
    handler.go_on.set()
    async with working(broker, handler, [HOURLY, Limit("instance", rate="9/s")]):
        pass
    async with (
        working(broker, handler, [QUICK]) as first,
        working(broker, handler, [QUICK]) as second,
    ):
        await eventually(lambda: first.vitals.read_at and second.vitals.read_at)
    rows = await broker.control.call("HGETALL", broker.keys("s").limits("g"))
    assert rows == [b"tenant:declared", b"500/s burst 50"]
