"""The harness on a real server: drain, time travel, what it tells, and how it leaves things."""

from __future__ import annotations

import asyncio
import time

import pytest

from streams import (
    ConfigurationError,
    Event,
    EventError,
    Reject,
    Retry,
    Settings,
    Snooze,
    sync,
)
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.errors import Skip, Unfinished
from streams.middleware import Middleware
from streams.testing import BlockingHarness, Harness, harness
from tests.server.harness import bind as bind
from tests.server.harness import pipeline as pipeline

pytestmark = pytest.mark.anyio

ONCE = Retry(max_retries=1, delay=60, jitter=0)


async def test_drain_runs_handlers_and_what_they_publish(pipeline, bind):
    @pipeline.handler("orders", group="billing")
    async def charge(event):
        for delay in (0.0, 60.0):
            await pipeline.publish(
                "mails", {"order": event.data["id"]}, type="mail.wanted", delay=delay
            )

    @pipeline.handler("mails", group="sender")
    def send(event):
        time.sleep(0.01)

    async with bind() as harness:
        receipts = await pipeline.publish_many(
            "orders", ({"id": n} for n in range(20)), type="order.created"
        )
        assert harness.done("orders", "billing") == []
        assert await harness.drain() == 40
        assert {event.id for event in harness.done("orders", "billing")} == {
            r.event_id for r in receipts
        }
        assert sorted(
            event.data["order"] for event in harness.published("mails")
        ) == sorted([*range(20)] * 2)
        assert len(harness.published("mails", type="mail.wanted")) == 40
        assert harness.published("mails", type="other") == []
        assert len(harness.done("mails", "sender")) == 20
        await harness.travel(61)
        assert await harness.drain() == 20
        assert len(harness.done("mails", "sender")) == 40
        assert await harness.unfinished() == []
        assert await harness.drain() == 0


async def test_retries_wait_for_travel(pipeline, bind):
    @pipeline.handler("orders", group="billing", retry=ONCE)
    async def charge(event):
        raise OSError("the bank is closed")

    async with bind() as harness:
        await pipeline.publish("orders", {"id": 1}, type="order.created")
        assert await harness.drain() == 1
        (left,) = await harness.unfinished()
        assert left.work.retries_later == 1
        assert 59 < left.work.next_in <= 60
        assert str(left).startswith("orders/billing: 1 retry later (the next in ")
        await harness.travel(59)
        assert await harness.drain() == 0
        await harness.travel(1.1)
        assert await harness.drain() == 1
        assert [f.event.attempt for f in harness.failures("orders", "billing")] == [
            1,
            2,
        ]
        (letter,) = await harness.dead("orders", "billing")
        assert (letter.reason, letter.attempts) == ("retries-used-up", 2)
        assert harness.done("orders", "billing") == []


async def test_retries_without_delay_are_due_at_once(pipeline, bind):
    attempts = []

    @pipeline.handler("orders", group="billing", retry=Retry(max_retries=5, delay=0))
    async def charge(event):
        attempts.append(event.attempt)
        if event.attempt < 5:
            raise OSError

    async with bind() as harness:
        await pipeline.publish("orders", 1, type="t")
        assert await harness.drain() == 5
        assert attempts == [1, 2, 3, 4, 5]
        assert len(harness.done("orders", "billing")) == 1


async def test_scheduled_events_snoozes_and_more_than_one_retry(pipeline, bind):
    @pipeline.handler(
        "orders", group="billing", retry=Retry(max_retries=3, delay=10, jitter=0)
    )
    async def charge(event):
        if event.type == "later" and not harness.failures(
            "orders", "billing", type="later"
        ):
            raise Snooze(3600)
        if event.type == "failing" and event.attempt < 3:
            raise OSError

    async with bind() as harness:
        await pipeline.publish("orders", 1, type="scheduled", delay=7200)
        await pipeline.publish("orders", 2, type="later")
        await pipeline.publish("orders", 3, type="failing")
        assert harness.published("orders", type="scheduled")[0].delay == 7200
        await harness.drain()
        assert harness.done("orders", "billing") == []
        await harness.travel(10.5)
        await harness.drain()
        await harness.travel(20.5)
        await harness.drain()
        assert [event.type for event in harness.done("orders", "billing")] == [
            "failing"
        ]
        await harness.travel(3600)
        await harness.drain()
        await harness.travel(3600)
        await harness.drain()
        assert [event.type for event in harness.done("orders", "billing")] == [
            "failing",
            "later",
            "scheduled",
        ]


async def test_events_expire_and_dedup_windows_end(pipeline, bind):
    @pipeline.handler("orders", group="billing")
    async def charge(event): ...

    async with bind() as harness:
        await pipeline.publish("orders", 1, type="t", expires=60, id="a")
        await harness.travel(61)
        await pipeline.publish("orders", 2, type="t", expires=60, id="b")
        await harness.drain()
        assert [
            letter.reason for letter in await harness.dead("orders", "billing")
        ] == ["expired"]
        assert [event.id for event in harness.done("orders", "billing")] == ["b"]

        assert not (
            await pipeline.publish("orders", 3, type="t", dedup_id="x")
        ).duplicate
        assert (await pipeline.publish("orders", 3, type="t", dedup_id="x")).duplicate
        await harness.travel(3601)
        assert not (
            await pipeline.publish("orders", 3, type="t", dedup_id="x")
        ).duplicate
        assert len(harness.published("orders")) == 4


async def test_what_a_dead_worker_held_is_reclaimed_after_a_lease(pipeline, bind):
    @pipeline.handler("orders", group="billing", lease=30.0)
    async def charge(event): ...

    async with bind() as harness:
        await pipeline.publish("orders", 1, type="t")
        dead = Fetching(
            GroupConsumer(
                pipeline.broker,
                pipeline.broker.keys("orders"),
                pipeline.settings.levels,
                "billing",
                "dead",
            )
        )
        await dead.ensure_group()
        assert len(await dead.take(10)) == 1
        assert await harness.drain() == 0
        (left,) = await harness.unfinished()
        assert left.work.elsewhere == 1
        await harness.travel(29)
        assert await harness.drain() == 0
        await harness.travel(2)
        assert await harness.drain() == 1
        assert [event.attempt for event in harness.done("orders", "billing")] == [2]


async def test_what_is_paused_is_left_and_told(pipeline, bind):
    @pipeline.handler("orders", group="billing", retry=Retry(max_retries=1, delay=0))
    async def charge(event):
        if event.attempt == 1 and event.data == "fails":
            await pipeline.pauses("orders").pause(level=0)
            raise OSError

    async with bind() as harness:
        await pipeline.publish("orders", "fails", type="t")
        assert await harness.drain() == 1
        await pipeline.publish("orders", 1, type="t")
        await pipeline.publish("orders", 2, type="t", priority=5)
        assert await harness.drain() == 1
        (left,) = await harness.unfinished()
        assert str(left) == "orders/billing: 2 paused"
        await pipeline.pauses("orders").resume(level=0)
        assert await harness.drain() == 2
        assert await harness.unfinished() == []


async def test_middleware_counts_to_the_outcome_of_an_attempt(pipeline, bind):
    class Doubts(Middleware):
        def before(self, attempt):
            if attempt.event.type == "skipped":
                raise Skip

        def after(self, attempt):
            if attempt.event.type == "doubtful":
                raise OSError

    pipeline.middleware.append(Doubts())
    before = list(pipeline.middleware)

    @pipeline.handler("orders", group="billing", timeout=0.05)
    async def charge(event):
        await asyncio.sleep(60 if event.type == "slow" else 0)

    async with bind() as harness:
        for kind in ("skipped", "doubtful", "slow", "good"):
            await pipeline.publish("orders", 1, type=kind)
        await harness.drain()
        assert [event.type for event in harness.done("orders", "billing")] == ["good"]
        failures = {
            failure.event.type: type(failure.error)
            for failure in harness.failures("orders", "billing")
        }
        assert failures == {"doubtful": OSError, "slow": TimeoutError}
    assert pipeline.middleware == before


async def test_the_deadline_says_what_is_left(pipeline, bind):
    @pipeline.handler("orders", group="billing", concurrency=1)
    async def charge(event):
        await asyncio.sleep(60)

    async with bind() as harness:
        await pipeline.publish(
            "orders", {"secret": "5511999999999"}, type="order.created"
        )
        await pipeline.publish(
            "orders", {"secret": "5511999999999"}, type="order.created"
        )
        with pytest.raises(Unfinished) as caught:
            await harness.drain(within=0.3)
        text = str(caught.value)
        assert "not quiet after 0.3 s" in text
        assert "orders/billing: 1 waiting, 1 processing" in text
        assert "s in orders/billing: <Event order.created" in text
        assert "5511" not in text


async def test_handlers_that_never_stop_publishing_meet_the_deadline(pipeline, bind):
    @pipeline.handler("orders", group="billing")
    async def charge(event):
        await pipeline.publish("orders", event.data + 1, type="t")

    async with bind() as harness:
        await pipeline.publish("orders", 1, type="t")
        with pytest.raises(Unfinished):
            await harness.drain(within=0.3)


async def test_raise_errors_raises_what_the_handler_raised(pipeline, bind):
    mistake = KeyError("id")

    @pipeline.handler("orders", group="billing")
    async def charge(event):
        if event.data == 1:
            raise Reject("no such thing")
        raise mistake

    async with bind(raise_errors=True) as harness:
        await pipeline.publish("orders", 1, type="t")
        await harness.drain()  # Reject is an outcome, not a mistake.
        await pipeline.publish("orders", 2, type="t")
        with pytest.raises(KeyError) as caught:
            await harness.drain()
        assert caught.value is mistake
        assert await harness.drain() == 0


async def test_the_pipeline_is_led_back_and_the_keys_are_gone(server, pipeline, bind):
    @pipeline.handler("orders", group="billing")
    async def charge(event): ...

    async with bind() as harness:
        await pipeline.publish("orders", 1, type="t", delay=100)
        with server.client() as client:
            assert client.keys(f"{harness.namespace}:*")
        with pytest.raises(ConfigurationError, match="the pipeline is open"):
            await bind().__aenter__()
    assert pipeline.settings == Settings(
        "redis://production.invalid/0", namespace="production"
    )
    assert not pipeline.is_open
    with server.client() as client:
        assert client.keys(f"{harness.namespace}:*") == []
    async with bind() as second:
        assert second.namespace != harness.namespace
        assert second.published("orders") == []


async def test_an_event_that_was_published_is_seen_as_it_was_sent(pipeline, bind):
    async with bind() as harness:
        event = Event(
            "order.created",
            {"id": 1},
            key="42",
            priority=7,
            tenant="acme",
            headers={"shop": "x"},
            id="mine",
        )
        receipt = await pipeline.publish("orders", event)
        (seen,) = harness.published("orders")
        assert (seen.type, seen.data, seen.key, seen.tenant, seen.id) == event_facts(
            event
        )
        assert (seen.priority, seen.entry_id, seen.headers) == (
            5,
            receipt.entry_id,
            {"shop": "x"},
        )
        assert harness.published("other") == []


@pytest.mark.parametrize("is_spread", [False, True], ids=["whole", "partitions"])
async def test_what_is_published_is_seen_whichever_way(pipeline, bind, is_spread):
    """Each way of storing is told, and only what was stored by it: no duplicate, nothing that was refused."""

    @pipeline.handler("orders", group="billing")
    async def charge(event):
        return None

    if is_spread:
        pipeline.stream("orders", partitions=3)
    async with bind() as harness:
        await harness.drain()  # Workers write down how the stream is spread.
        await pipeline.publish("orders", 0, type="t")
        # They share trips.
        await asyncio.gather(
            *(pipeline.publish("orders", n, type="t") for n in range(1, 40))
        )
        await pipeline.publish_many("orders", [40, 41], type="t")
        await pipeline.publish_many("orders", [Event("t", 42, key="a")])
        async for _ in pipeline.producer("orders").publish_batches([43, 44], type="t"):
            pass
        await pipeline.publish("orders", 45, type="t", delay=60)
        await pipeline.publish_many("orders", [46, 47], type="t", delay=60)
        for _ in range(2):
            await pipeline.publish_many(
                "orders", [Event("t", n, dedup_id=str(n)) for n in (48, 49)]
            )
        with pytest.raises(EventError):
            await pipeline.publish_many("orders", [50, {1, 2}], type="t")
        assert sorted(event.data for event in harness.published("orders")) == list(
            range(51)
        )


def event_facts(event: Event) -> tuple:
    return event.type, event.data, event.key, event.tenant, event.id


def test_blocking(server):
    pipeline = sync.Pipeline(
        "redis://production.invalid/0", settings=Settings(namespace="production")
    )

    @pipeline.handler("orders", group="billing", retry=ONCE)
    def charge(event):
        if event.attempt == 1:
            raise OSError
        pipeline.publish("mails", event.data, type="mail.wanted", expires=60)

    @pipeline.handler("mails", group="sender")
    async def send(event):
        await pipeline.asynchronous.publish("sent", event.data, type="mail.sent")

    with harness(pipeline, url=server.url) as bound:
        assert isinstance(bound, BlockingHarness)
        pipeline.publish("orders", {"id": 1}, type="order.created")
        assert bound.drain() == 1
        assert len(bound.unfinished()) == 1
        bound.travel(61)
        assert bound.drain() == 2
        assert [event.attempt for event in bound.done("orders", "billing")] == [2]
        assert len(bound.failures("orders", "billing")) == 1
        assert [event.data for event in bound.published("sent")] == [{"id": 1}]
        assert bound.dead("orders", "billing") == []
        assert pipeline.status().streams().keys() == {"orders", "mails", "sent"}
        with server.client() as client:
            assert client.keys(f"{bound.namespace}:*")
    assert pipeline.settings.url == "redis://production.invalid/0"
    with server.client() as client:
        assert client.keys(f"{bound.namespace}:*") == []


def test_blocking_takes_what_it_is_given(server, pipeline):
    assert isinstance(harness(pipeline, url=server.url), Harness)
