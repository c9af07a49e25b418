"""Pauses of a type, tenant, instance, subject or key; and the circuit breaker, which uses them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streams import (
    Broker,
    Cancellations,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Lanes,
    Limit,
    Pauses,
    Producer,
    Reject,
    Retry,
    Status,
    Unavailable,
)
from streams.events.names import parse_scope, scope
from streams.handlers.routes import Route, Router
from streams.middleware import Breaker
from tests.conftest import eventually


class Worker:
    """Consumers of stream ``s``, group ``g``, that keep what they started."""

    def __init__(
        self,
        broker: Broker,
        *,
        count: int = 1,
        limits=(),
        middleware=(),
        retry=None,
        **options,
    ) -> None:
        self.started: list[Event] = []
        self.fail: dict[str, Exception] = {}
        route = Route(
            self.handle, retry=retry or Retry(delay=0.0, jitter=0.0), limits=limits
        )
        self.consumers = [
            Consumer(
                broker,
                "s",
                "g",
                Router([route]),
                ConsumerOptions(name=f"c{n}", middleware=tuple(middleware), **options),
            )
            for n in range(count)
        ]

    async def handle(self, event: Event) -> None:
        self.started.append(event)
        if event.instance in self.fail:
            raise self.fail[event.instance]

    def of(self, **attribute: str) -> int:
        ((name, value),) = attribute.items()
        return sum(getattr(event, name) == value for event in self.started)

    def total(self, name: str) -> int:
        return sum(consumer.stats.as_dict()[name] for consumer in self.consumers)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        tasks = [asyncio.create_task(consumer.run()) for consumer in self.consumers]
        try:
            yield self
        finally:
            for consumer in self.consumers:
                consumer.stop()
            await asyncio.gather(*tasks)


# --- names


@pytest.mark.parametrize(
    ("group", "level", "attribute", "text"),
    [
        ("", None, None, "stream"),
        ("g", None, None, "group=g"),
        ("", -5, None, "level=-5"),
        ("g", 5, None, "group=g,level=5"),
        ("", None, ("tenant", "a,level=3"), "tenant=a,level=3"),
        ("g", None, ("key", "x=y,\n"), "group=g,key=x=y,\n"),
    ],
)
def test_scopes_are_read_as_they_are_written(group, level, attribute, text):
    assert scope(group, level, attribute) == text
    assert parse_scope(text) == (group, level, *(attribute or ("", "")))


@pytest.mark.parametrize(
    "arguments",
    [
        {"tenant": "a", "level": 5},
        {"tenant": "a", "key": "b"},
        {"tenant": ""},
        {"tenant": 7},
        {"nobody": "x"},
    ],
)
async def test_what_is_no_scope_is_refused(broker, arguments):
    await Producer(broker, "s").publish(Event("t", 1))
    with pytest.raises(ConfigurationError):
        await Pauses(broker, "s").pause(**arguments)
    with pytest.raises(ConfigurationError):
        await Pauses(broker, "s").resume(**arguments)


# --- held, counted, visible, resumed


@pytest.mark.parametrize(
    "attribute", ["type", "tenant", "instance", "subject", "key", "source"]
)
async def test_only_what_has_the_attribute_is_held_and_all_of_it_comes_back(
    broker, attribute
):
    def event(value: str, n: int) -> Event:
        return (
            Event(value, n)
            if attribute == "type"
            else Event("t", n, **{attribute: value})
        )

    pauses = Pauses(broker, "s", by="ada")
    producer = Producer(broker, "s")
    await producer.publish_many(
        event(value, n) for n in range(5) for value in ("held", "free")
    )
    await pauses.pause(reason="why", **{attribute: "held"})
    worker = Worker(broker)
    async with worker.running():
        await eventually(lambda: worker.of(**{attribute: "free"}) == 5)
        await eventually(lambda: worker.total("held") == 5)
        assert worker.of(**{attribute: "held"}) == 0
        (pause,) = await pauses.list()
        assert (pause.attribute, pause.value, pause.by, pause.reason) == (
            attribute,
            "held",
            "ada",
            "why",
        )
        assert await pauses.held() == {f"{attribute}=held": 5}
        (row,) = await Status(broker).overview()
        assert sum(level.retrying for level in row.groups[0].levels) == 5
        at = time.monotonic()
        await pauses.resume(**{attribute: "held"})
        await eventually(lambda: worker.of(**{attribute: "held"}) == 5)
        assert time.monotonic() - at < 2.0
        assert {event.attempt for event in worker.started} == {1}
        await eventually(lambda: worker.total("done") == 10)
    assert await pauses.held() == {}
    assert await broker.control.call("EXISTS", broker.keys("s").attempts("g")) == 0


async def test_a_pause_is_felt_by_running_workers_and_by_those_that_start_later(broker):
    pauses, producer = Pauses(broker, "s"), Producer(broker, "s")
    first = Worker(broker, count=2)
    async with first.running():
        await producer.publish(Event("t", 0, tenant="a"))
        await eventually(lambda: first.of(tenant="a") == 1)
        await pauses.pause(tenant="a")
        await asyncio.sleep(1.0)  # The promise: within a second.
        await producer.publish_many(Event("t", n, tenant="a") for n in range(50))
        await eventually(lambda: first.total("held") == 50)
        assert first.of(tenant="a") == 1
    later = Worker(broker)
    async with later.running():
        await producer.publish(Event("t", 51, tenant="a"))
        await producer.publish(Event("t", 52, tenant="b"))
        await eventually(lambda: later.of(tenant="b") == 1 and later.total("held") == 1)
        await pauses.resume_all()
        await eventually(lambda: later.of(tenant="a") == 51)


async def test_a_pause_of_one_group_holds_no_other(broker):
    await Producer(broker, "s").publish(Event("t", 1, tenant="a"))
    worker = Worker(broker)
    async with worker.running():
        await eventually(lambda: len(worker.started) == 1)
    await broker.control.call(
        "XGROUP", "CREATE", broker.keys("s").level(0), "other", "0"
    )
    await Pauses(broker, "s").pause(group="other", tenant="a")
    await Producer(broker, "s").publish(Event("t", 2, tenant="a"))
    again = Worker(broker)
    async with again.running():
        await eventually(lambda: len(again.started) == 1)
    assert again.total("held") == 0


async def test_an_entry_that_is_put_aside_just_as_the_pause_ends_is_not_forgotten(
    broker,
):
    """A worker that has not heard of the resume asks the server at the last moment."""
    pauses = Pauses(broker, "s")
    worker = Worker(broker)
    await Producer(broker, "s").publish(Event("t", 0, tenant="b"))
    await pauses.pause(tenant="a")
    async with worker.running():
        await eventually(lambda: len(worker.started) == 1)
        holder = worker.consumers[0]._fetcher._gate
        await eventually(lambda: holder.scopes == {"tenant=a"})
        await pauses.resume_all()
        holder.hold(frozenset({"tenant=a"}))
        await Producer(broker, "s").publish(Event("t", 1, tenant="a"))
        await eventually(lambda: worker.of(tenant="a") == 1, seconds=3.0)


async def test_a_held_event_can_be_cancelled_and_is_not_counted_any_more(broker):
    pauses = Pauses(broker, "s")
    await pauses_of(broker)
    receipt = await Producer(broker, "s").publish(Event("t", 1, tenant="a"))
    worker = Worker(broker)
    async with worker.running():
        await eventually(lambda: worker.total("held") == 1)
        await Cancellations(broker, "s").cancel(receipt.event_id)
    assert await pauses.held() == {}


async def pauses_of(broker: Broker) -> None:
    await Producer(broker, "s").publish(Event("t", 0, tenant="b"))
    await Pauses(broker, "s").pause(tenant="a")


async def test_a_held_event_keeps_the_place_of_its_key(broker):
    pauses = Pauses(broker, "s")
    await Producer(broker, "s").publish_many(
        Event("t", n, subject="k", tenant="a" if n == 0 else "b") for n in range(3)
    )
    await pauses.pause(tenant="a")
    worker = Worker(broker, lanes=Lanes(order_by=("subject",)))
    async with worker.running():
        await eventually(lambda: worker.total("held") == 1)
        assert not worker.started
        await pauses.resume(tenant="a")
        await eventually(lambda: [event.data for event in worker.started] == [0, 1, 2])


async def test_a_held_event_takes_nothing_of_its_limits(broker):
    pauses = Pauses(broker, "s")
    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a", instance="i") for n in range(5)
    )
    await Producer(broker, "s").publish(Event("t", 5, tenant="b", instance="i"))
    await pauses.pause(tenant="a")
    worker = Worker(broker, limits=[Limit("instance", rate="1/m", burst=1)])
    async with worker.running():
        await eventually(lambda: worker.of(tenant="b") == 1)
        assert worker.total("limited") == 0


# --- the circuit breaker


def breaker(**options) -> Breaker:
    return Breaker(
        "instance",
        **{"failures": 0.5, "minimum": 4, "window": 30.0, "open_for": 0.5} | options,
    )


async def test_a_breaker_opens_on_a_share_of_failures_probes_and_closes(broker):
    worker = Worker(
        broker,
        middleware=[breaker()],
        retry=Retry(max_retries=20, delay=0.0, jitter=0.0),
        concurrency=1,
    )
    worker.fail["bad"] = RuntimeError("down")
    producer, pauses = Producer(broker, "s"), Pauses(broker, "s")
    async with worker.running():
        await producer.publish_many(Event("t", n, instance="bad") for n in range(30))
        await producer.publish_many(Event("t", n, instance="good") for n in range(30))
        await eventually(lambda: worker.of(instance="good") == 30)
        await eventually(lambda: worker.total("held") >= 29)
        (pause,) = await pauses.list()
        assert (pause.by, pause.attribute, pause.value, pause.group) == (
            "breaker",
            "instance",
            "bad",
            "g",
        )
        assert "of 4 attempts failed" in pause.reason
        before = worker.of(instance="bad")
        assert before <= 8
        # One probe per half second, and no more.
        await eventually(lambda: worker.of(instance="bad") >= before + 2)
        assert worker.of(instance="bad") <= before + 4
        worker.fail.clear()
        await eventually(lambda: worker.total("done") == 60)
    assert await pauses.list() == []
    # Attempts burnt: those that failed before it was open, and none since.
    assert max(event.attempt for event in worker.started) <= 5
    assert await DeadLetters(broker, "s", "g").count() == 0
    assert Counter(
        event.data for event in worker.started if event.instance == "good"
    ) == Counter(range(30))


async def test_unavailable_opens_it_at_once_and_burns_nothing(broker):
    worker = Worker(
        broker, middleware=[breaker(minimum=1000)], retry=Retry(max_retries=0)
    )
    worker.fail["bad"] = Unavailable("the provider is away")
    async with worker.running():
        await Producer(broker, "s").publish_many(
            Event("t", n, instance="bad") for n in range(10)
        )
        await eventually(lambda: worker.total("held") + worker.total("snoozed") >= 10)
        assert worker.total("dead") == 0
        worker.fail.clear()
        await eventually(lambda: worker.total("done") == 10)
    assert {event.attempt for event in worker.started} == {1}


async def test_unavailable_without_a_breaker_is_a_failure_with_a_time(broker):
    at: list[float] = []

    async def handle(_: Event) -> None:
        at.append(time.monotonic())
        if len(at) == 1:
            raise Unavailable("away", retry_after=0.4)

    consumer = Consumer(broker, "s", "g", Route(handle, retry=Retry(delay=60.0)))
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "s").publish(Event("t", 1))
    await eventually(lambda: len(at) == 2)
    consumer.stop()
    await running
    assert 0.35 <= at[1] - at[0] <= 2.0


async def test_rejections_and_other_keys_do_not_open_it(broker):
    worker = Worker(broker, middleware=[breaker()])
    worker.fail["bad"] = Reject("no")
    async with worker.running():
        await Producer(broker, "s").publish_many(
            Event("t", n, instance="bad") for n in range(20)
        )
        await Producer(broker, "s").publish_many(Event("t", n) for n in range(20))
        await eventually(
            lambda: worker.total("done") == 20 and worker.total("dead") == 20
        )
    assert await Pauses(broker, "s").list() == []


async def test_successes_of_all_workers_count_against_the_share(broker):
    worker = Worker(broker, middleware=[breaker(minimum=4)], concurrency=1)
    producer = Producer(broker, "s")
    async with worker.running():
        await producer.publish_many(Event("t", n, instance="i") for n in range(10))
        await eventually(lambda: worker.total("done") == 10)
        worker.fail["i"] = RuntimeError("now and then")
        await producer.publish(Event("t", 10, instance="i", max_retries=0))
        await eventually(lambda: worker.total("dead") == 1)
        await producer.publish_many(
            Event("t", n, instance="i", max_retries=0) for n in range(3)
        )
        await eventually(lambda: worker.total("dead") == 4)
    assert await Pauses(broker, "s").list() == []


async def test_an_operators_pause_is_not_the_breakers_to_end(broker):
    worker = Worker(broker, middleware=[breaker()])
    producer, pauses = Producer(broker, "s"), Pauses(broker, "s", by="ada")
    await producer.publish(Event("t", 0, instance="other"))
    async with worker.running():
        await eventually(lambda: len(worker.started) == 1)
        await pauses.pause(group="g", instance="i")
        holder = worker.consumers[0]._fetcher._gate
        await eventually(lambda: holder.scopes)
        await producer.publish(Event("t", 1, instance="i"))
        await eventually(lambda: worker.total("held") == 1)
        await asyncio.sleep(1.2)  # Two probes' time.
        assert worker.of(instance="i") == 0
        await pauses.resume(group="g", instance="i")
        await eventually(lambda: worker.of(instance="i") == 1)


async def test_an_operator_can_end_what_a_breaker_began(broker):
    worker = Worker(broker, middleware=[breaker(open_for=3600.0)])
    worker.fail["i"] = Unavailable()
    producer, pauses = Producer(broker, "s"), Pauses(broker, "s", by="ada")
    async with worker.running():
        await producer.publish_many(Event("t", n, instance="i") for n in range(3))
        await eventually(lambda: worker.total("held") + worker.total("snoozed") >= 3)
        worker.fail.clear()
        await pauses.resume_all()
        held = sum(event.attempt == 1 for event in worker.started)
        assert held >= 1
        await producer.publish(Event("t", 9, instance="i"))
        await eventually(lambda: any(event.data == 9 for event in worker.started))


async def test_the_probe_of_a_killed_worker_is_taken_over(broker):
    """The event that was to probe is dead letter by other hands: another one probes."""
    worker = Worker(broker, middleware=[breaker()])
    worker.fail["i"] = Unavailable()
    producer = Producer(broker, "s")
    async with worker.running():
        receipts = await producer.publish_many(
            Event("t", n, instance="i") for n in range(5)
        )
        await eventually(lambda: worker.total("held") + worker.total("snoozed") >= 5)
        (value,) = await broker.control.call("HVALS", broker.keys("s").paused())
        scout = (
            next(r for r in receipts if f"0|{r.entry_id}".encode() in value)
            if b"scout" in value
            else receipts[0]
        )
        await Cancellations(broker, "s").cancel(scout.event_id)
        worker.fail.clear()
        await producer.publish(Event("t", 9, instance="i"))
        await eventually(lambda: worker.total("done") == 5)


async def test_a_breaker_leaves_nothing_behind(broker):
    worker = Worker(broker, middleware=[breaker(window=0.2)])
    worker.fail["i"] = RuntimeError("once")
    async with worker.running():
        await Producer(broker, "s").publish(Event("t", 1, instance="i", max_retries=0))
        await eventually(lambda: worker.total("dead") == 1)

    async def nothing() -> bool:
        return not await broker.control.call("KEYS", f"{broker.namespace}:*breaker*")

    await eventually(nothing)


@pytest.mark.parametrize(
    "options",
    [
        {"by": "nobody"},
        {"failures": 0},
        {"failures": 2},
        {"minimum": 0},
        {"window": 0},
        {"open_for": True},
    ],
)
def test_bad_breakers_are_refused(options):
    with pytest.raises(ConfigurationError, match="Breaker:"):
        Breaker(**{"by": "instance"} | options)
