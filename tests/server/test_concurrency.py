"""Limits on how many run at once: slots, who waits for one, and how one comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict

import pytest

from streams import Cancellations, Event, Levels, Limit, Producer, Snooze
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.events.names import member
from streams.policy.admission import Kind
from tests.conftest import eventually
from tests.server.asking import Hands
from tests.server.limiting import consuming, no_slots, parked


class Running:
    """A handler that takes ``seconds``, and how many of a key ran at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: defaultdict[str, list[int]] = defaultdict(list)

    async def __call__(self, event: Event) -> None:
        self.now[event.tenant] += 1
        self.most[event.tenant] = max(self.most[event.tenant], self.now[event.tenant])
        self.order[event.tenant].append(event.data)
        await asyncio.sleep(self.seconds)
        self.now[event.tenant] -= 1

    @property
    def done(self) -> int:
        return sum(map(len, self.order.values())) - self.now.total()


@pytest.mark.parametrize(
    ("most", "count", "consumers"), [(1, 40, 1), (1, 40, 3), (3, 90, 2)]
)
async def test_no_more_of_a_key_at_once_over_all_consumers(
    broker, most, count, consumers
):
    handler = Running(0.01)
    await Producer(broker, "s").publish_many(
        Event("t", n, tenant=t) for n in range(count) for t in ("a", "b")
    )
    began = time.monotonic()
    async with consuming(
        broker, handler.__call__, Limit("tenant", concurrency=most), count=consumers
    ) as running:
        await eventually(lambda: handler.done == 2 * count, what="all", seconds=20)
        took = time.monotonic() - began
        await eventually(lambda: no_slots(broker), what="the slots to be gone")
        assert (
            sum(consumer.stats.retried + consumer.stats.dead for consumer in running)
            == 0
        )
    assert handler.most == Counter(a=most, b=most)
    assert took < 10, (
        "a slot that is given back is taken at once, not when somebody looks"
    )
    if consumers == 1 and most == 1:
        assert handler.order["a"] == list(range(count))


async def test_who_waits_for_a_slot_holds_up_nobody_and_is_not_asked_again_and_again(
    server, broker
):
    gate = asyncio.Event()
    seen: list[str] = []

    async def handler(event: Event) -> None:
        seen.append(event.tenant)
        if event.tenant == "slow":
            await gate.wait()

    producer = Producer(broker, "s")
    await producer.publish_many(Event("t", n, tenant="slow") for n in range(300))
    async with consuming(
        broker, handler, Limit("tenant", concurrency=2), concurrency=10
    ) as consumers:
        await eventually(lambda: parked(broker, 298), what="the others to wait")
        assert consumers[0].busy == 2
        await producer.publish_many(Event("t", n, tenant=f"t{n}") for n in range(20))
        await eventually(lambda: len(seen) == 22, what="other tenants")
        limited = consumers[0].stats.limited
        await asyncio.sleep(1.2)
        assert consumers[0].stats.limited == limited, (
            "nobody looks before somebody gives back a slot"
        )
        gate.set()
        await eventually(lambda: len(seen) == 320, what="all")
        await eventually(lambda: no_slots(broker), what="the slots to be gone")


async def test_a_failure_gives_its_slot_back_while_it_waits_for_its_retry(broker):
    seen: list[int] = []

    async def handler(event: Event) -> None:
        seen.append(event.data)
        if event.data == 0 and seen.count(0) == 1:
            raise RuntimeError

    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a", retry_delay=1.0) for n in range(4)
    )
    async with consuming(broker, handler, Limit("tenant", concurrency=1)):
        await eventually(lambda: sorted(seen) == [0, 0, 1, 2, 3], what="all")
        await eventually(lambda: no_slots(broker), what="the slots to be gone")
    assert seen[:2] == [0, 1]


async def test_slots_of_a_consumer_that_is_gone_come_back_with_its_lease(broker):
    """It took them and was heard of no more: the first in the queue finds out, and the others follow."""
    keys, limit = broker.keys("s"), Limit("tenant", concurrency=2)
    await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a") for n in range(6)
    )
    await broker.control.call("XGROUP", "CREATE", keys.level(0), "g", "0")
    rows = await broker.control.call(
        "XREADGROUP", "GROUP", "g", "dead", "COUNT", 2, "STREAMS", keys.level(0), ">"
    )
    places = [(0, entry_id.decode()) for entry_id, _ in rows[0][1]]
    await Fetching(
        GroupConsumer(broker, keys, Levels(), "g", "dead", lease=1.0)
    ).announce()
    dead = Admitting(GroupConsumer(broker, keys, Levels(), "g", "dead", lease=1.0))
    asks = [Ask(Delivery(*place, []), [(limit, "a")]) for place in places]
    assert [answer.kind for answer in await dead.admit(asks)] == [Kind.START] * 2
    handler = Running(0.0)
    async with consuming(broker, handler.__call__, limit, lease=1.0):
        await eventually(lambda: parked(broker, 4), what="four to wait")
        assert handler.done == 0
        await eventually(lambda: handler.done == 4, what="them to start")


async def test_a_rate_and_a_concurrency_together(broker):
    handler = Running(0.03)
    limits = (
        Limit("tenant", rate="100/s", burst=3, concurrency=2),
        Limit("instance", concurrency=3),
    )
    await Producer(broker, "s").publish_many(
        Event("t", n, tenant=t, instance="i")
        for n in range(20)
        for t in ("a", "b", "c")
    )
    async with consuming(broker, handler.__call__, *limits, count=2):
        await eventually(lambda: handler.done == 60, what="all", seconds=20)
        await eventually(lambda: no_slots(broker), what="the slots to be gone")
    assert max(handler.most.values()) <= 2


async def test_cancelled_while_waiting_for_a_slot(broker):
    gate = asyncio.Event()

    async def handler(event: Event) -> None:
        await gate.wait()

    receipts = await Producer(broker, "s").publish_many(
        Event("t", n, tenant="a") for n in range(3)
    )
    async with consuming(broker, handler, Limit("tenant", concurrency=1)) as consumers:
        await eventually(lambda: parked(broker, 2), what="two to wait")
        await Cancellations(broker, "s").cancel(receipts[1].event_id)
        gate.set()
        await eventually(lambda: consumers[0].stats.done == 2, what="the other two")
        await eventually(lambda: no_slots(broker), what="the slots to be gone")


async def test_nobody_goes_before_those_in_the_queue(broker):
    """Even where a slot is free that nobody has handed on yet, as after the loss of its holder."""
    hands, slot = Hands(broker), (Limit("tenant", concurrency=1), "a")
    first, second, third = await hands.take_plain(3)
    assert [answer.kind for answer in await hands.ask([first, second], slot)] == [
        Kind.START,
        Kind.SLOT,
    ]
    await broker.control.call(
        "ZREM", broker.keys("s").busy_prefix("g") + "tenant=a", member(*first.place)
    )
    assert [answer.kind for answer in await hands.ask([third], slot)] == [Kind.SLOT]
    assert [
        answer.kind for answer in await hands.ask(await hands.hasten(second), slot)
    ] == [Kind.START]


async def test_what_is_being_taken_over_is_not_taken_for_a_lost_read(broker):
    """Claimed on the server, not yet known here: handed back now, it would run twice."""
    runs: list[int] = []
    keys, claimed, go_on = broker.keys("s"), asyncio.Event(), asyncio.Event()

    async def handler(event: Event) -> None:
        runs.append(event.attempt)
        if len(runs) == 1:
            raise Snooze(1000.0)

    receipt = await Producer(broker, "s").publish(1, type="t")

    async def hand_over(room: int) -> list[Delivery]:
        assert room > 0
        where = (keys.level(0), "g", "c0", 0, receipt.entry_id)
        ((_, fields),) = await broker.control.call("XCLAIM", *where)
        await broker.control.call("ZREM", keys.retry("g"), member(0, receipt.entry_id))
        claimed.set()
        await go_on.wait()
        return [Delivery(0, receipt.entry_id, fields, 2)]

    async with consuming(broker, handler, Limit("tenant", concurrency=1)) as consumers:
        await eventually(lambda: parked(broker, 1), what="it to be put aside")
        fetcher = consumers[0]._fetcher
        taking = asyncio.create_task(fetcher.take_over(hand_over))
        await claimed.wait()
        looking = asyncio.create_task(fetcher._find_lost_reads())
        await asyncio.sleep(0.2)
        assert not looking.done()
        go_on.set()
        await asyncio.gather(taking, looking)
        await eventually(lambda: consumers[0].stats.done == 1, what="it to be handled")
    assert len(runs) == 2
