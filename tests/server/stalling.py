"""Entries whose consumer is silent, and a reclaimer for them."""

from __future__ import annotations

from streams import Broker, Levels, Reclaimer, ReclaimerOptions, Retry
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.handlers.routes import Router

LEVELS = (0, 1, 5, 10)

AGE = 3_600_000


async def fetch(broker: Broker, consumer: str, most: int = 1000) -> list[Delivery]:
    """What a consumer is given: due retries, then new entries."""
    fetching = Fetching(
        GroupConsumer(broker, broker.keys("s"), Levels(), "g", consumer)
    )
    await fetching.ensure_group()
    due = (await fetching.take_due(most, most)).deliveries
    return due + await fetching.take(most)


async def age(broker: Broker, consumer: str, deliveries: list[Delivery]) -> None:
    """Let a consumer have been silent about entries for an hour."""
    for level in LEVELS:
        ids = [delivery.entry_id for delivery in deliveries if delivery.level == level]
        if ids:
            key = broker.keys("s").level(level)
            await broker.control.call(
                "XCLAIM", key, "g", consumer, 0, *ids, "IDLE", AGE, "JUSTID"
            )


async def stall(broker: Broker, consumer: str = "crashed") -> list[Delivery]:
    """Let a consumer fetch everything and go silent."""
    deliveries = await fetch(broker, consumer)
    await age(broker, consumer, deliveries)
    return deliveries


async def owners(broker: Broker) -> dict[tuple[int, str], tuple[str, int]]:
    """Owner and delivery count of every pending entry."""
    found = {}
    for level in LEVELS:
        for entry_id, owner, _, count in await broker.control.call(
            "XPENDING", broker.keys("s").level(level), "g", "-", "+", 10_000
        ):
            found[level, entry_id.decode()] = owner.decode(), count
    return found


def reclaimer(
    broker: Broker, retry: Retry | Router | None = None, **options
) -> Reclaimer:
    return Reclaimer(
        broker, "s", "g", retry, ReclaimerOptions(**{"name": "r", **options})
    )
