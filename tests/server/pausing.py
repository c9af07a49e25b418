"""A worker of a group that is paused."""

from __future__ import annotations

from streams import Broker
from streams.broker.entries.declare import Declaring
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.policy.declaration import Declaration
from streams.policy.levels import Levels

LEVELS = Levels()


async def group_of(broker: Broker, group: str = "g", consumer: str = "c") -> Fetching:
    declaring = Declaring(broker.keys("s"), LEVELS, group, Declaration("fanout"))
    fetching = Fetching(
        GroupConsumer(broker, broker.keys("s"), LEVELS, group, consumer), declaring
    )
    await fetching.ensure_group()
    return fetching
