"""A ``publish_many`` that fails half-way says of each item whether it is stored, surely not stored, or unknown."""

from __future__ import annotations

import asyncio

import pytest

from streams import (
    Broker,
    BrokerUnavailable,
    Event,
    Producer,
    PublishUnknown,
    StreamFull,
    StreamsError,
    sync,
)
from streams.errors import EventTooLarge
from streams.events.receipt import BatchOutcome, Receipt
from streams.producer import ProducerOptions
from streams.settings import Settings
from tests.process.proxy import Proxy, is_command

pytestmark = pytest.mark.in_turn


def told(error: StreamsError) -> BatchOutcome:
    assert error.outcome is not None
    return error.outcome


async def stored(broker, stream: str = "s") -> list[bytes]:
    """The bodies that are there."""
    return [dict(zip(f[::2], f[1::2], strict=True))[b"data"]
            for _, f in await broker.control.call("XRANGE", broker.keys(stream).level(0), "-", "+")]  # fmt: skip


async def test_of_a_full_stream_the_first_have_receipts(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=700))
    with pytest.raises(StreamFull) as caught:
        await producer.publish_many(range(1200), type="t")
    outcome = told(caught.value)
    assert sorted(outcome.receipts) == list(range(700))
    assert all(receipt.entry_id for receipt in outcome.receipts.values())
    assert (outcome.not_stored, outcome.unknown) == (list(range(700, 1200)), [])
    assert (caught.value.accepted, outcome.stored) == (700, 700)


async def test_of_dedup_ids_too(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=3))
    with pytest.raises(StreamFull) as caught:
        await producer.publish_many([Event("t", n, dedup_id=f"d{n}") for n in range(5)])
    assert (sorted(told(caught.value).receipts), told(caught.value).not_stored) == (
        [0, 1, 2],
        [3, 4],
    )


async def test_a_refused_item_ends_the_call_and_those_before_it_are_stored(broker):
    producer = Producer(broker, "s", ProducerOptions(max_event_bytes=100))
    with pytest.raises(EventTooLarge) as caught:
        await producer.publish_many([1, 2, "x" * 200, 4], type="t")
    assert (sorted(told(caught.value).receipts), told(caught.value).not_stored) == (
        [0, 1],
        [2, 3],
    )


async def test_of_an_iterator_the_rest_is_still_there(broker):
    producer = Producer(broker, "s", ProducerOptions(max_len=100))
    source = iter(range(5000))
    with pytest.raises(StreamFull) as caught:
        await producer.publish_many(source, type="t")
    outcome = told(caught.value)
    taken = outcome.told
    assert outcome.not_stored == list(range(100, taken))
    assert next(source) == taken
    assert taken <= 1500


@pytest.mark.one_server
async def test_a_lost_answer_makes_one_request_unknown_and_what_came_after_it_is_not_stored(
    server, namespace, broker
):
    async with (
        Proxy(server) as proxy,
        Broker(proxy.url, namespace=namespace, timeout=2.0) as cut,
    ):
        producer = Producer(cut, "s")
        await producer.publish_many([0], type="t")
        scripts = 0

        def third(command) -> bool:
            nonlocal scripts
            scripts += is_command("EVALSHA")(command)
            return scripts == 3

        proxy.arm("cut", third)
        with pytest.raises(PublishUnknown) as caught:
            await producer.publish_many(range(1, 2001), type="t")
        outcome = told(caught.value)
        assert sorted(outcome.receipts) == list(range(1000))
        assert outcome.unknown == list(range(1000, 1500))
        assert outcome.not_stored == list(range(1500, 2000))
        assert (caught.value.accepted, len(caught.value.event_ids)) == (1000, 500)
        there = await stored(broker)
        assert {b"%d" % (item + 1) for item in outcome.receipts} <= set(there)
        assert not {b"%d" % (item + 1) for item in outcome.not_stored} & set(there)


@pytest.mark.one_server
async def test_a_refused_connection_stores_nothing_and_leaves_no_doubt(
    server, namespace, broker
):
    async with (
        Proxy(server) as proxy,
        Broker(proxy.url, namespace=namespace, timeout=2.0) as cut,
    ):
        producer = Producer(cut, "s")
        batches = producer.publish_batches(list(range(3000)), type="t")
        first = await anext(batches)
        # The second request is under way, and its answer is there.
        await asyncio.sleep(0.05)
        proxy.refuse()
        given = list(first)

        async def take_the_rest() -> None:
            async for receipts in batches:
                given.extend(receipts)

        with pytest.raises((BrokerUnavailable, PublishUnknown)) as caught:
            await take_the_rest()
        outcome = told(caught.value)
        assert outcome.first == len(given)
        assert not outcome.receipts
        there = await stored(broker)
        assert not {b"%d" % item for item in outcome.not_stored} & set(there)
        assert len(there) <= len(given) + len(outcome.unknown)
        with pytest.raises(BrokerUnavailable) as again:
            await producer.publish_many(range(10), type="t")
        assert (told(again.value).not_stored, told(again.value).unknown) == (
            list(range(10)),
            [],
        )


def test_the_blocking_form_tells_the_same(server, namespace):
    settings = Settings(url=server.url, namespace=namespace, max_len=4500)
    with (
        sync.Pipeline(settings=settings) as pipeline,
        pytest.raises(StreamFull) as caught,
    ):
        pipeline.publish_many("s", list(range(9000)), type="t")
    outcome = told(caught.value)
    assert sorted(outcome.receipts) == list(range(4500))
    assert outcome.not_stored == list(range(4500, 9000))


def test_an_outcome_counts_on():
    receipt = Receipt("a", 0, "1-0")
    outcome = BatchOutcome.of([receipt, None]).behind(3)
    assert (outcome.first, outcome.receipts, outcome.not_stored, outcome.stored) == (
        3,
        {3: receipt},
        [4],
        4,
    )
    assert outcome.behind(2).not_stored == [6]
    outcome.complete([receipt] * 3, range(7))
    assert (sorted(outcome.receipts), outcome.not_stored, outcome.first) == (
        [0, 1, 2, 3],
        [4, 5, 6],
        0,
    )
