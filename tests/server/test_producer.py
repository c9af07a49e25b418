"""The producer on a real server: what is stored, in which order, how often, and what is refused."""

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
    Levels,
    Producer,
    ProducerOptions,
    Scheduler,
    StreamFull,
)
from tests.conftest import eventually

LEVELS = (0, 1, 5, 10)


async def stored(broker: Broker, level: int = 0) -> list[tuple[str, dict[str, bytes]]]:
    """Entry id and fields of what a level holds."""
    rows = await broker.control.call("XRANGE", broker.keys("s").level(level), "-", "+")
    return [
        (
            entry_id.decode(),
            {
                name.decode(): value
                for name, value in zip(fields[::2], fields[1::2], strict=True)
            },
        )
        for entry_id, fields in rows
    ]


async def bodies(broker: Broker, level: int = 0) -> list[int]:
    return [int(fields["data"]) for _, fields in await stored(broker, level)]


async def length(broker: Broker, level: int = 0) -> int:
    return await broker.control.call("XLEN", broker.keys("s").level(level))


async def keys(broker: Broker) -> list[bytes]:
    return await broker.control.call("KEYS", f"{broker.namespace}:*")


def calls(client, name: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0))


async def server_time(broker: Broker) -> float:
    seconds, micros = await broker.control.call("TIME")
    return int(seconds) + int(micros) / 1_000_000


# --- receipts and levels


async def test_a_receipt_names_what_was_stored(broker):
    receipt = await Producer(broker, "s").publish(
        {"n": 1}, type="order.created", priority=7, key="k", headers={"lang": "de"}
    )
    ((entry_id, fields),) = await stored(broker, 5)
    assert receipt == (fields["id"].decode(), 5, entry_id, False, 0)
    assert list(fields) == ["type", "id", "data", "meta"]
    assert fields["type"] == b"order.created"
    assert fields["data"] == b'{"n":1}'
    assert sorted(fields["meta"]) == sorted(b'{"key":"k","lang":"de"}')


async def test_an_event_without_attributes_has_no_meta(broker):
    await Producer(broker, "s").publish(None, type="t")
    ((_, fields),) = await stored(broker)
    assert list(fields) == ["type", "id", "data"]


@pytest.mark.parametrize(
    ("priority", "level"),
    [(-7, 0), (0, 0), (1, 1), (4, 1), (5, 5), (9, 5), (10, 10), (10**20, 10)],
)
async def test_every_integer_finds_its_level(broker, priority, level):
    producer = Producer(broker, "s")
    single = await producer.publish(1, type="t", priority=priority)
    (one_of_many,) = await producer.publish_many([2], type="t", priority=priority)
    once = await producer.publish(3, type="t", priority=priority, dedup_id="d")
    assert [single.level, one_of_many.level, once.level] == [level] * 3
    assert await bodies(broker, level) == [1, 2, 3]


async def test_levels_of_its_own(broker):
    producer = Producer(broker, "s", ProducerOptions(levels=Levels((-5, 3))))
    receipts = [await producer.publish(n, type="t", priority=n) for n in (-9, 2, 3, 50)]
    assert [receipt.level for receipt in receipts] == [-5, -5, 3, 3]
    assert await bodies(broker, -5) == [-9, 2]


async def test_streams_are_registered_with_their_levels(broker):
    await Producer(broker, "s", ProducerOptions(levels=Levels((2, 4)))).publish(
        1, type="t"
    )
    assert set(await broker.control.call("SMEMBERS", f"{broker.namespace}:index")) == {
        b"s|2",
        b"s|4",
    }


async def test_namespaces_keep_streams_apart(server, broker, namespace):
    async with Broker(server.url, namespace=f"{namespace}-b") as other:
        await Producer(broker, "s").publish(1, type="t", dedup_id="d")
        receipt = await Producer(other, "s", ProducerOptions(max_len=1)).publish(
            2, type="t", dedup_id="d"
        )
        assert not receipt.duplicate
        assert await bodies(broker) == [1]
        assert await bodies(other) == [2]


# --- order


async def test_order_within_a_level_one_after_the_other(broker):
    producer = Producer(broker, "s")
    for n in range(50):
        await producer.publish(n, type="t")
    assert await bodies(broker) == list(range(50))


async def test_order_within_a_level_of_many(broker):
    events = (Event("t", n, priority=LEVELS[n % 4]) for n in range(1_730))
    receipts = await Producer(broker, "s").publish_many(events)
    for at, level in enumerate(LEVELS):
        assert await bodies(broker, level) == list(range(at, 1_730, 4))
        assert [i for i, _ in await stored(broker, level)] == [
            r.entry_id for r in receipts[at::4]
        ]


@pytest.mark.parametrize(
    "last",
    [
        "5-1",
        "9999999999999-7",
        "9999999999999-999999999999990",
        "9999999999999-9007199254740990",
    ],
)
async def test_the_entry_ids_of_many_are_those_that_are_stored(broker, last):
    producer = Producer(broker, "s")
    await broker.control.call(
        "XADD", broker.keys("s").level(0), last, "type", "t", "data", "0"
    )
    receipts = await producer.publish_many(range(40), type="t")
    receipts += await producer.publish_many(
        [Event("t", n, priority=10 * (n % 20 == 7)) for n in range(60)]
    )
    for level in (0, 10):
        ids = [i for i, _ in await stored(broker, level)]
        assert [r.entry_id for r in receipts if r.level == level] == ids[
            1 if level == 0 else 0 :
        ]


async def test_the_entry_ids_of_a_stream_that_gets_full(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=25))
    with pytest.raises(StreamFull) as caught:
        await producer.publish_many(range(40), type="t")
    assert caught.value.accepted == 25
    assert await length(broker) == 25


async def test_order_within_a_level_of_concurrent_calls(broker):
    """Calls that began in an order are stored in this order, from the very first one of a producer on."""
    producer = Producer(broker, "s")
    for start in (0, 1_000):
        await asyncio.gather(
            *(producer.publish(start + n, type="t") for n in range(1_000))
        )
    assert await bodies(broker) == list(range(2_000))


async def test_order_within_a_level_of_mixed_events(broker):
    """Priorities, delays and dedup ids alternate within one call; each level still keeps the order."""
    rng = random.Random(7)
    events = []
    for n in range(900):
        event = Event(
            "t", n, priority=rng.choice(LEVELS), delay=rng.choice([0, 0, 3600])
        )
        if rng.random() < 0.2:
            event.dedup_id = f"d{n}"
        events.append(event)
    receipts = await Producer(broker, "s").publish_many(events)
    for level in LEVELS:
        expected = [e.data for e in events if e.priority == level and not e.delay]
        assert expected
        assert await bodies(broker, level) == expected
    assert [r.entry_id == "" for r in receipts] == [e.delay > 0 for e in events]
    scheduled = await broker.control.call("ZRANGE", broker.keys("s").scheduled(), 0, -1)
    place_of = {r.event_id: e.data for r, e in zip(receipts, events, strict=True)}
    for level in LEVELS:
        due = [
            m.decode().partition("|")[2]
            for m in scheduled
            if m.startswith(b"%d|" % level)
        ]
        assert [place_of[i] for i in due] == [
            e.data for e in events if e.priority == level and e.delay
        ]


# --- round trips and memory


async def test_concurrent_calls_share_round_trips(server, broker):
    producer = Producer(broker, "s")
    await producer.publish(0, type="t")
    with server.client() as client:
        client.config_resetstat()
        receipts = await asyncio.gather(
            *(producer.publish(n, type="t") for n in range(100))
        )
        assert len({receipt.entry_id for receipt in receipts}) == 100
        # two trips; a script that is not loaded yet counts twice
        assert calls(client, "evalsha") <= 4
        assert calls(client, "xadd") == 100
        assert client.info("stats")["total_reads_processed"] <= 15


@pytest.mark.one_server
async def test_a_cold_start_shares_round_trips_too(server, broker):
    """The stream is registered once, however many calls are the first."""
    producer = Producer(broker, "s")
    with server.client() as client:
        client.config_resetstat()
        await asyncio.gather(*(producer.publish(n, type="t") for n in range(100)))
        assert calls(client, "sadd") == 2  # beside the stream, and in the index
        # a script that is not loaded yet counts twice
        assert calls(client, "evalsha") <= 4


async def test_many_events_are_one_trip_per_batch(server, broker):
    producer = Producer(broker, "s")
    await producer.publish_many(range(10), type="t")
    with server.client() as client:
        client.config_resetstat()
        await producer.publish_many(range(2_000), type="t")
        assert calls(client, "evalsha") == 4


async def test_an_iterable_is_read_no_further_than_it_is_stored(server, broker):
    producer = Producer(broker, "s")
    ahead = []
    with server.client() as client:

        def source():
            for n in range(4_000):
                if n % 50 == 0:
                    ahead.append(n - client.xlen(broker.keys("s").level(0)))
                yield n

        receipts = await producer.publish_many(source(), type="t")
    assert len(receipts) == 4_000
    assert max(ahead) < 1_000
    assert await bodies(broker) == list(range(4_000))


async def test_an_async_iterable_is_read_no_further_than_it_is_stored(broker):
    producer = Producer(broker, "s")
    ahead = []

    async def source():
        for n in range(2_600):
            if n % 50 == 0:
                ahead.append(n - await length(broker))
            yield n

    seen = 0
    async for receipts in producer.publish_batches(source(), type="t"):
        seen += len(receipts)
        assert await length(broker) == seen
    assert seen == 2_600
    assert max(ahead) < 1_000


async def test_large_events_are_cut_into_batches_by_bytes(server, broker):
    producer = Producer(broker, "s")
    await producer.publish_many([b"x"], type="t")
    with server.client() as client:
        client.config_resetstat()
        await producer.publish_many((b"x" * 400_000 for _ in range(6)), type="t")
        assert calls(client, "evalsha") == 3


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


# --- what is written


async def test_expires_is_absolute_by_the_servers_clock(server, monkeypatch, namespace):
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    async with Broker(server.url, namespace=namespace) as broker:
        before = await server_time(broker)
        await Producer(broker, "s").publish(1, type="t", expires=60)
        after = await server_time(broker)
        ((_, fields),) = await stored(broker)
    expires = float(fields["meta"].removeprefix(b'{"expires":').removesuffix(b"}"))
    assert before + 60 - 0.1 <= expires <= after + 60 + 0.1


@pytest.mark.parametrize(
    "body", [b"\x00\xff\xfe", bytearray(b"\x80"), memoryview(b"plain")]
)
async def test_bytes_pass_as_they_are(broker, body):
    await Producer(broker, "s").publish(body, type="t")
    ((_, fields),) = await stored(broker)
    assert fields["data"] == bytes(body)
    assert fields["meta"] == b'{"datacontenttype":"application/octet-stream"}'


async def test_a_given_event_id_is_kept(broker):
    producer = Producer(broker, "s")
    receipts = [
        await producer.publish(1, type="t", id="mine"),
        *await producer.publish_many([Event("t", 2, id="mine too")]),
        await producer.publish(3, type="t", id="mine, once", dedup_id="d"),
    ]
    ids = ["mine", "mine too", "mine, once"]
    assert [receipt.event_id for receipt in receipts] == ids
    assert [fields["id"].decode() for _, fields in await stored(broker)] == ids


async def test_scheduled_events_with_one_id_both_arrive(broker):
    producer = Producer(broker, "s")
    await producer.publish(1, type="t", id="same", delay=0.02)
    await producer.publish(2, type="t", id="same", delay=0.02, dedup_id="d")
    await producer.publish_many([Event("t", n, id="same", delay=0.02) for n in (3, 4)])
    scheduler = Scheduler(broker, "s")

    async def moved() -> bool:
        await scheduler.promote()
        return await length(broker) == 4

    await eventually(moved, what="all four")
    assert await bodies(broker) == [1, 2, 3, 4]
    assert {fields["id"] for _, fields in await stored(broker)} == {b"same"}


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
