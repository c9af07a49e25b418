"""Leases of a consumer: what was read and never arrived, what runs for long, and what was lost."""

from __future__ import annotations

import asyncio
import logging
import time

from streams import DeadLetters, Event, Producer, Reclaimer, ReclaimerOptions, Retry
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.consuming import _short_polls as _short_polls
from tests.server.consuming import consuming, gone, pending


async def test_entries_of_a_lost_read_are_handed_back(broker, caplog):
    """The server gave entries to this consumer and the consumer never heard of it."""
    gate = asyncio.Event()
    seen = []

    async def handler(event: Event) -> None:
        seen.append((event.data, event.attempt))
        if event.data == 0:
            await gate.wait()

    producer = Producer(broker, "s")
    await producer.publish(0, type="t")
    route = Route(handler, retry=Retry(max_retries=0))
    with caplog.at_level(logging.WARNING, "streams.consumer"):
        async with consuming(broker, route, lease=0.3, concurrency=1, name="me"):
            await eventually(lambda: seen, what="the first one")
            await producer.publish_many([1, 2, 3], type="t")
            read = (
                "XREADGROUP",
                "GROUP",
                "g",
                "me",
                "STREAMS",
                broker.keys("s").level(0),
                ">",
            )
            assert len((await broker.control.call(*read))[0][1]) == 3
            await asyncio.sleep(0.15)  # Half a lease: the time between two looks.
            gate.set()
            await eventually(gone(broker), what="all done")
    assert sorted(seen) == [(n, 1) for n in range(4)]
    assert [(r.streams_message, r.count) for r in caplog.records] == [
        ("entries of a lost read handed back", 3)
    ]
    assert await DeadLetters(broker, "s", "g").count() == 0


async def test_leases_are_renewed_for_as_long_as_a_handler_runs(server, broker):
    """Three times longer than a lease, half of that with the event loop blocked: nobody takes the entry over."""
    lease = 0.6
    key = broker.keys("s").level(0)
    samples = []

    def sample(seconds: float) -> None:
        give_up = time.monotonic() + seconds
        with server.client() as client:
            while time.monotonic() < give_up:
                samples.extend(client.xpending_range(key, "g", "-", "+", 10))
                time.sleep(0.01)

    async def handler(event: Event) -> None:
        sample(lease * 1.5)
        await asyncio.to_thread(sample, lease * 1.5)

    receipt = await Producer(broker, "s").publish(1, type="t")
    reclaimer = Reclaimer(
        broker, "s", "g", options=ReclaimerOptions(lease=lease, interval=0.05)
    )
    sweeping = asyncio.create_task(reclaimer.run())
    async with consuming(broker, handler, lease=lease, name="me") as consumer:
        await eventually(gone(broker), what="the handler")
    reclaimer.stop()
    await sweeping
    assert len(samples) > 10
    assert {
        (s["message_id"].decode(), s["consumer"], s["times_delivered"]) for s in samples
    } == {(receipt.entry_id, b"me", 1)}
    assert (
        lease / 4 * 1000
        < max(s["time_since_delivered"] for s in samples)
        < lease * 1000
    )
    assert (reclaimer.stalled, consumer.stats.lost, consumer.stats.done) == (0, 0, 1)


async def test_a_lost_lease_cancels_the_handler_and_writes_nothing(broker):
    cancelled = []
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(event.data)
            raise

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, handler, lease=0.3) as consumer:
        await started.wait()
        ((entry_id, *_),) = await pending(broker)
        await broker.control.call(
            "XCLAIM", broker.keys("s").level(0), "g", "thief", 0, entry_id
        )
        await eventually(lambda: cancelled, what="the cancellation")
        await eventually(lambda: consumer.busy == 0, what="its end")
    assert consumer.stats.lost == 1
    assert [(owner, count) for _, owner, _, count in await pending(broker)] == [
        ("thief", 2)
    ]
    assert (
        await broker.control.call(
            "EXISTS", broker.keys("s").attempts("g"), broker.keys("s").retry("g")
        )
        == 0
    )
