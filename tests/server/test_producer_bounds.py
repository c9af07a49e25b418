"""What a producer does not store: into a full stream, a second time, what is malformed, or after a cancellation."""

from __future__ import annotations

import asyncio
import random

import pytest

from streams import (
    Broker,
    BrokerUnavailable,
    ConfigurationError,
    Event,
    EventError,
    EventTooLarge,
    Producer,
    ProducerOptions,
    StreamFull,
)
from tests.conftest import eventually
from tests.server.producing import LEVELS, bodies, length, stored


async def keys(broker: Broker) -> list[bytes]:
    return await broker.control.call("KEYS", f"{broker.namespace}:*")


# --- a full stream


async def test_a_full_stream_refuses_and_never_trims(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=3))
    for n in range(3):
        await producer.publish(n, type="t", priority=n)
    with pytest.raises(StreamFull) as caught:
        await producer.publish(3, type="t")
    assert (caught.value.stream, caught.value.max_len, caught.value.accepted) == (
        "s",
        3,
        0,
    )
    with pytest.raises(StreamFull):
        await producer.publish(4, type="t", dedup_id="d")
    with pytest.raises(StreamFull):
        await producer.publish(5, type="t", delay=60)
    assert await bodies(broker, 0) + await bodies(broker, 1) == [0, 1, 2]
    await broker.control.call(
        "XDEL", broker.keys("s").level(1), (await stored(broker, 1))[0][0]
    )
    assert not (await producer.publish(6, type="t", dedup_id="d")).duplicate


@pytest.mark.parametrize("max_len", [4, 700])
async def test_of_many_the_first_are_accepted(broker, max_len):
    producer = Producer(broker, "s", ProducerOptions(max_len=max_len))
    with pytest.raises(StreamFull) as caught:
        await producer.publish_many(range(1_200), type="t")
    assert caught.value.accepted == max_len
    assert await bodies(broker) == list(range(max_len))


async def test_of_mixed_ones_the_first_are_accepted(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=5))
    events = [Event("t", n, delay=60 if n % 2 else 0, id=f"e{n}") for n in range(9)]
    with pytest.raises(StreamFull) as caught:
        await producer.publish_many(events)
    assert caught.value.accepted == 5
    assert await bodies(broker) == [0, 2, 4]
    assert await broker.control.call("ZRANGE", broker.keys("s").scheduled(), 0, -1) == [
        b"0|e1",
        b"0|e3",
    ]


async def test_scheduled_events_count(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=4))
    await producer.publish(0, type="t", delay=60)
    await producer.publish(1, type="t", delay=60, dedup_id="d")
    await producer.publish_many([2, 3], type="t", priority=10)
    for attributes in (
        {},
        {"priority": 5},
        {"delay": 60},
        {"dedup_id": "e"},
        {"dedup_id": "f", "delay": 60},
    ):
        with pytest.raises(StreamFull):
            await producer.publish(4, type="t", **attributes)
    assert await broker.control.call("ZCARD", broker.keys("s").scheduled()) == 2


async def test_concurrent_publishers_fill_a_stream_exactly(server, broker, namespace):
    async with Broker(server.url, namespace=namespace) as other:
        producers = [
            Producer(b, "s", ProducerOptions(max_len=50))
            for b in (broker, broker, other)
        ]
        outcomes = await asyncio.gather(
            *(
                producers[n % 3].publish(n, type="t", priority=n % 11)
                for n in range(120)
            ),
            return_exceptions=True,
        )
    refused = [outcome for outcome in outcomes if isinstance(outcome, StreamFull)]
    assert len(refused) == 70
    assert len(set(map(id, refused))) == 70
    held = {(level, i) for level in LEVELS for i, _ in await stored(broker, level)}
    assert held == {
        (o.level, o.entry_id) for o in outcomes if not isinstance(o, StreamFull)
    }


# --- dedup


@pytest.mark.parametrize("delay", [0, 60])
async def test_a_dedup_id_is_stored_once(broker, delay):
    producer = Producer(broker, "s")
    first = await producer.publish(
        1, type="t", dedup_id="a b|c", delay=delay, id="an id with spaces", priority=5
    )
    again = await producer.publish(
        2, type="t", dedup_id="a b|c", delay=delay, priority=5
    )
    assert first[:3] == again[:3]
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (first.entry_id == "") == (delay > 0)
    scheduled = await broker.control.call("ZCARD", broker.keys("s").scheduled())
    assert scheduled + await length(broker, 5) == 1
    assert not (
        await producer.publish(3, type="t", dedup_id="a b|d", priority=5)
    ).duplicate


@pytest.mark.parametrize("delay", [0, 60])
async def test_a_duplicate_of_another_priority_is_told_where_the_first_one_is(
    broker, delay
):
    producer = Producer(broker, "s")
    first = await producer.publish(1, type="t", dedup_id="d", priority=10, delay=delay)
    for other_delay in (0, 60):
        again = await producer.publish(
            2, type="t", dedup_id="d", priority=1, delay=other_delay
        )
        assert again == first._replace(duplicate=True)


async def test_duplicates_within_one_call(broker):
    events = [Event("t", n, dedup_id=f"d{n % 3}") for n in range(30)]
    receipts = await Producer(broker, "s").publish_many(events)
    assert [r.duplicate for r in receipts] == [False] * 3 + [True] * 27
    assert await bodies(broker) == [0, 1, 2]
    assert [r[:3] for r in receipts[3:6]] == [r[:3] for r in receipts[:3]]


async def test_of_concurrent_duplicates_one_is_stored(server, broker, namespace):
    async with Broker(server.url, namespace=namespace) as other:
        producers = [Producer(broker, "s"), Producer(other, "s")]
        receipts = await asyncio.gather(
            *(producers[n % 2].publish(n, type="t", dedup_id="d") for n in range(40))
        )
    assert sorted(r.duplicate for r in receipts) == [False] + [True] * 39
    assert len({(r.event_id, r.entry_id) for r in receipts}) == 1
    assert await length(broker) == 1


async def test_after_the_window_the_id_is_new(broker):
    producer = Producer(broker, "s", ProducerOptions(dedup_window=0.1))
    first = await producer.publish(1, type="t", dedup_id="d")
    key = broker.keys("s").dedup("d")
    assert 0 < await broker.control.call("PTTL", key) <= 100

    async def forgotten() -> bool:
        return await broker.control.call("EXISTS", key) == 0

    await eventually(forgotten, what="the end of the window")
    second = await producer.publish(2, type="t", dedup_id="d")
    assert not second.duplicate
    assert second.event_id != first.event_id
    assert await bodies(broker) == [1, 2]


REFUSED = {
    "no type": ({"type": None}, ConfigurationError),
    "empty type": ({"type": ""}, (ConfigurationError, EventError)),
    "type with a line end": ({"type": "a\nb"}, EventError),
    "long type": ({"type": "t" * 201}, EventError),
    "priority": ({"priority": "high"}, ConfigurationError),
    "boolean priority": ({"priority": True}, ConfigurationError),
    "negative delay": ({"delay": -0.1}, ConfigurationError),
    "endless delay": ({"delay": float("inf")}, ConfigurationError),
    "delay that is no number": ({"delay": float("nan")}, ConfigurationError),
    "header name": ({"headers": {"Not-Allowed": "x"}}, ConfigurationError),
    "reserved header": ({"headers": {"tenant": "x"}}, ConfigurationError),
    "header value": ({"headers": {"h": []}}, ConfigurationError),
    "unknown attribute": ({"priorty": 1}, ConfigurationError),
    "id": ({"id": "a\x00b"}, ConfigurationError),
    "dedup id": ({"dedup_id": ""}, ConfigurationError),
    "key": ({"key": 7}, ConfigurationError),
    "retries": ({"max_retries": -1}, ConfigurationError),
    "expires": ({"expires": float("nan")}, ConfigurationError),
    "expired before it is published": ({"expires": 0}, ConfigurationError),
    "time": ({"time": "yesterday"}, ConfigurationError),
    "trace": ({"traceparent": "x"}, ConfigurationError),
    "no tenant": ({"tenant": ""}, ConfigurationError),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_wrong_is_refused_before_anything_is_sent(broker, case):
    attributes, error = REFUSED[case]
    producer = Producer(broker, "s")
    with pytest.raises(error):
        await producer.publish(1, **{"type": "t", **attributes})
    assert await keys(broker) == []
    with pytest.raises(error):
        await producer.publish_many([1], **{"type": "t", **attributes})
    assert await length(broker) == 0
    await producer.publish(2, type="t")
    assert await bodies(broker) == [2]


@pytest.mark.parametrize("data", [object(), {1, 2}, float("nan"), "\ud800"])
async def test_a_body_that_is_no_json_is_refused(broker, data):
    with pytest.raises(EventError):
        await Producer(broker, "s").publish(data, type="t")
    assert await keys(broker) == []


async def test_the_payload_limit_is_exact(broker):
    producer = Producer(broker, "s", ProducerOptions(max_event_bytes=100))
    await producer.publish(b"x" * 100, type="t")
    with pytest.raises(EventTooLarge) as caught:
        await producer.publish(b"x" * 101, type="t")
    assert (caught.value.size, caught.value.limit) == (101, 100)
    with pytest.raises(EventTooLarge):
        await producer.publish(1, type="t", headers={"h": "x" * 100})
    assert await length(broker) == 1


async def test_what_comes_before_a_refused_one_is_published(broker):
    with pytest.raises(EventError):
        await Producer(broker, "s").publish_many([0, 1, object(), 3], type="t")
    assert await bodies(broker) == [0, 1]


# --- trouble


async def test_cancelled_calls_leave_the_producer_usable(broker):
    """No caller gets the answer to another one's event, whoever is cancelled at whatever moment."""
    producer = Producer(broker, "s")
    rng = random.Random(3)

    async def publish(n: int):
        await asyncio.sleep(rng.random() * 0.02)
        return await producer.publish(n, type="t", id=f"e{n}", priority=n % 11)

    tasks = [asyncio.create_task(publish(n)) for n in range(300)]

    async def cancel(task: asyncio.Task[object]) -> None:
        await asyncio.sleep(rng.random() * 0.03)
        task.cancel()

    await asyncio.gather(*(cancel(task) for task in rng.sample(tasks, 150)))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    receipts = [
        outcome for outcome in outcomes if not isinstance(outcome, BaseException)
    ]
    assert {type(o) for o in outcomes if isinstance(o, BaseException)} == {
        asyncio.CancelledError
    }
    assert len(receipts) >= 150
    held = {
        (level, i): fields["id"].decode()
        for level in LEVELS
        for i, fields in await stored(broker, level)
    }
    assert all(held[r.level, r.entry_id] == r.event_id for r in receipts)
    assert len(set(held.values())) == len(held)
    receipt = await producer.publish(1, type="t", id="after")
    assert (await stored(broker))[-1] == (
        receipt.entry_id,
        {"type": b"t", "id": b"after", "data": b"1"},
    )


async def test_a_cancelled_call_is_not_half_way_stored(broker):
    """Cancelled while it shares the trip of others: they get their receipts."""
    producer = Producer(broker, "s")
    await producer.publish(0, type="t")
    tasks = [
        asyncio.create_task(producer.publish(n, type="t", id=f"e{n}"))
        for n in range(20)
    ]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[7].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [
        n for n, o in enumerate(outcomes) if isinstance(o, asyncio.CancelledError)
    ] == [0, 7]
    held = {i: fields["id"].decode() for i, fields in await stored(broker)}
    assert all(
        held[o.entry_id] == o.event_id
        for o in outcomes
        if not isinstance(o, BaseException)
    )


async def test_a_closed_broker_says_so(server, namespace):
    async with Broker(server.url, namespace=namespace) as broker:
        producer = Producer(broker, "s")
        await producer.publish(1, type="t")
    for attributes in ({}, {"delay": 1}):
        with pytest.raises(BrokerUnavailable, match="closed") as caught:
            await producer.publish(2, type="t", **attributes)
        assert caught.value.sent is False
    with pytest.raises(BrokerUnavailable, match="closed"):
        await producer.publish_many([2, 3], type="t")
