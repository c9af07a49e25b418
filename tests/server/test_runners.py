"""Runners do not die: whatever user code does between an attempt's start and its outcome costs no slot and no event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from streams import (
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    Event,
    Limit,
    Producer,
    Retry,
    Snooze,
    Throttle,
)
from streams.admin.dead_letters import DeadLetters
from streams.handlers.routes import Route, Router
from streams.policy.retry import AttemptRecord, Bury, Decision, RetryIn
from tests.conftest import eventually
from tests.server.consuming import consuming

pytestmark = pytest.mark.in_turn

ONCE = Retry(max_retries=1, delay=0.0)


class OddError(Exception):
    """An exception whose text and whose ``retry_after`` end the process that reads them."""

    @property
    def retry_after(self) -> float:
        raise SystemExit(3)

    def __str__(self) -> str:
        raise SystemExit(3)


async def _old_timeout(event: Event) -> None:
    """As libraries did before there was ``asyncio.timeout``: they cancel the task, and take nothing back."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise TimeoutError from None


async def _cancelled_child(event: Event) -> None:
    child = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    child.cancel()
    await child


async def _timeout_and_cancelled_child(event: Event) -> None:
    try:
        await _old_timeout(event)
    except TimeoutError:
        await _cancelled_child(event)


async def _cancels_itself_and_returns(event: Event) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def _cancels_itself_and_waits(event: Event) -> None:
    await _cancels_itself_and_returns(event)
    await asyncio.sleep(0)


async def _cancels_itself_and_raises(event: Event) -> None:
    await _cancels_itself_and_returns(event)
    raise ValueError


async def _without_meta(event: Event) -> None:
    event.meta = None  # type: ignore[assignment]
    raise ValueError


async def _meta_of_other_types(event: Event) -> None:
    event.meta |= {"max_retries": "3", "retry_delay": "soon", "traceparent": 5}
    raise ValueError


async def _odd_exception(event: Event) -> None:
    raise OddError


async def _endless_snooze(event: Event) -> None:
    snooze = Snooze(1)
    snooze.seconds = float("nan")
    raise snooze


TROUBLE: tuple[Callable[[Event], Awaitable[None]], ...] = (
    _old_timeout, _cancelled_child, _timeout_and_cancelled_child, _cancels_itself_and_returns,
    _cancels_itself_and_waits, _cancels_itself_and_raises, _without_meta, _meta_of_other_types, _odd_exception,
    _endless_snooze,
)  # fmt: skip


@pytest.mark.parametrize(
    "trouble", TROUBLE, ids=[handler.__name__.strip("_") for handler in TROUBLE]
)
async def test_trouble_of_a_handler_costs_no_slot_and_no_event(broker, caplog, trouble):
    """The one runner goes through the trouble, twice each, and through plain events between them."""
    seen: list[Any] = []

    async def handler(event: Event) -> None:
        if event.type == "trouble":
            await trouble(event)
        seen.append(event.data)

    producer = Producer(broker, "s")
    async with consuming(
        broker, Router([Route(handler, retry=ONCE)]), concurrency=1
    ) as consumer:
        for n in range(3):
            await producer.publish({}, type="trouble", key="k")
            await producer.publish(n, type="plain")
        await eventually(
            lambda: {0, 1, 2} <= {n for n in seen if isinstance(n, int)},
            what="the plain events",
        )
        # Each ended: by return, as a dead letter, or waiting for its retry by the default policy.
        await eventually(lambda: consumer.busy == 0, what="the runner to be free")
        assert consumer.vitals.missing == ()
    assert (
        consumer.stats.lost == consumer.stats.vanished == consumer.stats.abandoned == 0
    )
    assert not [line for line in caplog.messages if "is replaced" in line], (
        "it is the same runner still"
    )


class Broken(Retry):
    """A policy of the user's, with a defect."""

    def after_failure(
        self, error: BaseException, record: AttemptRecord, **options: Any
    ) -> Decision:
        raise KeyError("no such tier")


class Vague(Retry):
    """A policy that says nothing which can be done."""

    def after_failure(
        self, error: BaseException, record: AttemptRecord, **options: Any
    ) -> Decision:
        return None  # type: ignore[return-value]


class Saying(Retry):
    """A policy that says what it is told to."""

    __slots__ = ("_said",)

    def __init__(self, said: Any) -> None:
        super().__init__()
        object.__setattr__(self, "_said", said)

    def after_failure(
        self, error: BaseException, record: AttemptRecord, **options: Any
    ) -> Decision:
        return self._said()


@pytest.mark.parametrize(
    "policy",
    [
        Broken(),
        Vague(),
        Saying(lambda: RetryIn(float("nan"))),
        Saying(lambda: Bury(None)),  # type: ignore[arg-type]
        Saying(lambda: Bury("")),
        Saying(lambda: Bury("no\0text")),
        Saying(lambda: Bury("no\ud800text")),
        Saying(lambda: Bury("long" * 100)),
    ],
    ids=["raises", "nothing", "nan", "no-reason", "empty", "nul", "surrogate", "long"],
)
async def test_the_default_policy_decides_where_a_policy_fails(broker, caplog, policy):
    async def handler(event: Event) -> None:
        raise ValueError("bad")

    async with consuming(broker, Route(handler, retry=policy)) as consumer:
        await Producer(broker, "s").publish({}, type="t")
        await eventually(lambda: consumer.stats.retried == 1, what="the retry")
    (line,) = [
        line for line in caplog.records if "the retry policy failed" in line.message
    ]
    assert line.levelno == logging.ERROR
    assert line.exc_info is not None, "where it failed is in the log"
    assert not [line for line in caplog.messages if "brought to its end" in line], (
        "it is no defect of ours"
    )
    record = await broker.control.call("HVALS", broker.keys("s").attempts("g"))
    assert AttemptRecord.from_json(record[0]).failures == 1


class Twice:
    """A policy that is no ``Retry``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def after_failure(
        self, error: BaseException, record: AttemptRecord, **options: Any
    ) -> Decision:
        return Bury(self.reason) if record.failures == 2 else RetryIn(timedelta(0))

    def after_stall(
        self, record: AttemptRecord, *, max_retries: int | None = None
    ) -> Decision:
        return RetryIn(0.0)


async def test_a_policy_that_is_no_retry_decides(broker):
    async def handler(event: Event) -> None:
        raise ValueError("bad")

    async with consuming(broker, Route(handler, retry=Twice("twice"))) as consumer:
        await Producer(broker, "s").publish({}, type="t")
        await eventually(lambda: consumer.stats.dead == 1, what="the dead letter")
        assert consumer.declared["retry"] == "* Twice"
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert (letter.reason, letter.failures) == ("twice", 2)


async def test_a_throttle_counts_for_the_key_that_the_gate_saw(broker):
    """Although the handler has changed what the key is made of."""
    calls: list[Event] = []

    async def handler(event: Event) -> None:
        calls.append(event)
        if len(calls) == 1:
            event.data.pop("shop")
            raise Throttle("shop", 0.1)

    limit = Limit(lambda event: event.data["shop"], name="shop", rate="1000/s")
    async with consuming(
        broker, Router([Route(handler, limits=[limit])]), concurrency=1
    ) as consumer:
        await Producer(broker, "s").publish({"shop": "a"}, type="t")
        await eventually(lambda: consumer.stats.done == 1, what="the second try")
        assert consumer.vitals.missing == ()


@pytest.mark.parametrize(
    "error", [KeyError("x"), SystemExit(3), asyncio.CancelledError(), GeneratorExit()]
)
async def test_the_key_of_a_limit_ends_no_more_than_its_event(broker, error):
    """The key is asked for while the worker fetches: what it raises must not end the fetcher, or the process."""
    done: list[object] = []

    async def handler(event: Event) -> None:
        done.append(event.data)

    def key(event: Event) -> str:
        if event.data == "odd":
            raise error
        return "a"

    limit = Limit(key, name="shop", concurrency=1)
    async with consuming(
        broker, Router([Route(handler, limits=[limit])]), concurrency=1
    ) as consumer:
        await Producer(broker, "s").publish_many(["odd", "plain"], type="t")
        await eventually(lambda: consumer.stats.dead == 1, what="the dead letter")
        await eventually(lambda: done == ["plain"], what="the plain one")
        assert consumer.vitals.missing == ()


async def test_keys_of_a_limit_that_have_no_bytes_are_keys_like_others(broker):
    """Half of a pair of surrogates, from a body or from a handler, ended the whole worker when it was to be sent."""
    seen: list[object] = []

    async def handler(event: Event) -> None:
        seen.append(event.data)
        if len(seen) == 1:
            raise Throttle("shop", 0.05, key="no\ud800bytes")

    limit = Limit(
        lambda event: "no\ud800bytes", name="shop", concurrency=1, rate="1000/s"
    )
    async with consuming(broker, Router([Route(handler, limits=[limit])])) as consumer:
        await Producer(broker, "s").publish_many(["a", "b"], type="t")
        await eventually(lambda: consumer.stats.done == 2, what="both")
    assert sorted(map(str, seen)) == ["a", "a", "b"] or sorted(map(str, seen)) == [
        "a",
        "b",
        "b",
    ]


async def test_what_comes_before_the_handler_costs_no_event_either(broker):
    """Types and upcasters are user code, too: here a type whose reading fails as no reading should."""

    async def handler(event: Event) -> None:
        pass

    route = Route(handler, retry=ONCE)

    def prepare(event: Event) -> None:
        if event.data == "odd":
            raise RecursionError

    route.prepare = prepare
    async with consuming(broker, Router([route]), concurrency=1) as consumer:
        await Producer(broker, "s").publish_many(["odd", "plain"], type="t")
        await eventually(lambda: consumer.stats.done == 1, what="the plain one")
        await eventually(
            lambda: consumer.stats.retried == 1, what="the other one's retry"
        )


async def test_a_runner_that_ends_is_replaced_counted_and_logged(broker, caplog):
    """Somebody cancels every task of the loop: what runs fails, what waits for work is replaced."""
    done: list[Any] = []

    three = asyncio.Barrier(3)

    async def handler(event: Event) -> None:
        if event.data == "three":
            await three.wait()
        if event.data == "all":
            for task in asyncio.all_tasks():
                if (
                    task.get_name() == "streams-runner"
                    and task is not asyncio.current_task()
                ):
                    task.cancel()
        done.append(event.data)

    async with consuming(broker, handler, concurrency=3) as consumer:
        producer = Producer(broker, "s")
        await producer.publish_many(["three"] * 3, type="t")
        await eventually(lambda: len(done) == 3, what="all runners to have had work")
        await producer.publish("all", type="t")
        await eventually(
            lambda: consumer._executor.replaced == 2, what="two runners to be replaced"
        )
        assert consumer.vitals.missing == ()
        await producer.publish_many(range(6), type="t")
        await eventually(lambda: len(done) == 10, what="the other events")
    assert sum("is replaced" in line.message for line in caplog.records) == 2


async def test_a_missing_runner_fails_the_health(broker, monkeypatch):
    consumer = Consumer(
        broker, "s", "g", lambda event: None, ConsumerOptions(concurrency=4)
    )
    running = asyncio.create_task(consumer.run())
    await Producer(broker, "s").publish(1, type="t")
    await eventually(lambda: consumer.stats.done, what="a runner to have had work")
    monkeypatch.setattr(consumer._executor, "_add_runner", lambda: None)
    next(iter(consumer._executor._tasks)).cancel()
    await eventually(
        lambda: consumer.vitals.missing == ("1 of 4 runners",),
        what="the health to tell",
    )
    consumer.stop()
    await running


def test_what_is_no_policy_is_refused_where_it_is_written():
    with pytest.raises(ConfigurationError, match=r"retry is a Retry"):
        Route(lambda event: None, retry=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="timeout is a number of seconds"):
        Router([Route(lambda event: None)]).with_timeouts({None: "soon"})  # type: ignore[dict-item]
