"""Middleware around real attempts: which outcome a hook leads to, and what it is told when an attempt is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Pipeline,
    Producer,
    Reject,
    Retry,
    Settings,
    Snooze,
)
from streams.handlers.routes import Route, Router
from streams.middleware import (
    Attempt,
    Context,
    ErrorRules,
    Middleware,
    Place,
    Skip,
    Timeout,
    current_event,
)
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn

AT_ONCE = Retry(max_retries=3, delay=0.0)


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)


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


class Noting(Middleware):
    """Notes what it is told, with the reason of a cancellation."""

    def __init__(self, **does) -> None:
        self.log: list = []
        self.does = does

    def _do(self, hook: str, *facts):
        self.log.append((hook, *facts))
        what = self.does.get(hook)
        if isinstance(what, list):
            what = what.pop(0) if what else None
        if isinstance(what, tuple):
            raise what[0]
        return what

    def before(self, attempt: Attempt):
        return self._do("before", attempt.event.data, attempt.event.attempt)

    async def after(self, attempt: Attempt):
        return self._do("after", attempt.event.data)

    async def failed(self, attempt: Attempt, error: BaseException):
        await asyncio.sleep(0)
        return self._do("failed", type(error).__name__, attempt.cancelled)


async def ends(consumer: Consumer, count: int = 1) -> None:
    def all_ended() -> bool:
        return consumer.stats.done + consumer.stats.dead == count

    await eventually(all_ended, what="the end of every event")


async def test_hooks_see_the_validated_event_and_only_events_that_are_handled(broker):
    @dataclasses.dataclass
    class Order:
        id: int

    async def handler(event) -> None: ...

    handler.__annotations__["event"] = Event[Order]
    noting = Noting()
    await Producer(broker, "s").publish_many(
        [Event("order", {"id": 5}), Event("order", {"id": "x"}), Event("other", 1)],
    )
    async with consuming(broker, Route(handler, types=["order"]), noting) as consumer:
        await ends(consumer, 3)
    assert noting.log == [("before", Order(5), 1), ("after", Order(5))]
    assert sorted(
        letter.reason for letter in await DeadLetters(broker, "s", "g").page()
    ) == ["invalid", "no-handler"]


@pytest.mark.parametrize("hook", ["before", "after"])
async def test_a_hook_that_raises_is_a_failed_attempt(broker, hook):
    ran = []

    async def handler(event: Event) -> None:
        ran.append(event.attempt)

    outer, inner = Noting(), Noting(**{hook: [(ValueError("hook"),)]})
    await Producer(broker, "s").publish(1, type="t")
    async with consuming(
        broker, Route(handler, retry=AT_ONCE), outer, inner
    ) as consumer:
        await ends(consumer)
    assert ran == ([2] if hook == "before" else [1, 2])
    assert (consumer.stats.done, consumer.stats.retried) == (1, 1)
    assert ("failed", "ValueError", "") in outer.log
    assert outer.log[-1] == ("after", 1)
    assert all(entry[0] != "failed" for entry in inner.log)


async def test_failed_decides_what_becomes_of_the_event(broker):
    async def handler(event: Event) -> None:
        raise ValueError("first")

    noting = Noting(failed=[Snooze(0.0), ValueError("second"), Reject("third")])
    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, Route(handler, retry=AT_ONCE), noting) as consumer:
        await ends(consumer)
    assert [entry[2] for entry in noting.log if entry[0] == "before"] == [1, 1, 2]
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert (letter.reason, letter.attempts) == ("rejected", 2)
    assert [error["message"] for error in letter.errors] == ["second", "third"]


async def test_error_rules_keep_handlers_free_of_our_words(broker):
    class BusyError(Exception):
        pass

    seen = []

    def handler(event: Event) -> None:
        seen.append((event.data, event.attempt))
        if event.data == "busy" and seen.count(("busy", 1)) < 2:
            raise BusyError
        if event.data == "bad":
            raise ValueError("order 5 is bad")
        if event.data == "slow" and event.attempt == 1:
            raise ConnectionError("away")

    rules = ErrorRules(
        reject=[ValueError],
        snooze={BusyError: 0.01},
        retry_after={ConnectionError: 0.02},
    )
    await Producer(broker, "s").publish_many(["busy", "bad", "slow"], type="t")
    async with consuming(
        broker, Route(handler, retry=Retry(max_retries=1, delay=3600.0)), rules
    ) as consumer:
        await ends(consumer, 3)
    assert sorted(seen) == [
        ("bad", 1),
        ("busy", 1),
        ("busy", 1),
        ("slow", 1),
        ("slow", 2),
    ]
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert (letter.reason, letter.errors[-1]["message"]) == (
        "rejected",
        "ValueError: order 5 is bad",
    )
    assert "handler" in letter.errors[-1]["where"]


async def test_timeouts_by_type_are_told_as_such(broker):
    async def slow(event: Event) -> None:
        await asyncio.sleep(0.5 if event.type == "own" else 60)

    router = Router(
        [
            Route(slow, types=["own"], timeout=30.0),
            Route(slow, types=["a"], retry=Retry(max_retries=0)),
        ],
    )
    noting = Noting()
    await Producer(broker, "s").publish_many([Event("own", 1), Event("a", 2)])
    async with consuming(
        broker, router, noting, Timeout(0.05, types={"own": 0.01})
    ) as consumer:
        await ends(consumer, 2)
    assert ("failed", "TimeoutError", "timeout") in noting.log
    assert ("after", 1) in noting.log
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert (letter.reason, letter.errors[-1]["type"]) == (
        "retries-used-up",
        "TimeoutError",
    )
    assert letter.errors[-1]["message"] == "the handler exceeded its timeout of 0.05 s"


@pytest.mark.parametrize("in_hook", [False, True])
async def test_a_shutdown_is_told_and_costs_nothing(broker, in_hook):
    started = asyncio.Event()

    class Waiting(Middleware):
        async def before(self, attempt):
            if in_hook:
                started.set()
                await asyncio.sleep(60)

    async def handler(event: Event) -> None:
        started.set()
        await asyncio.sleep(60)

    noting = Noting(failed=Reject("ignored"))
    await Producer(broker, "s").publish(1, type="t")
    consumer = Consumer(
        broker, "s", "g", handler, ConsumerOptions(middleware=(noting, Waiting()))
    )
    task = asyncio.create_task(consumer.run())
    await started.wait()
    consumer.stop(grace=0.0)
    await asyncio.wait_for(task, 5)
    assert noting.log == [("before", 1, 1), ("failed", "CancelledError", "shutdown")]
    assert (consumer.stats.released, consumer.stats.dead) == (1, 0)


async def test_a_lost_lease_is_told_and_writes_nothing(broker):
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        await asyncio.sleep(60)

    noting = Noting(failed=Reject("ignored"))
    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, handler, noting, lease=0.3) as consumer:
        await started.wait()
        key = broker.keys("s").level(0)
        ((entry_id, *_),) = await broker.control.call(
            "XPENDING", key, "g", "-", "+", 10
        )
        await broker.control.call("XCLAIM", key, "g", "thief", 0, entry_id)
        await eventually(lambda: consumer.busy == 0, what="its end")
    assert noting.log[-1] == ("failed", "CancelledError", "lost")
    assert (consumer.stats.lost, consumer.stats.dead) == (1, 0)


@pytest.mark.parametrize("ending", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_skip_acknowledges_and_is_counted(broker, ending, asynchronous):
    ran = []

    class Skipping(Middleware):
        def _before(self, attempt):
            if attempt.event.data == "skip":
                raise Skip("no need")
            if attempt.event.data == "fail" and attempt.event.attempt == 1:
                raise ValueError

        if asynchronous:

            async def before(self, attempt):
                await asyncio.sleep(0)
                self._before(attempt)
        else:

            def before(self, attempt):
                self._before(attempt)

    async def handler(event: Event) -> None:
        ran.append((event.data, event.attempt))

    await Producer(broker, "s").publish_many(["skip", "fail", "run"], type="t")
    around = (Noting(), Skipping()) if ending else (Skipping(),)
    async with consuming(broker, Route(handler, retry=AT_ONCE), *around) as consumer:
        await ends(consumer, 3)
        assert await broker.control.call("XLEN", broker.keys("s").level(0)) == 0
    assert sorted(ran) == [("fail", 2), ("run", 1)]
    assert (consumer.stats.skipped, consumer.stats.done, consumer.stats.retried) == (
        1,
        3,
        1,
    )
    if ending:
        assert ("after", "skip") in around[0].log


async def test_a_handler_may_skip_too(broker):
    async def handler(event: Event) -> None:
        raise Skip

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, handler) as consumer:
        await ends(consumer)
    assert (consumer.stats.skipped, consumer.stats.dead) == (1, 0)


async def test_a_pipeline_starts_and_stops_its_middleware_and_knows_the_event_by_default(
    server, namespace, caplog
):
    places: list[tuple[str, Place]] = []
    seen = []
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    assert [type(item) for item in pipeline.middleware] == [Context]

    class Placed(Middleware):
        async def start(self, place: Place) -> None:
            assert await place.broker.control.call("PING") == b"PONG"
            places.append(("start", place))

        async def stop(self, place: Place) -> None:
            assert await place.broker.control.call("PING") == b"PONG"
            places.append(("stop", place))

    pipeline.middleware.append(Placed())

    pipeline.stream("orders", retention="fanout")

    @pipeline.handler("orders", group="a")
    async def first(event: Event) -> None:
        await asyncio.gather(later(event))

    async def later(event: Event) -> None:
        seen.append(current_event() is event)
        logging.getLogger("shop").warning("charging")

    @pipeline.handler("orders", group="b")
    def second(event: Event) -> None:
        seen.append(current_event() is event)

    task = asyncio.create_task(pipeline.run())
    async with pipeline:
        await pipeline.publish("orders", 1, type="t")
        await eventually(lambda: len(seen) == 2, what="both handlers")
    while not task.done():
        pipeline.stop()
        await asyncio.wait([task], timeout=0.05)
    task.result()
    assert seen == [True, True]
    assert current_event() is None
    assert sorted((what, place.stream, place.group) for what, place in places) == [
        ("start", "orders", "a"), ("start", "orders", "b"), ("stop", "orders", "a"), ("stop", "orders", "b"),
    ]  # fmt: skip
    assert {place for what, place in places if what == "start"} == {
        p for what, p in places if what == "stop"
    }


async def test_a_middleware_that_cannot_start_ends_the_worker(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    class Broken(Middleware):
        def start(self, place: Place) -> None:
            raise LookupError("no key")

    pipeline.middleware.append(Broken())

    @pipeline.handler("orders", group="a")
    async def handler(event: Event) -> None: ...

    with pytest.raises(LookupError, match="no key"):
        await asyncio.wait_for(pipeline.run(), 10)
