"""The consumer on a real server: what it starts, when, how often, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
    Snooze,
)
from streams.broker.keys import PARKED
from streams.handlers.routes import Route, Router
from streams.policy.declaration import Declaration
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually

LEVELS = (0, 1, 5, 10)
AT_ONCE = Retry(delay=0.0)
FANOUT = {"declaration": Declaration("fanout")}


@pytest.fixture(autouse=True)
def _short_polls(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that becomes due while its consumer blocks waits for the next look: here not for half a second."""
    if "real_polls" not in request.fixturenames:
        monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)


@pytest.fixture
def real_polls() -> None:
    """For tests of the times themselves."""


@contextlib.asynccontextmanager
async def consuming(broker: Broker, handler, group: str = "g", **options):
    """A running consumer of stream ``s``; at the end it is cancelled, which is quicker than an orderly stop."""
    consumer = Consumer(broker, "s", group, handler, ConsumerOptions(**options))
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def length(broker: Broker) -> int:
    """Entries stored on all levels."""
    return sum(
        await broker.control.batch(
            [("XLEN", broker.keys("s").level(level)) for level in LEVELS]
        )
    )


async def held(broker: Broker, consumer: str, group: str = "g") -> int:
    """Entries pending with one consumer, on all levels."""
    commands = [
        ("XPENDING", broker.keys("s").level(n), group, "-", "+", 1000, consumer)
        for n in LEVELS
    ]
    return sum(map(len, await broker.control.batch(commands)))


async def pending(
    broker: Broker, level: int = 0, group: str = "g"
) -> list[tuple[str, str, int, int]]:
    """Entry id, owner, milliseconds of silence and delivery count of what is pending."""
    rows = await broker.control.call(
        "XPENDING", broker.keys("s").level(level), group, "-", "+", 1000
    )
    return [
        (entry_id.decode(), owner.decode(), idle, count)
        for entry_id, owner, idle, count in rows
    ]


def gone(broker: Broker) -> Callable:
    async def nothing_left() -> bool:
        return await length(broker) == 0

    return nothing_left


def idle(broker: Broker) -> Callable:
    """That a consumer waits for entries."""

    async def blocked() -> bool:
        return b"blocked_clients:1\r\n" in await broker.control.call("INFO", "clients")

    return blocked


def groups(broker: Broker, n: int) -> Callable:
    """That so many groups exist, on the level where they are created last."""

    async def created() -> bool:
        key = broker.keys("s").level(0)
        return (
            await broker.control.call("EXISTS", key)
            and len(await broker.control.call("XINFO", "GROUPS", key)) == n
        )

    return created


def dead(broker: Broker, n: int = 1, group: str = "g") -> Callable:
    async def there_are() -> bool:
        return await DeadLetters(broker, "s", group).count() == n

    return there_are


async def letters(broker: Broker, group: str = "g"):
    return await DeadLetters(broker, "s", group).page(limit=1000)


# --- order and amount


@pytest.mark.parametrize("concurrency", [1, 7, 20])
async def test_a_backlog_is_started_strictly_by_level(broker, concurrency):
    producer = Producer(broker, "s")
    await producer.publish_many(
        Event("t", n, priority=LEVELS[n % 4]) for n in range(200)
    )
    started = []

    async def handler(event: Event) -> None:
        started.append((event.priority, event.data))

    async with consuming(broker, handler, concurrency=concurrency):
        await eventually(lambda: len(started) == 200, what="all starts")
    assert started == sorted(started, key=lambda start: (-start[0], start[1]))


async def test_a_new_event_of_a_high_level_overtakes_a_backlog(broker):
    producer = Producer(broker, "s")
    await producer.publish_many(range(30), type="t")
    started = []

    async def handler(event: Event) -> None:
        started.append(event.priority)
        if len(started) in (3, 11, 20):
            await producer.publish(0, type="t", priority=10 if len(started) > 5 else 5)

    async with consuming(broker, handler, concurrency=1):
        await eventually(lambda: len(started) == 33, what="all starts")
    assert [at for at, level in enumerate(started) if level] == [3, 11, 20]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
async def test_never_more_is_pending_than_can_run(broker, concurrency):
    await Producer(broker, "s").publish_many(
        Event("t", n, priority=LEVELS[n % 4]) for n in range(4 * 60)
    )
    permits = asyncio.Semaphore(0)
    started = []

    async def handler(event: Event) -> None:
        started.append(event.data)
        await permits.acquire()

    async with consuming(
        broker, handler, concurrency=concurrency, name="me"
    ) as consumer:
        for done in (0, 2 * concurrency):
            for _ in range(done):
                permits.release()
            await eventually(
                lambda done=done: len(started) == done + concurrency,
                what="the starts",
            )
            await eventually(
                lambda done=done: consumer.stats.done == done,
                what="the acknowledgements",
            )
            assert [await held(broker, "me") for _ in range(60)] == [concurrency] * 60
            assert consumer.busy == concurrency
    assert len(started) == 3 * concurrency
    assert consumer.stats.fetched == 3 * concurrency


async def test_a_burst_on_all_levels_costs_no_attempt(broker, real_polls):
    """An idle worker may be given one entry per level at once: what it cannot start goes back, free of charge."""
    started = []

    async def handler(event: Event) -> None:
        started.append((event.data, event.attempt))

    async with consuming(broker, handler, concurrency=1):
        await eventually(idle(broker), what="the consumer to wait")
        await Producer(broker, "s").publish_many(
            Event("t", n, priority=LEVELS[n % 4]) for n in range(40)
        )
        await eventually(gone(broker), what="all done")
    assert sorted(started) == [(n, 1) for n in range(40)]


async def test_a_lone_event_is_acknowledged_at_once(broker):
    returned = 0.0

    async def handler(event: Event) -> None:
        nonlocal returned
        returned = time.monotonic()

    waits = []
    producer = Producer(broker, "s")
    async with consuming(broker, handler):
        for n in range(5):
            await producer.publish(n, type="t")
            await eventually(gone(broker), what="the acknowledgement")
            waits.append(time.monotonic() - returned)
    assert min(waits) < 0.1


@pytest.mark.one_server
async def test_a_flood_is_settled_in_batches(server, broker):
    async def handler(event: Event) -> None:
        pass

    async with consuming(broker, handler) as consumer:
        await eventually(idle(broker), what="the consumer to wait")
        await Producer(broker, "s").publish(0, type="t")
        await eventually(gone(broker), what="the first one")
    await Producer(broker, "s").publish_many(range(5_000), type="t")
    with server.client() as client:
        client.config_resetstat()
        async with consuming(broker, handler) as consumer:
            await eventually(lambda: consumer.stats.done == 5_000, what="all done")
            found = client.info("commandstats")
        assert client.xlen(broker.keys("s").level(0)) == 0
    # Not all commands: how often a worker renews and looks beside that depends on how long it takes.
    settled = sum(
        found[f"cmdstat_{name}"]["calls"] for name in ("xack", "xdel", "xreadgroup")
    )
    assert settled / 5_000 <= 0.06


# --- handlers and routes


async def test_plain_functions_run_in_threads_of_their_own(broker):
    both = threading.Barrier(2)
    idents = []

    def handler(event: Event) -> None:
        both.wait(5)  # Neither can pass alone.
        idents.append(threading.get_ident())

    await Producer(broker, "s").publish_many([1, 2], type="t")
    async with consuming(broker, handler):
        await eventually(gone(broker), what="both")
    assert len(set(idents)) == 2
    assert threading.get_ident() not in idents


async def test_what_a_plain_function_raises_counts(broker):
    attempts = []

    def handler(event: Event) -> None:
        attempts.append(event.attempt)
        if event.attempt == 1:
            raise ValueError("no")
        raise Reject("never")

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, Route(handler, retry=AT_ONCE)):
        await eventually(dead(broker), what="the dead letter")
    (letter,) = await letters(broker)
    assert attempts == [1, 2]
    assert (letter.reason, letter.failures, letter.last_error) == (
        "rejected",
        2,
        "streams.errors.Reject: never",
    )


async def test_events_find_the_handler_of_their_type(broker):
    got = defaultdict(list)

    def into(name: str):
        async def handler(event: Event) -> None:
            got[name].append(event.type)

        return handler

    router = Router(
        [Route(into("ab"), types=["a", "b"]), Route(into("c"), types=["c"])]
    )
    await Producer(broker, "s").publish_many(Event(kind, {}) for kind in "abcdabcd")
    async with consuming(broker, router):
        await eventually(dead(broker, 2), what="the unroutable ones")
        await eventually(gone(broker), what="the others")
    assert {name: "".join(kinds) for name, kinds in got.items()} == {
        "ab": "abab",
        "c": "cc",
    }
    for letter in await letters(broker):
        assert (letter.reason, letter.type, letter.attempts) == ("no-handler", "d", 0)
    async with consuming(
        broker, Router([Route(into("c"), types=["c"]), Route(into("rest"))])
    ):
        await DeadLetters(broker, "s", "g").replay(
            [letter.id for letter in await letters(broker)]
        )
        await eventually(
            lambda: got["rest"] == ["d", "d"], what="the handler of the rest"
        )


async def test_an_event_arrives_as_it_was_published(broker):
    got = []

    async def handler(event: Event) -> None:
        got.append(event)

    receipt = await Producer(broker, "s").publish(
        {"ä": [1]}, type="t", priority=7, key="k", tenant="x", subject="y"
    )
    async with consuming(broker, handler):
        await eventually(lambda: got, what="the event")
    (event,) = got
    assert (event.type, event.data, event.raw) == (
        "t",
        {"ä": [1]},
        '{"ä":[1]}'.encode(),
    )
    assert (event.id, event.entry_id, event.priority) == (
        receipt.event_id,
        receipt.entry_id,
        5,
    )
    assert (event.stream, event.group, event.attempt, event.replays) == ("s", "g", 1, 0)
    assert (event.key, event.tenant, event.subject) == ("k", "x", "y")


# --- what cannot be handled


UNREADABLE = {
    "no type": ([b"data", b"{}"], "malformed"),
    "no data": ([b"type", b"t"], "malformed"),
    "no JSON": ([b"type", b"t", b"data", b'{"a":'], "malformed"),
    "type not UTF-8": ([b"type", b"\xff", b"data", b"{}"], "malformed"),
    "id not UTF-8": ([b"type", b"t", b"id", b"\xfe", b"data", b"{}"], "malformed"),
    "data not UTF-8": ([b"type", b"t", b"data", b'"\xff"'], "malformed"),
    "too deep": ([b"type", b"t", b"data", b"[" * 100 + b"]" * 100], "malformed"),
    "too large": ([b"type", b"t", b"data", b'"' + b"x" * 2000 + b'"'], "too-large"),
    "meta no object": ([b"type", b"t", b"data", b"{}", b"meta", b"[]"], "malformed"),
    "meta too large": (
        [b"type", b"t", b"data", b"{}", b"meta", b'{"a":"' + b"x" * 2000 + b'"}'],
        "too-large",
    ),
    "bad meta": (
        [b"type", b"t", b"data", b"{}", b"meta", b'{"max_retries":-1}'],
        "malformed",
    ),
    "expired": ([b"type", b"t", b"data", b"{}", b"meta", b'{"expires":1}'], "expired"),
    "odd fields": (
        [
            b"data",
            b"{",
            b"x\x00\xff",
            b"",
            b"x\x00\xff",
            b"\r\n",
            b"",
            b"no name",
            b"type",
            b"t",
        ],
        "malformed",
    ),
}


async def test_what_cannot_be_read_dies_alone_and_byte_for_byte(broker):
    key = broker.keys("s").level(0)
    names = {}
    for n, (name, (fields, _)) in enumerate(UNREADABLE.items()):
        await broker.control.call("XADD", key, "*", "type", "t", "data", n)
        names[(await broker.control.call("XADD", key, "*", *fields)).decode()] = name
    done = []

    async def handler(event: Event) -> None:
        done.append(event.data)

    async with consuming(broker, handler, max_event_bytes=1000) as consumer:
        await eventually(gone(broker), what="all entries")
    assert consumer.stats.done == len(done)
    assert done == list(range(len(UNREADABLE)))
    found = {names[letter.entry_id]: letter for letter in await letters(broker)}
    assert set(found) == set(UNREADABLE)
    for name, (fields, reason) in UNREADABLE.items():
        letter = found[name]
        assert (letter.reason, letter.attempts, letter.level) == (reason, 0, 0), name
        assert letter.fields == list(zip(fields[::2], fields[1::2], strict=True)), name
        assert letter.errors[0]["kind"] == "refused"


# --- attempts and retries


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


# --- several groups


async def test_each_group_gets_every_event_and_the_last_one_deletes(broker):
    got = defaultdict(list)
    gate = asyncio.Event()

    async def first(event: Event) -> None:
        got["first"].append(event.data)

    async def second(event: Event) -> None:
        await gate.wait()
        got["second"].append(event.data)

    async with (
        consuming(broker, first, "first", **FANOUT),
        consuming(broker, second, "second", **FANOUT),
    ):
        await eventually(groups(broker, 2), what="both groups")
        await Producer(broker, "s").publish_many(range(20), type="t")
        await eventually(lambda: len(got["first"]) == 20, what="the first group")

        async def acknowledged() -> bool:
            return await pending(broker, group="first") == []

        await eventually(acknowledged, what="its acknowledgements")
        assert await length(broker) == 20
        gate.set()
        await eventually(gone(broker), what="the second group")
    assert sorted(got["first"]) == sorted(got["second"]) == list(range(20))


async def test_groups_have_retries_and_dead_letters_of_their_own(broker):
    seen = defaultdict(list)

    def failing(name: str, times: int):
        async def handler(event: Event) -> None:
            seen[name].append((event.attempt, event.replays))
            if len(seen[name]) <= times:
                raise ValueError(name)

        return Route(handler, retry=Retry(max_retries=2, delay=0.0))

    async with (
        consuming(broker, failing("a", 1), "a", **FANOUT),
        consuming(broker, failing("b", 3), "b", **FANOUT),
    ):
        await eventually(groups(broker, 2), what="both groups")
        receipt = await Producer(broker, "s").publish(1, type="t")
        await eventually(dead(broker, 1, "b"), what="the dead letter of b")
        await eventually(gone(broker), what="a's success")
        assert seen == {"a": [(1, 0), (2, 0)], "b": [(1, 0), (2, 0), (3, 0)]}
        assert await DeadLetters(broker, "s", "a").count() == 0
        (letter,) = await letters(broker, "b")
        assert (letter.event_id, letter.failures) == (receipt.event_id, 3)
        await DeadLetters(broker, "s", "b").replay([letter.id])
        await eventually(lambda: len(seen["b"]) == 4, what="the replay")
        await eventually(gone(broker), what="both to let go of the replayed entry")
    assert seen["a"] == [(1, 0), (2, 0)]
    assert seen["b"][3:] == [(1, 1)]


# --- stopping


async def test_stop_lets_running_handlers_finish_and_starts_nothing(broker):
    gate = asyncio.Event()
    started, ended = [], []

    async def handler(event: Event) -> None:
        started.append(event.data)
        await gate.wait()
        ended.append(event.data)

    await Producer(broker, "s").publish_many(range(10), type="t")
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(concurrency=2))
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: len(started) == 2, what="two starts")
    consumer.stop(grace=30)
    gate.set()
    await asyncio.wait_for(task, 5)
    assert started == ended == [0, 1]
    assert consumer.stats.done == 2
    assert await length(broker) == 8
    assert await held(broker, consumer.name) == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_what_does_not_finish_is_given_back_free_of_charge(broker, twice):
    started = []

    async def handler(event: Event) -> None:
        started.append(event.data)
        await asyncio.sleep(60)

    await Producer(broker, "s").publish_many(range(3), type="t")
    consumer = Consumer(
        broker,
        "s",
        "g",
        Route(handler, retry=Retry(max_retries=0)),
        ConsumerOptions(concurrency=2),
    )
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: len(started) == 2, what="two starts")
    consumer.stop(grace=60 if twice else 0.05)
    if twice:
        consumer.stop()
    await asyncio.wait_for(task, 5)
    assert consumer.stats.released == 2
    assert [(owner, count) for _, owner, _, count in await pending(broker)] == [
        (PARKED, 1)
    ] * 2
    again = []

    async def second(event: Event) -> None:
        again.append((event.data, event.attempt))

    async with consuming(broker, second):
        await eventually(gone(broker), what="the next worker")
    assert sorted(again) == [(0, 1), (1, 1), (2, 1)]


async def test_a_stop_names_what_it_gives_back_and_since_when_that_ran(broker, caplog):
    started = []

    async def handler(event: Event) -> None:
        started.append(event.id)
        await asyncio.sleep(60)

    await Producer(broker, "s").publish_many(range(23), type="t")
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(concurrency=30))
    task = asyncio.create_task(consumer.run())
    await eventually(lambda: len(started) == 23, what="the starts")
    caplog.set_level(logging.INFO, "streams")
    began = time.monotonic()
    await eventually(lambda: time.monotonic() - began > 0.3)
    consumer.stop(grace=0.0)
    await asyncio.wait_for(task, 5)
    *named, rest = [record for record in caplog.records if "given back" in record.msg]
    assert [record.event_id for record in named] == started[:20]
    assert {
        (record.event_type, record.where, record.levelname) for record in named
    } == {("t", "s/g", "WARNING")}
    assert all(record.handler.startswith("test_consumer.py:") for record in named)
    assert all(record.handler.endswith(" in handler") for record in named)
    assert all(0.1 <= record.seconds < 5 for record in named)
    assert rest.count == 3
    assert consumer.stats.released == 23


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_exit(
    broker,
):
    release = asyncio.Event()
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    await Producer(broker, "s").publish(1, type="t")
    consumer = Consumer(broker, "s", "g", handler, ConsumerOptions(cancel_grace=0.05))
    task = asyncio.create_task(consumer.run())
    await started.wait()
    consumer.stop(grace=0.0)
    await asyncio.wait_for(task, 5)
    assert consumer.stats.abandoned == len(consumer.abandoned) == 1
    assert [(owner, count) for _, owner, _, count in await pending(broker)] == [
        (PARKED, 1)
    ]
    (left,) = consumer.abandoned
    release.set()
    await left
    assert len(await pending(broker)) == 1  # Its late return acknowledges nothing.


@pytest.mark.one_server
async def test_stop_while_idle_ends_soon(broker, real_polls):
    async def handler(event: Event) -> None:
        pass

    consumer = Consumer(broker, "s", "g", handler)
    task = asyncio.create_task(consumer.run())
    await eventually(idle(broker), what="the consumer to wait")
    before = time.monotonic()
    consumer.stop()
    await asyncio.wait_for(task, 5)
    assert time.monotonic() - before < 1.5


# --- leases


async def test_entries_of_a_lost_read_are_handed_back(broker, caplog):
    """The server gave entries to this consumer and the consumer never heard of it."""
    gate = asyncio.Event()
    seen = []

    async def handler(event: Event) -> None:
        seen.append((event.data, event.attempt))
        if event.data == 0:
            await gate.wait()

    producer = Producer(broker, "s")
    await producer.publish(0, type="t")
    route = Route(handler, retry=Retry(max_retries=0))
    with caplog.at_level(logging.WARNING, "streams.consumer"):
        async with consuming(broker, route, lease=0.3, concurrency=1, name="me"):
            await eventually(lambda: seen, what="the first one")
            await producer.publish_many([1, 2, 3], type="t")
            read = (
                "XREADGROUP",
                "GROUP",
                "g",
                "me",
                "STREAMS",
                broker.keys("s").level(0),
                ">",
            )
            assert len((await broker.control.call(*read))[0][1]) == 3
            await asyncio.sleep(0.15)  # Half a lease: the time between two looks.
            gate.set()
            await eventually(gone(broker), what="all done")
    assert sorted(seen) == [(n, 1) for n in range(4)]
    assert [(r.streams_message, r.count) for r in caplog.records] == [
        ("entries of a lost read handed back", 3)
    ]
    assert await DeadLetters(broker, "s", "g").count() == 0


async def test_leases_are_renewed_for_as_long_as_a_handler_runs(server, broker):
    """Three times longer than a lease, half of that with the event loop blocked: nobody takes the entry over."""
    lease = 0.6
    key = broker.keys("s").level(0)
    samples = []

    def sample(seconds: float) -> None:
        give_up = time.monotonic() + seconds
        with server.client() as client:
            while time.monotonic() < give_up:
                samples.extend(client.xpending_range(key, "g", "-", "+", 10))
                time.sleep(0.01)

    async def handler(event: Event) -> None:
        sample(lease * 1.5)
        await asyncio.to_thread(sample, lease * 1.5)

    receipt = await Producer(broker, "s").publish(1, type="t")
    reclaimer = Reclaimer(
        broker, "s", "g", options=ReclaimerOptions(lease=lease, interval=0.05)
    )
    sweeping = asyncio.create_task(reclaimer.run())
    async with consuming(broker, handler, lease=lease, name="me") as consumer:
        await eventually(gone(broker), what="the handler")
    reclaimer.stop()
    await sweeping
    assert len(samples) > 10
    assert {
        (s["message_id"].decode(), s["consumer"], s["times_delivered"]) for s in samples
    } == {(receipt.entry_id, b"me", 1)}
    assert (
        lease / 4 * 1000
        < max(s["time_since_delivered"] for s in samples)
        < lease * 1000
    )
    assert (reclaimer.stalled, consumer.stats.lost, consumer.stats.done) == (0, 0, 1)


async def test_cancelled_again_and_again_it_leaves_nobody_who_holds_its_entries(broker):
    """A thread that went on renewing would keep what the consumer held from everybody, for as long as the process."""
    before = set(threading.enumerate())
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    await Producer(broker, "s").publish(1, type="t")
    running = asyncio.create_task(
        Consumer(broker, "s", "g", handler, ConsumerOptions(lease=0.6)).run()
    )
    await started.wait()
    while not running.done():
        running.cancel()
        await asyncio.sleep(0)
    mine = [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name == "streams-leases"
    ]
    await eventually(
        lambda: not any(thread.is_alive() for thread in mine), what="the thread to end"
    )


async def test_stops_in_order_leave_no_consumer_behind(broker):
    """Each start has a name of its own, and each name would stay in the group for good."""
    seen = set()

    async def names() -> set[str]:
        rows = await broker.control.call(
            "XINFO", "CONSUMERS", broker.keys("s").level(0), "g"
        )
        return {row[1].decode() for row in rows}

    async def handler(event: Event) -> None:
        seen.update(await names())

    for n in range(20):
        await Producer(broker, "s").publish(n, type="t")
        consumer = Consumer(
            broker, "s", "g", handler, ConsumerOptions(name=f"worker-{n}")
        )
        running = asyncio.create_task(consumer.run())
        await eventually(
            lambda consumer=consumer: consumer.stats.done == 1,
            what="the event to be handled",
        )
        consumer.stop()
        await running
    assert {f"worker-{n}" for n in range(20)} <= seen
    assert not {name for name in await names() if name.startswith("worker-")}


async def test_a_lost_lease_cancels_the_handler_and_writes_nothing(broker):
    cancelled = []
    started = asyncio.Event()

    async def handler(event: Event) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(event.data)
            raise

    await Producer(broker, "s").publish(1, type="t")
    async with consuming(broker, handler, lease=0.3) as consumer:
        await started.wait()
        ((entry_id, *_),) = await pending(broker)
        await broker.control.call(
            "XCLAIM", broker.keys("s").level(0), "g", "thief", 0, entry_id
        )
        await eventually(lambda: cancelled, what="the cancellation")
        await eventually(lambda: consumer.busy == 0, what="its end")
    assert consumer.stats.lost == 1
    assert [(owner, count) for _, owner, _, count in await pending(broker)] == [
        ("thief", 2)
    ]
    assert (
        await broker.control.call(
            "EXISTS", broker.keys("s").attempts("g"), broker.keys("s").retry("g")
        )
        == 0
    )
