"""Events that wait, and the question why."""

from __future__ import annotations

from typing import Any

from streams import Broker, Event, Levels, Producer, Reason
from streams.admin.reason import STATES
from streams.admin.why import Wanted, Why
from streams.broker.admin.figures import FigureStore
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Settling
from streams.policy.declaration import Declaration, Retention
from streams.producer import ProducerOptions

LEVELS = Levels((0, 5))

SPEAKING = {
    "levels": [0, 5],
    "lease": 30.0,
    "concurrency": 2,
    "busy": 0,
    "free": 2,
    "runs": {},
}


def fetching(
    broker: Broker, consumer: str = "w", retention: Retention | None = None
) -> Fetching:
    declaring = Declaring(broker.keys("s"), LEVELS, "g", Declaration(retention))
    return Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, "g", consumer), declaring
    )


async def take(broker: Broker, most: int, consumer: str = "w") -> list[Delivery]:
    reading = fetching(broker, consumer)
    await reading.ensure_group()
    return await reading.take(most) if most else []


async def speak(broker: Broker, worker: str = "w", **said: Any) -> None:
    """A worker says that it is there."""
    await FigureStore(broker, broker.keys("s"), "g").count({}, worker, SPEAKING | said)


def settling(broker: Broker) -> Settling:
    return Settling(GroupConsumer(broker, broker.keys("s"), LEVELS, "g", "w"))


async def publish(broker: Broker, *events: Event) -> list[str]:
    """Publish, and return the ids of the events."""
    receipts = await Producer(broker, "s", ProducerOptions(levels=LEVELS)).publish_many(
        events or [Event("t", 1, tenant="acme", key="k")]
    )
    return [receipt.event_id for receipt in receipts]


async def ask(
    broker: Broker, event: str, *, patience: float = 5.0, **which: Any
) -> Reason:
    """The one reason of an event."""
    found = await Why(broker, "s", patience=patience).ask(Wanted(event), **which)
    (reason,) = found.reasons
    assert reason.state in STATES
    assert reason.sentence
    return reason


async def old(broker: Broker, level: int = 0, ago: int = 60, **fields: Any) -> str:
    """An event that was published some seconds ago."""
    seconds, _ = await broker.control.call("TIME")
    # The stream and its levels are known.
    await publish(broker, Event("t", 0, delay=3600))
    entry_id = f"{(int(seconds) - ago) * 1000}-0"
    stored = {"type": "t", "data": "1", "meta": "{}"} | fields
    pairs = [part for pair in stored.items() for part in pair]
    await broker.control.call("XADD", broker.keys("s").level(level), entry_id, *pairs)
    return entry_id
