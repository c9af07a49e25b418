"""How late things are on an otherwise idle system, and what idleness costs. Bounds, not benchmarks.

One server kind: what is timed is this side. Only that a scheduled event moves once is tried on each.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from streams import Broker, Event, Producer, Retry, Scheduler
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.proxy import Proxy
from tests.process.worker_app import LEVELS, STREAM
from tests.servers import BINARIES, Server
from tests.stalls import Stalled

DELAY = 0.3
LATE = 0.6
RETRY = Retry(max_retries=3, delay=DELAY, backoff="fixed", jitter=0.0)


@pytest.fixture
def quiet_server(make_server: Callable[..., Server]) -> Server:
    return make_server(BINARIES[0])


@pytest.fixture
async def idle(quiet_server: Server) -> AsyncIterator[tuple[Broker, Live]]:
    """A worker with nothing to do."""
    async with (
        Broker(quiet_server.url) as broker,
        Live(broker, lease=30.0, retry=RETRY) as live,
    ):
        await Producer(broker, STREAM).publish({}, type="job")
        await eventually(lambda: live.done)
        yield broker, live


async def test_a_retry_starts_soon_after_its_time(
    idle: tuple[Broker, Live], machine: Stalled
) -> None:
    broker, live = idle
    producer = Producer(broker, STREAM)
    late = []
    for n in range(6):
        receipt = await producer.publish(
            {"fails": 1}, type="job", priority=LEVELS[n % 4]
        )
        await eventually(lambda r=receipt: live.done[r.event_id])
        first, second = live.times[receipt.event_id]
        late.append(second - first - DELAY)
        await asyncio.sleep(0.07)
    assert min(late) > -0.01, "too early"
    assert max(late) < LATE + machine()
    assert statistics.median(late) < 0.3 + machine() / 2, (
        "its own worker knows the time and need not look around"
    )


async def test_a_retry_set_by_another_worker_starts_soon_after_its_time(
    quiet_server: Server, machine: Stalled
) -> None:
    """Of two idle workers one fails the event and stops; the other knows nothing of the due time."""
    late = []
    async with Broker(quiet_server.url) as first, Broker(quiet_server.url) as second:
        producer = Producer(first, STREAM)
        for _ in range(4):
            async with (
                Live(first, lease=30.0, retry=RETRY) as one,
                Live(second, lease=30.0, retry=RETRY) as two,
            ):
                with quiet_server.client() as client:
                    await eventually(
                        lambda c=client: c.info("clients")["blocked_clients"] == 2,
                        what="idle workers",
                    )
                event = (await producer.publish({"fails": 1}, type="job")).event_id
                await eventually(
                    lambda o=one, t=two: (
                        o.consumer.stats.retried + t.consumer.stats.retried == 1
                    )
                )
                failing, other = (one, two) if one.times[event] else (two, one)
                failing.consumer.stop()
                await eventually(lambda o=other, e=event: o.times[e])
                late.append(other.times[event][0] - failing.times[event][0] - DELAY)
    assert min(late) > -0.01, "too early"
    assert max(late) < LATE + machine()


async def test_an_event_reaches_an_idle_worker_at_once(
    idle: tuple[Broker, Live], machine: Stalled
) -> None:
    broker, live = idle
    producer = Producer(broker, STREAM)
    took = []
    for n in range(15):
        # Not in step with anything that the worker may do at intervals.
        await asyncio.sleep(0.05 + 0.037 * (n % 7))
        began = time.monotonic()
        receipt = await producer.publish({}, type="job", priority=LEVELS[n % 4])
        await eventually(lambda r=receipt: live.times[r.event_id])
        took.append(live.times[receipt.event_id][0] - began)
    assert max(took) < 0.25 + machine()
    assert statistics.median(took) < 0.03, "it polls"


async def test_an_idle_worker_sends_few_commands(quiet_server: Server) -> None:
    """One stream, one group; consumer, reclaimer and scheduler together."""
    async with (
        Proxy(quiet_server) as proxy,
        Broker(proxy.url) as broker,
        Live(broker, lease=30.0) as live,
    ):
        await Producer(broker, STREAM).publish({"fails": 1}, type="job")
        await eventually(lambda: live.done)
        await asyncio.sleep(0.5)
        began, before = time.monotonic(), len(proxy.commands)
        await asyncio.sleep(6.0)
        rate = (len(proxy.commands) - before) / (time.monotonic() - began)
    names = Counter(bytes(words[0]) for _, words in proxy.commands[before:])
    assert 1 < rate <= 6.0, names


@pytest.mark.parametrize(("others_wait", "bound"), [(False, 1.15), (True, LATE)])
async def test_a_delayed_event_starts_soon_after_its_time(
    idle: tuple[Broker, Live], machine: Stalled, others_wait: bool, bound: float
) -> None:
    """The schedule is looked at once a second while it is empty, twice a second else, and at each due time known."""
    broker, live = idle
    producer = Producer(broker, STREAM)
    if others_wait:
        await producer.publish({}, type="job", delay=3600.0)
        await asyncio.sleep(1.1)
    late = []
    for n in range(4):
        delay = 0.1 + 0.2 * n
        began = time.monotonic()
        receipt = await producer.publish({}, type="job", delay=delay)
        await eventually(lambda r=receipt: live.times[r.event_id])
        late.append(live.times[receipt.event_id][0] - began - delay)
    assert min(late) > -0.01, "too early"
    assert max(late) < bound + machine()


async def test_three_schedulers_move_each_event_once(
    make_server: Callable[..., Server], binary: str
) -> None:
    server = make_server(binary)
    async with contextlib.AsyncExitStack() as stack:
        brokers = [
            await stack.enter_async_context(Broker(server.url)) for _ in range(3)
        ]
        schedulers = [Scheduler(broker, STREAM) for broker in brokers]
        running = [asyncio.create_task(scheduler.run()) for scheduler in schedulers]
        events = [
            Event(
                "job",
                {},
                id=f"s{n}",
                priority=LEVELS[n % 4],
                delay=0.05 + (n * 37 % 100) / 100,
            )
            for n in range(1500)
        ]
        await Producer(brokers[0], STREAM).publish_many(events)
        keys = brokers[0].keys(STREAM)
        with server.client() as client:
            await eventually(lambda: client.zcard(keys.scheduled()) == 0)
            moved = Counter(
                f[b"id"].decode()
                for n in LEVELS
                for _, f in client.xrange(keys.level(n))
            )
            assert client.hlen(keys.scheduled_fields()) == 0
        assert moved == Counter(event.id for event in events)
        await eventually(
            lambda: sum(scheduler.promoted for scheduler in schedulers) == len(events)
        )
        assert sum(scheduler.promoted > 0 for scheduler in schedulers) >= 2, (
            "one did it all: the test shows nothing"
        )
        for scheduler in schedulers:
            scheduler.stop()
        await asyncio.gather(*running)
