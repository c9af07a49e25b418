"""Several groups on one stream, on a real server: what is declared, what is kept for whom, and when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable

import orjson
import pytest

from streams import (
    Broker,
    ConfigurationError,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Levels,
    Producer,
    Retry,
)
from streams.broker.entries.declare import Declared, Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import DONE, LOST, Buried, Postponed, Settling
from streams.errors import GroupMissing
from streams.handlers.routes import Route
from streams.policy.declaration import Declaration
from tests.conftest import eventually

LEVELS = Levels((0, 5))
FANOUT = Declaration("fanout")


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)


async def declare(
    broker: Broker,
    group: str,
    declaration: Declaration | None = None,
    levels: Levels = LEVELS,
) -> Declared:
    return await Declaring(
        broker.keys("s"), levels, group, declaration or Declaration()
    ).declare(broker.control)


async def publish(broker: Broker, *data: object, priority: int = 0) -> list[str]:
    producer = Producer(broker, "s")
    return [
        receipt.entry_id
        for receipt in await producer.publish_many(data, type="t", priority=priority)
    ]


async def take(broker: Broker, group: str, most: int = 100) -> list[Delivery]:
    return await Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, group, f"c-{group}")
    ).take(most)


def settling(broker: Broker, group: str) -> Settling:
    return Settling(
        GroupConsumer(broker, broker.keys("s"), LEVELS, group, f"c-{group}")
    )


async def ack(broker: Broker, group: str, *deliveries: Delivery) -> None:
    assert (await settling(broker, group).settle(deliveries)).ack_shortfall == 0


async def stored(broker: Broker, level: int = 0) -> list[str]:
    rows = await broker.control.call("XRANGE", broker.keys("s").level(level), "-", "+")
    return [entry_id.decode() for entry_id, _ in rows]


async def config(broker: Broker) -> dict[str, object]:
    rows = await broker.control.call("HGETALL", broker.keys("s").config())
    found = dict(
        zip(
            (n.decode() for n in rows[::2]),
            (v.decode() for v in rows[1::2]),
            strict=True,
        )
    )
    return {
        name: value if name == "retention" else orjson.loads(value)
        for name, value in found.items()
    }


@contextlib.asynccontextmanager
async def consuming(
    broker: Broker, group: str, handler, **options
) -> AsyncIterator[Consumer]:
    options = {"levels": LEVELS, "declaration": FANOUT} | options
    consumer = Consumer(broker, "s", group, handler, ConsumerOptions(**options))
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def empty(broker: Broker) -> Callable:
    async def nothing() -> bool:
        return not await stored(broker) and not await stored(broker, 5)

    return nothing


# --- what is declared


async def test_a_new_stream_is_work_and_says_so(broker):
    assert await declare(broker, "a") == ([5, 0], [])
    found = await config(broker)
    assert found.keys() == {"retention", "group:a"}
    assert (found["retention"], found["group:a"]["start"]) == ("work", "oldest")
    assert found["group:a"]["since"] > 1_600_000_000
    assert await declare(broker, "a") == ([], [])
    assert await config(broker) == found


async def test_a_second_group_on_a_work_stream_is_refused_with_the_way_out(broker):
    await declare(broker, "a")
    before = await config(broker)
    with pytest.raises(
        ConfigurationError,
        match=r"'b' cannot join.*retention='fanout'.*streams groups drop s a",
    ):
        await declare(broker, "b")
    with pytest.raises(ConfigurationError, match="'c' cannot join"):
        await declare(broker, "a", Declaration(groups=("c",)))
    assert await config(broker) == before
    assert (
        len(await broker.control.call("XINFO", "GROUPS", broker.keys("s").level(0)))
        == 1
    )


async def test_a_consumer_of_a_second_group_ends_with_that_sentence(broker):
    await declare(broker, "a")
    consumer = Consumer(
        broker, "s", "b", lambda event: None, ConsumerOptions(levels=LEVELS)
    )
    with pytest.raises(ConfigurationError, match="cannot join"):
        await asyncio.wait_for(consumer.run(), 10)


async def test_fanout_upgrades_a_work_stream_and_nothing_leads_back(broker):
    await declare(broker, "a")
    await publish(broker, 1)
    await declare(broker, "b", FANOUT)
    assert (await config(broker))["retention"] == "fanout"
    for group in "ab":
        assert [d.entry_id for d in await take(broker, group)] == await stored(broker)
    with pytest.raises(ConfigurationError, match="cannot become 'work' again"):
        await declare(broker, "a", Declaration("work"))
    await declare(broker, "c")  # As the stream is.
    assert (await config(broker)).keys() == {
        "retention",
        "group:a",
        "group:b",
        "group:c",
    }


async def test_a_stream_of_before_is_taken_for_what_it_is(broker):
    key = broker.keys("s").level(0)
    await broker.control.call("XGROUP", "CREATE", key, "a", "0", "MKSTREAM")
    await declare(broker, "a")
    assert (await config(broker))["retention"] == "work"
    await broker.control.batch(
        [("DEL", broker.keys("s").config()), ("XGROUP", "CREATE", key, "b", "0")]
    )
    assert await declare(broker, "a") == ([], [])
    found = await config(broker)
    assert (found["retention"], found.keys()) == (
        "fanout",
        {"retention", "group:a", "group:b"},
    )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"retention": "keep"}, "retention is 'work'"),
        ({"start": "now"}, "start is 'oldest'"),
        ({"groups": "audit"}, r"groups=\['audit'\]"),
        ({"groups": ("a b",)}, "group 'a b'"),
        ({"retention": "work", "groups": ("a", "b")}, "has one group"),
    ],
)
def test_what_cannot_be_declared_is_refused(wrong, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        Declaration(**wrong)


async def test_a_group_starts_at_the_end_only_when_it_is_declared_first(broker, caplog):
    await declare(broker, "a", FANOUT)
    old = await publish(broker, 1, 2)
    await declare(broker, "b", Declaration("fanout", start="new"))
    assert (await config(broker))["group:b"]["start"] == "new"
    assert await take(broker, "b") == []
    new = await publish(broker, 3)
    assert [d.entry_id for d in await take(broker, "b")] == new
    for level in LEVELS.ascending:
        await broker.control.call(
            "XGROUP", "DESTROY", broker.keys("s").level(level), "b"
        )
    seen = []

    async def handler(event: Event) -> None:
        seen.append(event.entry_id)

    with caplog.at_level(logging.WARNING, "streams.consumer"):
        async with consuming(
            broker, "b", handler, declaration=Declaration("fanout", start="new")
        ):
            await eventually(lambda: len(seen) == 3, what="everything stored")
    assert seen == [*old, *new]
    assert "the group was gone and is created again" in caplog.text


async def test_without_memory_what_is_declared_works_and_what_is_new_waits(
    make_server, binary
):
    server = make_server(binary)
    async with Broker(server.url) as broker:
        await declare(broker, "a", FANOUT)
        with server.client() as client:
            client.config_set("maxmemory", 1)
            assert await declare(broker, "a", FANOUT) == ([], [])
            assert await declare(broker, "b", FANOUT) == ([], [])
            client.config_set("maxmemory", 0)
        assert (await config(broker)).keys() == {"retention", "group:a"}
        assert await declare(broker, "b", FANOUT) == ([5, 0], [])


# --- what is kept


async def test_an_entry_waits_for_a_declared_group_whose_consumers_have_not_started(
    broker,
):
    await declare(broker, "a", Declaration("fanout", groups=("b",)))
    ids = await publish(broker, *range(3))
    await ack(broker, "a", *await take(broker, "a"))
    assert await stored(broker) == ids
    await ack(broker, "b", *await take(broker, "b"))
    assert await stored(broker) == []


@pytest.mark.parametrize("end", ["ack", "bury"])
async def test_an_entry_waits_for_a_declared_group_that_is_gone(broker, end):
    """Somebody destroyed it by hand: it comes back and finds what it had not handled."""
    await declare(broker, "a", Declaration("fanout", groups=("b",)))
    ids = await publish(broker, *range(3))
    for level in LEVELS.ascending:
        await broker.control.call(
            "XGROUP", "DESTROY", broker.keys("s").level(level), "b"
        )
    taken = await take(broker, "a")
    if end == "ack":
        await ack(broker, "a", *taken)
    else:
        await settling(broker, "a").settle(
            (), (), [Buried(d, "rejected", b"{}") for d in taken]
        )
    assert await stored(broker) == ids
    assert (await declare(broker, "b", FANOUT)).lost == ["b"]
    await ack(broker, "b", *await take(broker, "b"))
    assert await stored(broker) == []


async def test_who_lost_an_entry_does_not_bring_it_back_while_another_group_is_gone(
    broker,
):
    await declare(broker, "a", Declaration("fanout", groups=("b",)))
    await publish(broker, 1)
    await broker.control.call("XGROUP", "DESTROY", broker.keys("s").level(0), "b")
    (delivery,) = await take(broker, "a")
    await ack(broker, "a", delivery)
    mine = settling(broker, "a")
    assert await mine.renew([delivery]) == [delivery]
    assert (await mine.settle((), [Postponed(delivery, 0)])).statuses == {
        delivery.place: LOST
    }
    assert (await mine.settle((), (), [Buried(delivery, "x", b"{}")])).statuses == {
        delivery.place: LOST
    }


async def test_every_group_has_retries_attempts_and_dead_letters_of_its_own(broker):
    """Each of three groups fails differently on the same events; a replay goes to its group alone."""
    seen: dict[str, Counter[int]] = defaultdict(Counter)
    replayed: dict[str, list[int]] = defaultdict(list)

    def failing(group: str, times: int):
        async def handler(event: Event) -> None:
            seen[group][event.data] += 1
            assert event.attempt == (1 if event.replays else seen[group][event.data])
            if event.replays:
                replayed[group].append(event.data)
            elif event.data % 3 == 0 and event.attempt <= times:
                raise ValueError(group)

        return Route(handler, retry=Retry(max_retries=2, delay=0.0))

    groups = {"never": 0, "once": 1, "always": 9}
    async with contextlib.AsyncExitStack() as stack:
        for group, times in groups.items():
            declaration = Declaration("fanout", groups=tuple(groups))
            await stack.enter_async_context(
                consuming(broker, group, failing(group, times), declaration=declaration)
            )
        await eventually(
            lambda: broker.control.call("EXISTS", broker.keys("s").config()),
            what="the declaration",
        )
        await publish(broker, *range(6))
        await publish(broker, *range(6, 12), priority=5)
        await eventually(empty(broker), what="every group")
        letters = {group: DeadLetters(broker, "s", group) for group in groups}
        assert {group: await found.count() for group, found in letters.items()} == {
            "never": 0,
            "once": 0,
            "always": 4,
        }
        assert seen["never"] == Counter(range(12))
        assert seen["once"] == Counter(range(12)) + Counter(range(0, 12, 3))
        assert seen["always"] == Counter(range(12)) + Counter(2 * list(range(0, 12, 3)))
        await letters["always"].replay(
            [letter.id for letter in await letters["always"].page()]
        )
        await eventually(lambda: len(replayed["always"]) == 4, what="the replays")
        await eventually(empty(broker), what="all to let go of the replayed ones")
    assert sorted(replayed["always"]) == [0, 3, 6, 9]
    assert replayed.keys() == {"always"}
    for group in groups:
        assert (
            await broker.control.call(
                "EXISTS",
                broker.keys("s").attempts(group),
                broker.keys("s").retry(group),
            )
            == 0
        )


@pytest.mark.parametrize("start", ["oldest", "new"])
async def test_a_late_group_misses_nothing_while_events_are_published(broker, start):
    """At the end: from one event on all of them, per level. At the beginning: all that is stored."""
    got: dict[int, list[int]] = defaultdict(list)
    begun, joined = asyncio.Event(), asyncio.Event()
    producer = Producer(broker, "s")

    async def publish_all() -> int:
        """How many: it goes on until the late group has some of them, however late that is."""
        n = 0
        while n < 300 or n % 2 or not joined.is_set():
            await producer.publish(n, type="t", priority=5 * (n % 2))
            n += 1
            if n == 100:
                begun.set()
        return n

    async def handler(event: Event) -> None:
        got[event.priority].append(event.data)

    await declare(broker, "a", FANOUT)
    publishing = asyncio.create_task(publish_all())
    await begun.wait()
    async with consuming(
        broker,
        "b",
        handler,
        declaration=Declaration("fanout", start=start),
        concurrency=1,
    ):
        await eventually(lambda: got, what="the first ones")
        joined.set()
        count = await publishing
        await eventually(
            lambda: got[0][-1:] == [count - 2] and got[5][-1:] == [count - 1],
            what="the last ones",
        )
    for level, numbers in got.items():
        assert numbers == list(range(numbers[0], count, 2))
        assert (numbers[0] == level // 5) if start == "oldest" else (numbers[0] > 90)


async def test_a_dropped_group_is_not_brought_back_by_its_running_consumer(broker):
    """Else it would be handed everything a second time."""
    declaring = Declaring(
        broker.keys("s"), LEVELS, "a", Declaration("fanout", groups=("b",))
    )
    await declaring.declare(broker.control)
    await broker.control.call("HDEL", broker.keys("s").config(), "group:a")
    with pytest.raises(GroupMissing, match="dropped by an operator"):
        await declaring.declare(broker.control)


async def test_levels_that_are_not_served_keep_their_events_and_their_retries_hide_nothing(
    broker,
):
    seen = []

    async def handler(event: Event) -> None:
        seen.append((event.priority, event.data))

    await declare(broker, "a")
    await publish(broker, *range(60))
    await publish(broker, "high", priority=5)
    everything = settling(broker, "a")
    taken = await take(broker, "a")
    outcome = await everything.settle(
        (), [Postponed(delivery, 0) for delivery in reversed(taken)]
    )
    assert set(outcome.statuses.values()) == {DONE}
    await publish(broker, "new", priority=5)
    await publish(broker, "low")
    async with consuming(
        broker,
        "a",
        handler,
        declaration=Declaration(),
        serve=Levels([5]),
        concurrency=1,
    ):
        await eventually(lambda: len(seen) == 2, what="what is on level 5")
    assert sorted(seen) == [(5, "high"), (5, "new")]
    assert len(await stored(broker)) == 61
    with pytest.raises(ConfigurationError, match="some of the streams' levels"):
        ConsumerOptions(levels=LEVELS, serve=Levels([7]))
