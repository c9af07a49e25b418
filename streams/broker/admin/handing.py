"""Handing on: what an operator set for all partitions of a stream holds on those that are added, too."""

from __future__ import annotations

from collections.abc import Sequence

from streams.broker.admin.inspect import Inspecting
from streams.broker.server.connection import Broker
from streams.common.log_facts import logger_of
from streams.errors import BrokerUnavailable
from streams.policy.partitions import partition_name

logger = logger_of("worker")
_DECLARED = b":declared"


async def hand_on(broker: Broker, stream: str, group: str, count: int) -> None:
    """Give partitions that are about to be added the pauses, and the limits of a group, that all others have.

    What is there already stays. Nothing happens if the stream has so many partitions. One command, one or two for each
    partition if it has not.
    """
    before = (await Inspecting(broker).partitions(stream)).count
    if count <= before:
        return
    keys = [broker.keys(partition_name(stream, number)) for number in range(count)]
    old, new = keys[:before], keys[before:]
    await _copy(
        broker, [each.paused() for each in old], [each.paused() for each in new]
    )
    await _copy(
        broker,
        [each.limits(group) for each in old],
        [each.limits(group) for each in new],
    )


async def _copy(broker: Broker, old: Sequence[str], new: Sequence[str]) -> None:
    rows = [await _read(broker, key) for key in old]
    common = {
        name: value
        for name, value in rows[0].items()
        if all(name in row for row in rows) and not name.endswith(_DECLARED)
    }
    for key in new if common else ():
        try:
            there = await _read(broker, key)
            missing = [
                part
                for name, value in common.items()
                if name not in there
                for part in (name, value)
            ]
            if missing:
                await broker.control.call("HSET", key, *missing)
        except BrokerUnavailable as error:
            logger.warning(
                "a new partition is away: pauses and limits of the others are not set on it",
                extra={"key": key, "error": str(error)},
            )


async def _read(broker: Broker, key: str) -> dict[bytes, bytes]:
    reply = await broker.control.call("HGETALL", key)
    return {reply[i]: reply[i + 1] for i in range(0, len(reply), 2)}
