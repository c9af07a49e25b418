"""The consumer on a real server: what it starts, when, and how an event arrives."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from streams import Broker, DeadLetters, Event, Producer, Reject, Retry
from streams.handlers.routes import Route, Router
from streams.policy.declaration import Declaration
from tests.conftest import eventually
from tests.server.consuming import (
    AT_ONCE,
    LEVELS,
    UNREADABLE,
    consuming,
    dead,
    gone,
    held,
    idle,
    length,
    letters,
    pending,
)
from tests.server.consuming import _short_polls as _short_polls
from tests.server.consuming import real_polls as real_polls

FANOUT = {"declaration": Declaration("fanout")}


def groups(broker: Broker, n: int) -> Callable:
    """That so many groups exist, on the level where they are created last."""

    async def created() -> bool:
        key = broker.keys("s").level(0)
        return (
            await broker.control.call("EXISTS", key)
            and len(await broker.control.call("XINFO", "GROUPS", key)) == n
        )

    return created


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
