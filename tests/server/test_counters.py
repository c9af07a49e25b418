"""Metrics of a real pipeline: counters equal what happened."""

from __future__ import annotations

import asyncio

import pytest

from streams import Event, Filter, Limit, Reject, Retry, Snooze
from streams.broker.entries.group_consumer import GroupConsumer
from tests.conftest import eventually
from tests.server.recorded import Recorded, trace_of

pytestmark = pytest.mark.in_turn


async def test_counters_equal_what_happened(server, namespace):
    recorded = Recorded(server, namespace)
    pipeline = recorded.pipeline

    @pipeline.handler("orders", group="billing", retry=Retry(max_retries=2, delay=0.01, jitter=0.0),
                      limits=[Limit("tenant", rate="200/s", burst=1)])  # fmt: skip
    async def work(event: Event) -> None:
        if event.data % 10 == 1:
            raise OSError("no")
        if event.data % 10 == 2:
            raise Reject("never")
        if event.data % 10 == 3 and event.id not in snoozed:
            snoozed.add(event.id)
            raise Snooze(0.01)

    snoozed: set[str] = set()
    async with pipeline:
        service = pipeline.service(pipeline.plans)
        running = asyncio.create_task(service.run())
        await pipeline.publish_many("orders", range(50), type="t", tenant="acme")
        await pipeline.publish("orders", 4, type="t")
        (consumer,) = service.consumers
        await eventually(
            lambda: consumer.stats.done + consumer.stats.dead == 51,
            seconds=30,
            what="everything to end",
        )
        await pipeline.dead_letters("orders", "billing").replay(
            Filter(reason="rejected")
        )
        await eventually(
            lambda: consumer.stats.dead == 15, what="what was put back to die again"
        )
        service.stop()
        await running
        stats = consumer.stats
    assert recorded.counted(
        "messaging.client.sent.messages", "messaging.destination.name"
    ) == {"orders": 51}
    assert recorded.counted(
        "messaging.client.consumed.messages", "messaging.consumer.group.name"
    ) == {"billing": stats.fetched}
    outcomes = recorded.counted("streams.settled", "streams.outcome")
    assert outcomes == {
        "done": stats.done, "retried": stats.retried, "dead": stats.dead, "snoozed": stats.snoozed,
        **({"limited": stats.limited} if stats.limited else {}),
    }  # fmt: skip
    assert (stats.done, stats.dead, stats.retried, stats.snoozed) == (41, 15, 10, 5)
    assert recorded.counted("streams.dead_letters", "streams.reason") == {
        "retries-used-up": 5,
        "rejected": 10,
    }
    assert recorded.counted("streams.replays", "messaging.destination.name") == {
        "orders": 5
    }
    (batch,) = recorded.points("streams.settle.batch_size")
    assert batch.sum == sum(outcomes.values())
    process = recorded.points("messaging.process.duration")
    assert (
        sum(point.count for point in process)
        == stats.done + stats.dead + stats.retried + stats.snoozed
    )
    assert {point.attributes.get("error.type") for point in process} == {
        None,
        "OSError",
    }
    assert process[0].explicit_bounds[:3] == (0.005, 0.01, 0.025)
    assert "acme" not in str(recorded.reader.get_metrics_data())


async def test_what_a_lost_worker_leaves_is_counted_by_the_reclaimer(server, namespace):
    from streams.broker.entries.declare import Declaring
    from streams.broker.entries.fetch import Fetching
    from streams.policy.declaration import Declaration
    from streams.policy.levels import Levels
    from streams.reclaimer import Reclaimer, ReclaimerOptions

    recorded = Recorded(server, namespace)
    async with recorded.pipeline as pipeline:
        await pipeline.publish("orders", 1, type="t")
        keys = pipeline.broker.keys("orders")
        declaring = Declaring(keys, Levels(), "billing", Declaration("fanout"))
        fetching = Fetching(
            GroupConsumer(
                pipeline.broker, keys, Levels(), "billing", "lost", lease=0.3
            ),
            declaring,
        )
        await fetching.ensure_group()
        # Else it would be taken for one with a lease of 30 s.
        await fetching.announce()
        assert len(await fetching.take(1)) == 1
        reclaimer = Reclaimer(
            pipeline.broker, "orders", "billing", Retry(), ReclaimerOptions(lease=0.3)
        )

        async def reclaimed() -> bool:
            await reclaimer.sweep()
            return reclaimer.stalled == 1

        await eventually(reclaimed, what="the stalled entry")
    assert recorded.counted("streams.settled", "streams.outcome") == {"stalled": 1}
    (span,) = recorded.named("retry orders")
    assert span.attributes["streams.reason"] == "stalled"
    assert trace_of(span) == trace_of(recorded.named("send orders")[0])
