"""Whose lease it is: what a consumer holds is judged by the lease that it announced, whatever others have.

Silence is arranged with ``XCLAIM ... IDLE``, so nothing sleeps.
"""

from __future__ import annotations

import asyncio
import ctypes

import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Levels,
    Limit,
    Producer,
    Reclaimer,
    ReclaimerOptions,
)
from streams.admin.why import Wanted, Why
from streams.broker.admin.figures import FigureStore
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.reclaim import Reclaiming
from streams.consuming.lease_renewer import LeaseRenewer
from streams.consuming.lease_thread import LeaseThread
from streams.errors import OutOfMemory
from streams.policy.admission import Kind
from tests.conftest import eventually

pytestmark = pytest.mark.in_turn

LEVELS = Levels((0,))


def reading(broker: Broker, consumer: str, lease: float = 0.0) -> Fetching:
    return Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, "g", consumer, lease=lease)
    )


async def hold(broker: Broker, consumer: str, lease: float = 0.0) -> Delivery:
    """One event is with a consumer that announced its lease, or did not."""
    await Producer(broker, "s").publish(Event("t", 1, tenant="acme"))
    fetching = reading(broker, consumer, lease)
    await fetching.ensure_group()
    (delivery,) = await fetching.take(1)
    return delivery


async def silent_for(
    broker: Broker, consumer: str, seconds: float, entry_id: str
) -> None:
    arguments = ("g", consumer, 0, entry_id, "IDLE", round(seconds * 1000), "JUSTID")
    await broker.control.call("XCLAIM", broker.keys("s").level(0), *arguments)


async def leases(broker: Broker) -> dict[str, str]:
    reply = await broker.control.call("HGETALL", broker.keys("s").leases("g"))
    return {
        name.decode(): value.split()[0].decode()
        for name, value in zip(reply[::2], reply[1::2], strict=True)
    }


async def nobody(broker: Broker) -> None:
    """Nothing else is known of any lease."""


async def another_has_longer_ones(broker: Broker) -> None:
    await reading(broker, "other", 120.0).announce()


async def it_is_among_the_workers(broker: Broker) -> None:
    await FigureStore(broker, broker.keys("s"), "g").count({}, "old", {"lease": 90.5})


async def its_row_is_no_lease(broker: Broker) -> None:
    await broker.control.call("HSET", broker.keys("s").leases("g"), "old", "often")


async def the_key_is_something_else(broker: Broker) -> None:
    keys = broker.keys("s")
    await broker.control.call("SET", keys.leases("g"), "x")
    await broker.control.call("SET", keys.workers("g"), "x")


@pytest.mark.parametrize(
    ("own", "announced", "also", "kept", "taken"),
    [
        pytest.param(3.0, 60.0, nobody, 59, 61, id="longer than the reclaimer's"),
        pytest.param(60.0, 3.0, nobody, 2, 4, id="shorter than the reclaimer's"),
        pytest.param(
            3.0, 3.0, another_has_longer_ones, 2, 4, id="shorter than another's"
        ),
        pytest.param(3.0, 0.0, nobody, 29, 31, id="unknown"),
        pytest.param(
            60.0, 0.0, nobody, 59, 61, id="unknown, and the reclaimer's is long"
        ),
        pytest.param(
            3.0,
            0.0,
            another_has_longer_ones,
            119,
            121,
            id="unknown, and another's is longer",
        ),
        pytest.param(
            3.0, 0.0, it_is_among_the_workers, 90, 91, id="told by a version before"
        ),
        pytest.param(3.0, 0.0, its_row_is_no_lease, 29, 31, id="unreadable"),
        pytest.param(3.0, 0.0, the_key_is_something_else, 29, 31, id="of another kind"),
    ],
)
async def test_what_a_consumer_holds_is_judged_by_its_own_lease(
    broker, own, announced, also, kept, taken
):
    delivery = await hold(broker, "old", announced)
    await also(broker)
    sweeping = Reclaiming(
        GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "new.reclaimer")
    )
    for seconds, expected in ((kept, 0), (taken, 1)):
        await silent_for(broker, "old", seconds, delivery.entry_id)
        sweep = await sweeping.sweep(lease=own, lock=1.0, silence=3600.0, most=10)
        assert len(sweep.stalled) == expected


async def test_what_a_reclaimer_took_over_is_judged_by_the_reclaimer_that_finds_it(
    broker,
):
    delivery = await hold(broker, "gone.reclaimer")
    await silent_for(broker, "gone.reclaimer", 4, delivery.entry_id)
    sweeping = Reclaiming(
        GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "new.reclaimer")
    )
    assert (await sweeping.sweep(lease=3.0, lock=1.0, silence=3600.0, most=10)).stalled


@pytest.mark.parametrize("way", ["asked", "looked after"])
@pytest.mark.parametrize(
    ("lease", "own"), [(60.0, 3.0), (3.0, 60.0)], ids=["longer", "shorter"]
)
async def test_a_slot_is_lost_with_the_lease_of_who_holds_it(broker, way, lease, own):
    keys, limit = broker.keys("s"), Limit("tenant", concurrency=1)
    delivery = await hold(broker, "old", lease)
    assert [
        a.kind for a in await slots(broker, "old", lease).admit([ask(delivery, limit)])
    ] == [Kind.START]
    await broker.control.call(
        "ZADD", keys.busy_prefix("g") + "tenant=acme", "XX", 1, f"0|{delivery.entry_id}"
    )
    other = await hold(broker, "new", own)
    asking = slots(broker, "new", own)
    for seconds, starts in ((lease - 1, False), (lease + 1, True)):
        await silent_for(broker, "old", seconds, delivery.entry_id)
        if way == "asked":
            (answer,) = await asking.admit([ask(other, limit)])
            assert answer.kind is (Kind.START if starts else Kind.SLOT)
            if not starts:
                await broker.control.call(
                    "ZADD", keys.retry("g"), "XX", 0, f"0|{other.entry_id}"
                )
                (other,) = (await reading(broker, "new", own).take_due(1, 0)).deliveries
        else:
            await broker.control.call("HSET", keys.queues("g"), "tenant=acme", 1)
            await asking.look_after_queues()
            assert (
                await broker.control.call(
                    "ZCARD", keys.busy_prefix("g") + "tenant=acme"
                )
                == 0
            ) == starts


def slots(broker: Broker, consumer: str, lease: float) -> Admitting:
    return Admitting(
        GroupConsumer(broker, broker.keys("s"), LEVELS, "g", consumer, lease=lease)
    )


def ask(delivery: Delivery, limit: Limit) -> Ask:
    return Ask(delivery, [(limit, "acme")])


async def test_a_handler_of_an_old_worker_goes_on_beside_new_ones_with_a_shorter_lease(
    broker,
):
    """It renews every ten seconds; each of the new ones would have taken the event long before."""
    starts, go_on = [], asyncio.Event()

    async def handler(event: Event) -> None:
        starts.append(event.attempt)
        await go_on.wait()

    old = Consumer(
        broker,
        "s",
        "g",
        handler,
        ConsumerOptions(levels=LEVELS, lease=60.0, name="old"),
    )
    new = Consumer(
        broker, "s", "g", handler, ConsumerOptions(levels=LEVELS, lease=3.0, name="new")
    )
    await Producer(broker, "s").publish(Event("t", 1))
    running = [asyncio.create_task(old.run())]
    await eventually(lambda: starts == [1])
    running.append(asyncio.create_task(new.run()))
    ((_, entry_id),) = old.running
    reclaimer = Reclaimer(
        broker, "s", "g", options=ReclaimerOptions(levels=LEVELS, lease=3.0, name="new")
    )
    for _ in range(3):
        await silent_for(broker, "old", 19, entry_id)
        await reclaimer.sweep()
    assert (starts, reclaimer.stalled) == ([1], 0)
    go_on.set()
    await eventually(lambda: old.stats.done == 1)
    for consumer in (old, new):
        consumer.stop()
    await asyncio.gather(*running)
    assert await leases(broker) == {}


async def test_why_an_event_waits_is_told_by_the_lease_of_who_holds_it(broker):
    delivery = await hold(broker, "old", 600.0)
    await hold(broker, "new", 3.0)
    await silent_for(broker, "old", 500, delivery.entry_id)
    (reason,) = (await Why(broker, "s").ask(Wanted(f"0|{delivery.entry_id}"))).reasons
    assert reason.facts["worker"] == "old"
    assert reason.facts["until"] == pytest.approx(broker.clock.now() + 100, abs=5)


# --- the row of a consumer


async def test_a_lease_is_announced_before_anything_is_read_and_again_when_the_row_is_lost(
    broker,
):
    consumer = Consumer(
        broker,
        "s",
        "g",
        lambda _: None,
        ConsumerOptions(levels=LEVELS, lease=0.6, name="c"),
    )
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: leases(broker))
    await broker.control.call("DEL", broker.keys("s").leases("g"))
    await eventually(lambda: leases(broker), what="the row to be written again")
    assert await leases(broker) == {"c": "600"}
    assert await broker.control.call("PTTL", broker.keys("s").leases("g")) > 86_400_000
    consumer.stop()
    await running
    assert await leases(broker) == {}


async def test_the_row_of_a_consumer_stays_for_as_long_as_something_is_pending_with_it(
    broker,
):
    delivery = await hold(broker, "c", 60.0)
    fetching = reading(broker, "c", 60.0)
    await fetching.leave()
    assert await leases(broker) == {"c": "60000"}
    await broker.control.call("XACK", broker.keys("s").level(0), "g", delivery.entry_id)
    await fetching.leave()
    assert await leases(broker) == {}


async def test_the_row_of_a_consumer_that_is_gone_goes_and_that_of_one_that_has_not_read_stays(
    broker,
):
    keys = broker.keys("s")
    await hold(broker, "holds", 60.0)
    for name in ("gone", "long", "fresh"):
        await reading(broker, name, 60.0).announce()
    now = round(broker.clock.now() * 1000)
    rows = {
        "gone": (60_000, now - 200_000),
        "long": (86_400_000, now - 200_000),
        "holds": (60_000, 0),
    }
    for name, (lease, at) in rows.items():
        await broker.control.call("HSET", keys.leases("g"), name, f"{lease} {at}")
    await broker.control.call("HSET", keys.leases("g"), "garbage", "x")
    await Reclaiming(GroupConsumer(broker, keys, LEVELS, "g", "r")).sweep(
        lease=3.0, lock=1.0, silence=150.0, most=10
    )
    assert set(await leases(broker)) == {"holds", "long", "fresh"}


async def test_a_server_that_refuses_the_row_is_read_all_the_same(broker, monkeypatch):
    fetching = reading(broker, "c", 60.0)
    call = fetching._link.call

    async def refusing(*command):
        if command[:1] == ("EVALSHA",) and command[3:4] == (
            broker.keys("s").leases("g"),
        ):
            raise OutOfMemory("OOM")
        return await call(*command)

    monkeypatch.setattr(fetching._link, "call", refusing)
    await Producer(broker, "s").publish(Event("t", 1))
    await fetching.ensure_group()
    assert len(await fetching.take(1)) == 1
    assert await leases(broker) == {}


async def test_a_handler_that_keeps_the_interpreter_is_said_with_its_event(
    broker, caplog, monkeypatch
):
    """Not even the thread that renews runs meanwhile; ``PyDLL`` calls without letting the GIL go."""
    monkeypatch.setattr("streams.consuming.lease_renewer._STILL", 0.2)

    def handler(event: Event) -> None:
        ctypes.PyDLL(None).usleep(400_000)

    consumer = Consumer(
        broker, "s", "g", handler, ConsumerOptions(levels=LEVELS, lease=9.0)
    )
    running = asyncio.create_task(consumer.run())
    receipt = await Producer(broker, "s").publish(Event("t", 1))
    await eventually(lambda: consumer.stats.done == 1)
    consumer.stop()
    await running
    said = [record for record in caplog.records if "keeps the GIL" in record.message]
    assert said
    assert (said[0].where, said[0].lease, said[0].entries) == (
        "s/g",
        9.0,
        [f"0|{receipt.entry_id}"],
    )


async def test_a_long_lease_is_renewed_so_often_that_who_does_not_know_it_can_wait(
    broker,
):
    consumer = Consumer(broker, "s", "g", lambda _: None, ConsumerOptions(lease=600.0))
    keeper = LeaseRenewer(
        consumer._state, LeaseThread.of(broker), consumer._make_settling, lambda _: None
    )
    assert keeper._interval == 10.0
