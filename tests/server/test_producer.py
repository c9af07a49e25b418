"""The producer on a real server: what it stores, in which order, in how many round trips."""

from __future__ import annotations

import asyncio
import random

import pytest

from streams import (
    Broker,
    Event,
    Levels,
    Producer,
    ProducerOptions,
    Scheduler,
    StreamFull,
)
from tests.conftest import eventually
from tests.server.producing import LEVELS, bodies, length, stored


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
