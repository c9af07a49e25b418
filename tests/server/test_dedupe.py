"""Dedupe: one run per event id, whatever is published, delivered, stalled or lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Producer,
    Reject,
    Retry,
)
from streams.broker.entries.claims import (
    HANDLED,
    HELD,
    NO_MEMORY,
    TAKEN,
    Claim,
    Claiming,
)
from streams.errors import Skip
from streams.handlers.routes import Route
from streams.middleware import Dedupe, Middleware
from tests.conftest import eventually


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.02)


@contextlib.asynccontextmanager
async def consuming(broker: Broker, handler, *middleware: Middleware, **options):
    consumer = Consumer(
        broker, "s", "g", handler, ConsumerOptions(middleware=middleware, **options)
    )
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@pytest.fixture
def claiming(broker):
    return Claiming(broker, broker.keys("s"), "g", hold=60.0, window=3600.0)


async def state(broker: Broker, event_id: str = "x") -> bytes | None:
    return await broker.control.call("GET", broker.keys("s").handled("g", event_id))


def same(*data, event_id: str = "x"):
    return [Event("t", value, id=event_id) for value in data]


# --- the scripts


async def test_a_claim_belongs_to_one_delivery(broker, claiming):
    first, second, other = (
        Claim("x", "0|1-0", 1),
        Claim("x", "0|1-0", 2),
        Claim("x", "0|2-0", 1),
    )
    assert await claiming.exchange([first]) == ([HELD], [])
    # The answer was lost, and it is asked again.
    assert await claiming.exchange([first]) == ([HELD], [])
    assert await claiming.exchange([other]) == ([TAKEN], [])
    assert await claiming.exchange([second]) == ([HELD], [])
    # A stalled attempt cannot have it back,
    assert await claiming.exchange([first]) == ([TAKEN], [])
    # its late success marks nothing,
    assert await claiming.exchange([], [first]) == ([], [0])
    await claiming.exchange([], [], [first])  # and its late failure frees nothing.
    assert await state(broker) == b"claimed 2 0|1-0"
    assert await claiming.exchange([], [second]) == ([], [HELD])
    assert await state(broker) == b"handled"
    await claiming.exchange([], [], [first, second])
    assert await claiming.exchange([first, second, other], [first]) == (
        [HANDLED] * 3,
        [0],
    )
    key = broker.keys("s").handled("g", "x")
    assert key == f"{broker.namespace}:{{s}}:g:handled:x"
    assert 3_590_000 < await broker.control.call("PTTL", key) <= 3_600_000


async def test_a_claim_ends_by_itself_and_a_success_after_that_counts(broker):
    claiming = Claiming(broker, broker.keys("s"), "g", hold=0.03, window=3600.0)
    first, other = Claim("x", "0|1-0", 1), Claim("x", "0|2-0", 1)
    assert await claiming.exchange([first]) == ([HELD], [])

    async def free() -> bool:
        return await state(broker) is None

    await eventually(free, what="the end of the claim")
    assert await claiming.exchange([], [first]) == ([], [HELD])
    assert await claiming.exchange([other]) == ([HANDLED], [])


async def test_any_order_of_calls_is_as_the_model_says(broker, claiming):
    """Deliveries of two entries with one event id, each with three attempts, in any order, late ones included."""
    rng = random.Random(5)
    for run in range(40):
        event_id, model = f"run{run}", None
        claims = [
            Claim(event_id, f"0|{entry}-0", count)
            for entry in (1, 2)
            for count in (1, 2, 3)
        ]
        for _ in range(20):
            claim, what = rng.choice(claims), rng.choice(["claim", "done", "release"])
            if what == "claim":
                (answer,), _ = await claiming.exchange([claim])
                if model == "handled":
                    assert answer == HANDLED
                elif model is None or (
                    model.entry == claim.entry and model.delivered <= claim.delivered
                ):
                    assert answer == HELD
                    model = claim
                else:
                    assert answer == TAKEN
            elif what == "done":
                _, (answer,) = await claiming.exchange([], [claim])
                assert answer == (model in (None, claim))
                model = "handled" if model in (None, claim) else model
            else:
                await claiming.exchange([], [], [claim])
                model = None if model == claim else model


async def test_without_memory_nothing_is_claimed_and_a_held_claim_can_still_be_marked(
    make_server, binary
):
    server = make_server(binary)
    async with Broker(server.url) as broker:
        claiming = Claiming(broker, broker.keys("s"), "g", hold=60.0, window=3600.0)
        held, other = Claim("x", "0|1-0", 1), Claim("y", "0|2-0", 1)
        await claiming.exchange([held], [other._replace(event_id="z")], [other])
        await broker.control.call("CONFIG", "SET", "maxmemory", "1")
        assert await claiming.exchange([other, held]) == ([NO_MEMORY, HELD], [])
        assert await claiming.exchange([], [other]) == ([], [NO_MEMORY])
        assert await claiming.exchange([], [held]) == ([], [HELD])
        assert await state(broker) == b"handled"
        await broker.control.call("CONFIG", "SET", "maxmemory", "0")


# --- the middleware


async def test_the_same_id_runs_once(broker):
    ran = []

    async def handler(event: Event) -> None:
        ran.append(event.data)

    await Producer(broker, "s").publish_many([*same(1, 2, 3), *same(4, event_id="y")])
    async with consuming(broker, handler, Dedupe(busy=0.02)) as consumer:
        await eventually(lambda: consumer.stats.done == 4, what="every event")
    assert len(ran) == 2
    assert 4 in ran
    assert consumer.stats.skipped == 2
    assert await broker.control.call("XLEN", broker.keys("s").level(0)) == 0


async def test_a_concurrent_duplicate_waits_for_the_outcome(broker):
    gate, ran = asyncio.Event(), []

    async def handler(event: Event) -> None:
        ran.append(event.data)
        await gate.wait()

    await Producer(broker, "s").publish_many(same(1, 2))
    async with (
        consuming(broker, handler, Dedupe(busy=0.02)) as one,
        consuming(broker, handler, Dedupe(busy=0.02)) as two,
    ):
        await eventually(
            lambda: one.stats.snoozed + two.stats.snoozed > 2, what="snoozes"
        )
        assert len(ran) == 1
        gate.set()
        await eventually(lambda: one.stats.done + two.stats.done == 2, what="both ends")
    assert len(ran) == 1
    assert one.stats.skipped + two.stats.skipped == 1


async def test_a_failure_frees_the_id_for_the_retry_and_for_others(broker):
    ran = []

    async def handler(event: Event) -> None:
        ran.append((event.data, event.attempt))
        if event.data == 1:
            raise Reject("no") if event.attempt == 2 else ValueError

    producer = Producer(broker, "s")
    await producer.publish_many(same(1))
    policy = Retry(delay=0.0)
    async with consuming(
        broker, Route(handler, retry=policy), Dedupe(busy=0.02)
    ) as consumer:
        await eventually(lambda: consumer.stats.dead == 1, what="the death")
        await producer.publish_many(same(2))
        await eventually(lambda: consumer.stats.done == 1, what="the success")
        letters = DeadLetters(broker, "s", "g")
        (letter,) = await letters.page()
        await letters.replay([letter.id])
        await eventually(
            lambda: consumer.stats.skipped == 1,
            what="the replay of what was handled meanwhile",
        )
    assert ran == [(1, 1), (1, 2), (2, 1)]


async def test_what_a_stalled_attempt_does_late_changes_nothing(broker):
    """The first consumer loses its lease and does not notice; the second handles the event meanwhile."""
    gate, started, ran = asyncio.Event(), asyncio.Event(), []

    async def stalled(event: Event) -> None:
        started.set()
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()
        raise ValueError("late")

    async def handler(event: Event) -> None:
        ran.append(event.data)

    await Producer(broker, "s").publish_many(same(1))
    dedupe = Dedupe(busy=0.02)
    # With one place, which is taken: it must not be the one that gets the event again.
    async with consuming(
        broker, stalled, dedupe, lease=0.3, cancel_grace=60.0, name="one", concurrency=1
    ) as one:
        await started.wait()
        claimed = await state(broker)
        assert claimed.startswith(b"claimed 1 0|")
        entry_id = claimed.decode().partition("|")[2]
        keys = broker.keys("s")
        await broker.control.call(
            "XCLAIM", keys.level(0), "g", "-parked-", 0, entry_id, "JUSTID"
        )
        await broker.control.call("ZADD", keys.retry("g"), 0, f"0|{entry_id}")
        async with consuming(broker, handler, Dedupe(busy=0.02), name="two") as two:
            await eventually(lambda: two.stats.done == 1, what="the second consumer")
        assert (ran, two.stats.skipped) == ([1], 0)
        assert await state(broker) == b"handled"
        await eventually(lambda: one.stats.lost == 1, what="the loss")
        gate.set()
        await eventually(lambda: one.busy == 0, what="the late end")
    assert await state(broker) == b"handled"


async def test_after_the_window_the_id_is_new(broker):
    ran = []

    async def handler(event: Event) -> None:
        ran.append(event.data)

    producer = Producer(broker, "s")
    async with consuming(broker, handler, Dedupe(0.05, busy=0.02)) as consumer:
        for n in (1, 2):
            await producer.publish_many(same(n))
            await eventually(lambda n=n: consumer.stats.done == n, what="the event")

            async def forgotten() -> bool:
                return await state(broker) is None

            await eventually(forgotten, what="the end of the window")
    assert ran == [1, 2]


async def test_a_claim_is_kept_for_as_long_as_the_handler_runs(broker):
    gate, started = asyncio.Event(), asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        await gate.wait()

    await Producer(broker, "s").publish_many(same(1))
    async with consuming(broker, handler, Dedupe(), lease=0.3) as consumer:
        await started.wait()
        key = broker.keys("s").handled("g", "x")
        left = [await broker.control.call("PTTL", key)]

        async def extended() -> bool:
            left.append(await broker.control.call("PTTL", key))
            return left[-1] > left[-2]

        await eventually(extended, what="the renewal")
        gate.set()
        await eventually(lambda: consumer.stats.done == 1, what="the end")
    assert max(left) <= 1000
    assert await state(broker) == b"handled"


async def test_lost_connections_are_waited_out(server, broker):
    ran = []

    async def handler(event: Event) -> None:
        ran.append(event.data)
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async with consuming(broker, handler, Dedupe(busy=0.02)) as consumer:
        await Producer(broker, "s").publish_many(same(1, 2) + same(3, event_id="y"))
        await eventually(
            lambda: consumer.stats.skipped == 1 and len(ran) > 1, what="every event"
        )
    assert len(ran) == 2
    assert (consumer.stats.retried, consumer.stats.dead) == (0, 0)


async def test_events_under_way_share_the_trips(server, broker):
    count = itertools.count()

    async def handler(event: Event) -> None:
        next(count)

    def scripts() -> int:
        with server.client() as client:
            return (
                client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
            )

    await Producer(broker, "s").publish_many(range(600), type="t")
    before = scripts()
    async with consuming(broker, handler, Dedupe(), concurrency=100) as consumer:
        await eventually(lambda: consumer.stats.done == 600, what="every event")
    assert next(count) == 600
    assert scripts() - before < 250


@pytest.mark.parametrize("hook", ["before", "handler", "failed"])
async def test_what_was_skipped_was_not_handled_and_leaves_the_id_to_the_next(
    broker, hook
):
    """Skipping says that this event is to be let go, not that its id was dealt with."""
    seen = []

    class Picky(Middleware):
        def before(self, attempt) -> None:
            if hook == "before" and attempt.event.data == 1:
                raise Skip

        def failed(self, attempt, error) -> BaseException:
            del attempt
            return Skip() if hook == "failed" else error

    async def handle(event: Event) -> None:
        if event.data == 1 and hook == "handler":
            raise Skip
        if event.data == 1 and hook == "failed":
            raise ValueError
        seen.append(event.data)

    async with consuming(broker, handle, Dedupe(), Picky()) as consumer:
        await Producer(broker, "s").publish(same(1)[0])
        await eventually(lambda: consumer.stats.done == 1, what="the skipped one")
        assert await state(broker) is None
        await Producer(broker, "s").publish(same(2)[0])
        await eventually(lambda: consumer.stats.done == 2, what="the other one")
    assert seen == [2]
    assert await state(broker) == b"handled"
