"""Entries in the hands of a consumer that asks, step by step, whether they may start; and what is held at limits."""

from __future__ import annotations

from collections.abc import Sequence

from streams import Broker, Event, Levels, Producer
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.places import Slot
from streams.broker.entries.settle import Settling
from streams.producer import ProducerOptions

ZERO = Levels((0,))


class Hands:
    """What one consumer of the group ``g`` of the stream ``s`` does, each step by itself."""

    def __init__(
        self,
        broker: Broker,
        consumer: str = "c",
        levels: Levels = ZERO,
        lease: float = 30.0,
    ) -> None:
        keys = broker.keys("s")
        self.broker = broker
        self.producer = Producer(broker, "s", ProducerOptions(levels=levels))
        self.fetching = Fetching(
            GroupConsumer(broker, keys, levels, "g", consumer, lease=lease)
        )
        self.admitting = Admitting(
            GroupConsumer(broker, keys, levels, "g", consumer, lease=lease)
        )
        self.settling = Settling(GroupConsumer(broker, keys, levels, "g", consumer))

    async def take(self, *events: Event) -> list[Delivery]:
        """Publish events, and be given them."""
        await self.fetching.ensure_group()
        await self.producer.publish_many(events)
        return await self.fetching.take(len(events))

    async def take_plain(self, count: int) -> list[Delivery]:
        """Be given so many events that nothing is known of."""
        return await self.take(*(Event("t", n) for n in range(count)))

    async def take_due(self) -> list[Delivery]:
        """Be given every retry that is due."""
        return (await self.fetching.take_due(1000, 0)).deliveries

    async def hasten(self, *deliveries: Delivery) -> list[Delivery]:
        """Be given entries that were put aside, now."""
        for delivery in deliveries:
            await self.broker.control.call(
                "ZADD",
                self.broker.keys("s").retry("g"),
                "XX",
                0,
                f"{delivery.level}|{delivery.entry_id}",
            )
        return await self.take_due()

    async def ask(self, deliveries: Sequence[Delivery], *limits: Slot):
        """What is decided on entries that are all under the same limits."""
        return await self.admitting.admit(
            [Ask(delivery, limits) for delivery in deliveries]
        )


async def held(broker: Broker) -> dict[str, list[str]]:
    """Whatever is held at limits of the group ``g``: members of slots and queues, by the end of their key; and rows."""
    keys, call = broker.keys("s"), broker.control.call
    found: dict[str, list[str]] = {}
    for kind in ("busy", "queue"):
        prefix = f"{broker.namespace}:{{s}}:g:{kind}:"
        for name in await call("KEYS", prefix + "*"):
            rows = await call("ZRANGE", name, 0, -1)
            found[f"{kind}:{name.decode()[len(prefix) :]}"] = [
                row.decode() for row in rows
            ]
    if rows := await call("HKEYS", keys.admissions("g")):
        found["admissions"] = sorted(row.decode() for row in rows)
    return found
