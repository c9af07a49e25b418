"""Partitions on a real server: events find theirs, workers share them out, and nothing is left when they change."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streams import (
    BrokerUnavailable,
    Event,
    Partitions,
    Pipeline,
    Producer,
    PublishUnknown,
    Settings,
    StreamFull,
)
from streams.admin.status import Status
from streams.errors import ConfigurationError
from streams.policy.partitions import partition_name, partition_of
from streams.producer import ProducerOptions
from streams.testing import harness
from tests.conftest import eventually

COUNT = 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("streams.worker.assignment.BEAT", 0.1)


class Site:
    """Workers of one pipeline on one namespace, and what their handlers saw."""

    def __init__(
        self, server, namespace, partitions: int | Partitions = COUNT, **options
    ) -> None:
        self.settings = Settings(
            url=server.url, namespace=namespace, lease=2.0, concurrency=10
        )
        self.partitions = partitions
        self.options = options
        self.started: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.by_worker: dict[int, Counter[str]] = defaultdict(Counter)
        self.order: dict[str, list[int]] = defaultdict(list)
        self.gate = asyncio.Event()
        self.gate.set()

    def pipeline(self, number: int = 0) -> Pipeline:
        pipeline = Pipeline(settings=self.settings)
        pipeline.stream("orders", partitions=self.partitions)

        async def handle(event: Event) -> None:
            self.started[event.id] += 1
            await self.gate.wait()
            self.seen[event.id] += 1
            self.by_worker[number][event.stream] += 1
            if event.key:
                self.order[event.key].append(event.data)

        pipeline.handler("orders", group="g", **self.options)(handle)
        return pipeline

    @asynccontextmanager
    async def worker(self, number: int = 0) -> AsyncIterator[Pipeline]:
        pipeline = self.pipeline(number)
        running = asyncio.create_task(pipeline.run())
        try:
            await eventually(
                lambda: running.done() or serves(pipeline), what="the worker to serve"
            )
            if running.done():
                running.result()
            yield pipeline
        finally:
            pipeline.stop()
            await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 10)


def serves(pipeline: Pipeline) -> list[int]:
    return (
        pipeline._service.assignments[0].serves if pipeline._service is not None else []
    )


async def test_events_of_a_key_are_on_one_partition_and_the_others_go_in_turns(
    server, namespace
):
    site = Site(server, namespace)
    async with site.worker(), site.pipeline() as pipeline:
        site.gate.clear()
        for n in range(40):
            receipt = await pipeline.publish("orders", n, type="t", key=f"k{n % 5}")
            place = await Status(pipeline.broker).find(
                partition_name("orders", partition_of(f"k{n % 5}", COUNT)),
                receipt.event_id,
            )
            assert place
        rows = [Event("t", n, key=None if n % 2 else f"k{n}") for n in range(1000)]
        receipts = await pipeline.publish_many("orders", rows)
        assert len({receipt.event_id for receipt in receipts}) == 1000
        lengths = [
            await pipeline.broker.control.call(
                "XLEN", pipeline.broker.keys(partition_name("orders", n)).level(0)
            )
            for n in range(COUNT)
        ]
        assert sum(lengths) == 1040
        assert min(lengths) > 100
        site.gate.set()
        await eventually(lambda: len(site.seen) == 1040, what="every event")
    assert max(site.seen.values()) == 1
    assert set(site.by_worker[0]) == {partition_name("orders", n) for n in range(COUNT)}


async def test_receipts_are_in_the_order_of_the_events(server, namespace):
    site = Site(server, namespace)
    async with site.worker(), site.pipeline() as pipeline:
        events = [
            Event("t", n, id=f"e{n}", key=f"k{n % 7}", delay=60.0 * (n % 3 == 0))
            for n in range(200)
        ]
        receipts = await pipeline.publish_many("orders", events)
        assert [receipt.event_id for receipt in receipts] == [
            event.id for event in events
        ]
        assert [bool(receipt.entry_id) for receipt in receipts] == [
            not event.delay for event in events
        ]
        repeated = [Event("t", n, dedup_id=f"d{n % 50}") for n in range(100)]
        receipts = await pipeline.publish_many("orders", repeated)
        assert sum(receipt.duplicate for receipt in receipts) == 50
        assert receipts[0].event_id == receipts[50].event_id


async def test_a_program_that_declares_nothing_spreads_too(server, namespace):
    site = Site(server, namespace, partitions=Partitions(COUNT, by="tenant"))
    async with site.worker(), Pipeline(settings=site.settings) as plain:
        for n in range(60):
            await plain.publish("orders", n, type="t", tenant=f"t{n % 6}")
        await eventually(lambda: len(site.seen) == 60, what="every event")
    assert len(site.by_worker[0]) > 1


async def test_order_by_key_holds_on_every_partition(server, namespace):
    site = Site(server, namespace, order_by="key")
    async with site.worker(0), site.worker(1), site.pipeline() as pipeline:
        for n in range(300):
            await pipeline.publish("orders", n, type="t", key=f"k{n % 9}")
        await eventually(lambda: len(site.seen) == 300, what="every event")
    assert all(seen == sorted(seen) for seen in site.order.values())


async def test_workers_come_and_go_under_load(server, namespace):
    site = Site(server, namespace)
    sent: set[str] = set()
    async with site.pipeline() as pipeline, site.worker(0) as first:
        assert serves(first) == [0, 1, 2, 3]
        going_on = True

        async def publish() -> None:
            while going_on:
                sent.add(
                    (
                        await pipeline.publish(
                            "orders", 1, type="t", key=f"k{len(sent) % 50}"
                        )
                    ).event_id
                )
                await asyncio.sleep(0.002)

        publishing = asyncio.create_task(publish())
        async with site.worker(1) as second:
            await eventually(
                lambda: len(serves(first)) == len(serves(second)) == 2, what="halves"
            )
            assert sorted(serves(first) + serves(second)) == [0, 1, 2, 3]
            async with site.worker(2) as third:
                await eventually(
                    lambda: (
                        sorted(map(len, map(serves, (first, second, third))))
                        == [1, 1, 2]
                    )
                )
                await eventually(
                    lambda: site.by_worker.get(2), what="something for the third"
                )
            await eventually(
                lambda: len(serves(first)) == len(serves(second)) == 2,
                what="halves again",
            )
            there = len(site.seen)
            await eventually(lambda: len(site.seen) > there + 100)
        await eventually(lambda: serves(first) == [0, 1, 2, 3], what="all of it again")
        going_on = False
        await publishing
        await eventually(lambda: set(site.seen) == sent, what="every event")
    assert max(site.seen.values()) == 1, "who leaves a partition ends in peace"
    assert len(site.by_worker) == 3


async def test_what_runs_ends_where_it_began_though_its_partition_goes_to_another_worker(
    server, namespace
):
    site = Site(server, namespace)
    site.gate.clear()
    async with site.worker(0) as first, site.pipeline() as pipeline:
        sent = {
            (await pipeline.publish("orders", n, type="t")).event_id for n in range(8)
        }
        await eventually(lambda: set(site.started) == sent, what="all of it to run")
        async with site.worker(1) as second:
            await eventually(
                lambda: len(serves(first)) == len(serves(second)) == 2, what="halves"
            )
            late = {
                (await pipeline.publish("orders", n, type="t")).event_id
                for n in range(8)
            }
            await eventually(
                lambda: set(site.started) == sent | late,
                what="what comes later to run as well",
            )
            site.gate.set()
            await eventually(lambda: set(site.seen) == sent | late, what="every event")
    assert set(site.started.values()) == {1}, "nothing was cancelled"


async def test_more_workers_than_partitions_share_them(server, namespace):
    site = Site(server, namespace, partitions=2)
    async with (
        site.worker(0) as a,
        site.worker(1) as b,
        site.worker(2) as c,
        site.pipeline() as pipeline,
    ):
        await eventually(
            lambda: sorted(map(serves, (a, b, c))) in ([[0], [0], [1]], [[0], [1], [1]])
        )
        for n in range(100):
            await pipeline.publish("orders", n, type="t")
        await eventually(lambda: len(site.seen) == 100)


async def test_who_is_not_heard_of_is_replaced_and_does_no_harm(server, namespace):
    site = Site(server, namespace)
    async with site.worker(0) as first, site.worker(1) as second:
        await eventually(
            lambda: len(serves(first)) == len(serves(second)) == 2, what="halves"
        )
        balance = second._service.assignments[0]

        async def dead(*_):
            raise BrokerUnavailable("cut off")

        # It is heard of no more, and goes on with what it has.
        balance._attending.attend = dead
        await eventually(lambda: serves(first) == [0, 1, 2, 3], what="all of it")
        assert len(serves(second)) == 2
        async with site.pipeline() as pipeline:
            for n in range(100):
                await pipeline.publish("orders", n, type="t")
            await eventually(lambda: len(site.seen) == 100)
    assert max(site.seen.values()) == 1


async def test_places_are_shared_among_the_partitions(server, namespace):
    site = Site(server, namespace)
    site.gate.clear()
    async with site.worker() as worker, site.pipeline() as pipeline:
        for n in range(100):
            await pipeline.publish("orders", n, type="t")
        service = worker._service
        await eventually(
            lambda: sum(consumer.busy for consumer in service.consumers) >= 10
        )
        await asyncio.sleep(0.3)  # In which more would have been started.
        assert sum(consumer.busy for consumer in service.consumers) <= 12, (
            "10, rounded up for each of 4"
        )
        site.gate.set()
        await eventually(lambda: len(site.seen) == 100)


async def test_partitions_become_more_and_never_less(server, namespace):
    few, many = Site(server, namespace, 2), Site(server, namespace, 5)
    async with few.worker(0) as old:
        async with many.worker(1) as new:
            await eventually(
                lambda: len(serves(old)) + len(serves(new)) == 5, what="five partitions"
            )
        await eventually(
            lambda: serves(old) == [0, 1, 2, 3, 4],
            what="those that it did not declare, too",
        )
        async with many.pipeline() as pipeline:
            for n in range(50):
                await pipeline.publish("orders", n, type="t")
            await eventually(lambda: len(few.seen) == 50)


async def test_what_was_there_before_is_handled(server, namespace):
    site = Site(server, namespace)
    async with Pipeline(settings=site.settings) as plain:
        await plain.publish_many("orders", range(20), type="t")
        async with site.worker():
            await eventually(lambda: len(site.seen) == 20)
        await plain.publish("orders", 1, type="t")
        async with site.worker():
            await eventually(lambda: len(site.seen) == 21)


async def test_another_attribute_is_refused(server, namespace):
    site, other = (
        Site(server, namespace),
        Site(server, namespace, Partitions(COUNT, by="tenant")),
    )
    async with site.worker():
        with pytest.raises(
            ConfigurationError,
            match=r"spread by 'key': declare Partitions\(4, by='key'\)",
        ):
            await asyncio.wait_for(other.pipeline().run(), 10)


async def test_a_full_partition_is_said_and_the_others_count(server, namespace):
    site = Site(server, namespace)
    async with site.worker(), site.pipeline() as pipeline:
        site.gate.clear()
        producer = Producer(pipeline.broker, "orders", ProducerOptions(max_len=20))
        some = [
            Event("t", 1, key="one"),
            *(Event("t", 1, key=f"k{n}") for n in range(9)),
        ]
        full: pytest.ExceptionInfo[StreamFull] | None = None
        while full is None:
            try:
                await producer.publish_many(some)
            except StreamFull:
                with pytest.raises(StreamFull) as full:
                    await producer.publish_many(some)
        assert 0 < full.value.accepted < 10
        site.gate.set()
        assert not isinstance(full.value, PublishUnknown)


async def test_the_harness_serves_all_partitions(server):
    pipeline = Pipeline()
    pipeline.stream("orders", partitions=3)
    seen = []

    @pipeline.handler("orders", group="g")
    async def handle(event: Event) -> None:
        seen.append(event.stream)

    async with harness(pipeline, url=server.url) as test:
        for n in range(9):
            await pipeline.publish("orders", n, type="t")
        assert await test.drain() == 9
        assert len(test.published("orders")) == 9
        assert len(test.done("orders", "g")) == 9
