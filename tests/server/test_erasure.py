"""Erasure: whoever asks to be forgotten is, wherever events about them stand."""

from __future__ import annotations

import asyncio

import pytest

from streams import Erased, Erasure, Event, Pipeline, Producer, Retry
from streams.errors import ConfigurationError
from tests.conftest import eventually

pytestmark = pytest.mark.anyio


async def publish(broker, **more):
    producer = Producer(broker, "s")
    for subject in ("ana", "bia"):
        for n in range(3):
            await producer.publish(
                {"n": n}, type="t", subject=subject, priority=5 * (n % 2), **more
            )


async def test_waiting_and_scheduled_events_go_and_others_stay(broker):
    await publish(broker)
    await publish(broker, delay=60.0)
    await Producer(broker, "s").publish({"n": 9}, type="t", headers={"about": "ana"})
    erasure = Erasure(broker, "s", by="ana's wish")
    assert await erasure.erase("subject", "ana") == Erased(stored=3, scheduled=3)
    assert await erasure.erase("subject", "ana") == Erased()
    assert await erasure.erase("about", "ana") == Erased(stored=1)
    assert await erasure.erase("subject", "bia") == Erased(stored=3, scheduled=3)
    rows = await broker.control.call("XRANGE", broker.keys("s").audit(), "-", "+")
    assert {fields[fields.index(b"by") + 1] for _, fields in rows} == {b"ana's wish"}
    assert b"n" not in {part for _, fields in rows for part in fields}


async def test_a_stream_that_is_not_there_has_nothing_to_erase(broker):
    assert await Erasure(broker, "nowhere").erase("subject", "ana") == Erased()


@pytest.mark.parametrize(
    ("attribute", "value"), [("", "x"), ("subject", ""), ("subject", None)]
)
async def test_what_to_erase_must_be_named(broker, attribute, value):
    with pytest.raises(ConfigurationError, match=r"subject|value is a text"):
        await Erasure(broker, "s").erase(attribute, value)


@pytest.mark.parametrize("order_by", [(), ("subject",)], ids=["plain", "ordered"])
async def test_who_runs_waits_for_a_retry_or_is_dead_goes_as_well(server, order_by):
    """And the group goes on with what is left."""
    pipeline = Pipeline(server.url)
    seen: list[str] = []
    busy, free = asyncio.Event(), asyncio.Event()

    @pipeline.handler(
        "s",
        group="g",
        order_by=order_by or None,
        retry=Retry(max_retries=0),
        types=["dies"],
    )
    async def die(event: Event) -> None:
        raise OSError

    @pipeline.handler(
        "s",
        group="g",
        order_by=order_by or None,
        retry=Retry(delay=3600.0),
        types=["waits"],
    )
    async def wait(event: Event) -> None:
        raise OSError

    @pipeline.handler("s", group="g", order_by=order_by or None, types=["runs"])
    async def run(event: Event) -> None:
        seen.append(f"{event.subject} {event.data}")
        if event.subject == "ana":
            busy.set()
            await free.wait()

    running = asyncio.create_task(pipeline.run())
    async with pipeline.twin() as looking:
        await looking.publish("s", 1, type="dies", subject="ana")
        await looking.publish("s", 2, type="waits", subject="ana2")
        await looking.publish("s", 3, type="runs", subject="ana")
        await busy.wait()
        await looking.publish("s", 4, type="runs", subject="ana")
        await looking.publish("s", 5, type="runs", subject="bia")
        letters = looking.dead_letters("s", "g")
        await eventually(letters.count, what="the dead letter")
        retry = looking.broker.keys("s").retry("g")
        await eventually(
            lambda: looking.broker.control.call("ZCARD", retry), what="the retry"
        )
        erasure = Erasure(looking.broker, "s")
        gone = await erasure.erase("subject", "ana") + await erasure.erase(
            "subject", "ana2"
        )
        assert (gone.dead, gone.scheduled) == (1, 0)
        assert gone.stored in (2, 3)  # The fourth may have been read and run by then.
        free.set()
        await eventually(lambda: "bia 5" in seen, what="the other one")
        await looking.publish("s", 6, type="runs", subject="ana")
        # With an order it may have to wait until a reclaimer looks after the lanes.
        await eventually(
            lambda: "ana 6" in seen, seconds=60.0, what="who comes again later"
        )
        assert await letters.count() == 0
        pipeline.stop()
        await running
        assert (
            await looking.broker.control.call("XLEN", looking.broker.keys("s").level(0))
            == 0
        )
