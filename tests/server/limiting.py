"""Consumers under limits, and looks at what waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams import Broker, Consumer, ConsumerOptions, Limit
from streams.handlers.routes import Route, Router
from streams.policy.limit import Rate

SLACK = 0.002
"""Seconds between the server's decision and the handler's clock, which the comparison must not count."""


@asynccontextmanager
async def consuming(
    broker: Broker, handler, *limits: Limit, count: int = 1, **options
) -> AsyncIterator[list[Consumer]]:
    consumers = [
        Consumer(
            broker,
            "s",
            "g",
            Router([Route(handler, limits=limits)]),
            ConsumerOptions(name=f"c{n}", **options),
        )
        for n in range(count)
    ]
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield consumers
    finally:
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*running)


async def states(broker: Broker) -> list[bytes]:
    return await broker.control.call("KEYS", f"{broker.namespace}:{{s}}:g:limit:*")


def most_at_once(starts: list[float], rate: Rate) -> float:
    """By how many starts the worst moment is over the rate: each window may have burst + length / interval."""
    worst, spent = 0.0, 0.0
    # GCRA: the theoretical arrival time must never be further ahead than the tolerance.
    for at in sorted(starts):
        ahead = spent - rate.interval * (rate.burst - 1) - at
        worst = max(worst, ahead / rate.interval) if spent else worst
        spent = max(spent, at) + rate.interval
    return worst


async def server_now(broker: Broker) -> float:
    seconds, micros = await broker.control.call("TIME")
    return int(seconds) + int(micros) / 1e6


async def parked(broker: Broker, count: int) -> bool:
    return await broker.control.call("ZCARD", broker.keys("s").retry("g")) == count


async def parked_at_least(broker: Broker, count: int) -> bool:
    return await broker.control.call("ZCARD", broker.keys("s").retry("g")) >= count


async def no_slots(broker: Broker) -> bool:
    busy = await broker.control.call("KEYS", f"{broker.namespace}:{{s}}:g:busy:*")
    queued = await broker.control.call("KEYS", f"{broker.namespace}:{{s}}:g:queue:*")
    rows = await broker.control.call("EXISTS", broker.keys("s").admissions("g"))
    return not busy and not queued and not rows
