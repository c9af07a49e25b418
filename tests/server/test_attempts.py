"""Attempts on a real server: how often an event is tried, when again, and what ends it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import pytest

from streams import Broker, Event, Producer, Reject, Retry, Snooze
from streams.handlers.routes import Route
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually
from tests.server.consuming import AT_ONCE, consuming, dead, gone, letters, pending
from tests.server.consuming import _short_polls as _short_polls
from tests.server.consuming import real_polls as real_polls


async def test_attempts_are_counted_alike_everywhere(broker):
    """What the handler sees, what the record says meanwhile, and what the dead letter says in the end."""
    seen = []
    attempts = broker.keys("s").attempts("g")

    async def handler(event: Event) -> None:
        record = AttemptRecord.from_json(
            await broker.control.call("HGET", attempts, f"0|{event.entry_id}")
        )
        seen.append(
            (
                event.attempt,
                record.failures,
                [error["attempt"] for error in record.errors],
            )
        )
        raise ValueError(f"attempt {event.attempt}")

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(
        broker, Route(handler, retry=Retry(max_retries=2, delay=0.0))
    ) as consumer:
        await eventually(dead(broker), what="the dead letter")
    assert seen == [(1, 0, []), (2, 1, [1]), (3, 2, [1, 2])]
    (letter,) = await letters(broker)
    assert (letter.reason, letter.failures, letter.stalls) == ("retries-used-up", 3, 0)
    assert [(e["attempt"], e["message"]) for e in letter.errors] == [
        (n, f"attempt {n}") for n in (1, 2, 3)
    ]
    assert letter.consumer == consumer.name
    assert await broker.control.call("EXISTS", attempts) == 0
    assert await pending(broker) == []


async def test_a_failed_event_keeps_its_id_and_entry(broker):
    seen = []

    async def handler(event: Event) -> None:
        seen.append((event.id, event.entry_id, event.raw))
        if event.attempt < 3:
            raise ValueError

    receipt = await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, Route(handler, retry=AT_ONCE)):
        await eventually(gone(broker), what="the third attempt")
    assert seen == [(receipt.event_id, receipt.entry_id, b"1")] * 3


@pytest.mark.parametrize(
    ("retry", "own", "attempts"),
    [
        (Retry(max_retries=0), {}, 1),
        (Retry(max_retries=5, delay=60), {"max_retries": 1, "retry_delay": 0.0}, 2),
        (Retry(max_retries=5), {"max_retries": 0}, 1),
        (Retry(max_retries=0), {"max_retries": 2, "retry_delay": 0.0}, 3),
    ],
)
async def test_how_often_an_event_is_tried(broker, retry, own, attempts):
    seen = []

    async def handler(event: Event) -> None:
        seen.append(event.attempt)
        raise ValueError

    await Producer(broker, "s").publish(1, type="t", **own)
    async with consuming(broker, Route(handler, retry=retry)):
        await eventually(dead(broker), what="the dead letter")
    assert seen == list(range(1, attempts + 1))


async def test_reject_is_final(broker):
    async def handler(event: Event) -> None:
        raise Reject("not for us")

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, handler):
        await eventually(dead(broker), what="the dead letter")
    (letter,) = await letters(broker)
    assert (letter.reason, letter.failures) == ("rejected", 1)


@pytest.mark.parametrize(
    "retry", [Retry(reject_on=(KeyError,)), Retry(retry_on=(OSError,))]
)
async def test_errors_that_are_not_retried(broker, retry):
    async def handler(event: Event) -> None:
        raise KeyError("x")

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, Route(handler, retry=retry)):
        await eventually(dead(broker), what="the dead letter")
    (letter,) = await letters(broker)
    assert (letter.reason, letter.failures) == ("not-retryable", 1)


@pytest.mark.parametrize(
    "error",
    [SystemExit(1), asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()],
)
async def test_whatever_a_handler_raises_is_its_outcome(broker, error):
    async def handler(event: Event) -> None:
        if event.data == 1 and event.attempt == 1:
            raise error

    await Producer(broker, "s").publish_many([1, 2], type="t")
    async with consuming(
        broker, Route(handler, retry=AT_ONCE), concurrency=1
    ) as consumer:
        await eventually(gone(broker), what="both")
    assert (consumer.stats.done, consumer.stats.retried) == (2, 1)


class LaterError(Exception):
    retry_after = 0.2


async def gaps_between_attempts(broker: Broker, route: Route, n: int) -> list[float]:
    starts = []
    inner = route.function

    async def handler(event: Event) -> None:
        starts.append((time.monotonic(), event.attempt))
        await inner(event)

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, Route(handler, retry=route.retry)):
        await eventually(lambda: len(starts) == n, what="the attempts")
        await eventually(gone(broker), what="the end")
    return [round(b[0] - a[0], 3) for a, b in itertools.pairwise(starts)] + [
        starts[-1][1]
    ]


async def test_snoozing_is_free_and_as_long_as_asked(broker):
    count = 0

    async def handler(event: Event) -> None:
        nonlocal count
        count += 1
        if count < 4:
            raise Snooze(0.15 if count == 2 else 0.0)

    gaps = await gaps_between_attempts(
        broker, Route(handler, retry=Retry(max_retries=0)), 4
    )
    assert gaps[1] >= 0.145
    assert gaps[-1] == 1


async def test_an_exception_may_say_when_to_try_again(broker):
    async def handler(event: Event) -> None:
        if event.attempt == 1:
            raise LaterError

    gap, attempt = await gaps_between_attempts(
        broker, Route(handler, retry=Retry(delay=600)), 2
    )
    assert 0.195 <= gap < 5
    assert attempt == 2


async def test_the_delay_is_waited(broker, real_polls):
    async def handler(event: Event) -> None:
        if event.attempt < 3:
            raise ValueError

    first, second, attempt = await gaps_between_attempts(
        broker, Route(handler, retry=Retry(delay=0.1, jitter=0.0)), 3
    )
    assert first >= 0.095
    assert second >= 0.195
    assert attempt == 3


async def test_a_timeout_cancels_and_counts(broker):
    ends = []

    async def handler(event: Event) -> None:
        try:
            await asyncio.sleep(60 if event.attempt == 1 else 0)
        finally:
            ends.append(event.attempt)

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(
        broker, Route(handler, retry=AT_ONCE, timeout=0.05)
    ) as consumer:
        await eventually(gone(broker), what="the second attempt")
    assert ends == [1, 2]
    assert (
        consumer.stats.as_dict() | {"fetched": 2, "done": 1, "retried": 1}
        == consumer.stats.as_dict()
    )


async def test_a_timeout_of_a_plain_function_drops_its_result(broker):
    release = threading.Event()

    def handler(event: Event) -> None:
        release.wait(10)

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(
        broker, Route(handler, retry=Retry(max_retries=0), timeout=0.05)
    ):
        await eventually(dead(broker), what="the dead letter")
        release.set()
    (letter,) = await letters(broker)
    assert (
        letter.last_error == "TimeoutError: the handler exceeded its timeout of 0.05 s"
    )
