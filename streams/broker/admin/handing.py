"""Copy to added partitions what an operator set for all partitions of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streams.broker.admin.inspect import StatusStore
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.stored import flat, pairs
from streams.common.log_facts import logger_of
from streams.errors import BrokerUnavailable
from streams.policy.partitions import partition_name

logger = logger_of("worker")
_DECLARED = ":declared"


async def hand_on(broker: Broker, stream: str, group: str, count: int) -> None:
    """Give partitions that are about to be added the pauses and the limits that all others have.

    Existing values stay. One command if the stream has ``count`` partitions already, else one
    or two more for each partition.

    Args:
        broker: an open broker.
        stream: the partitioned stream.
        group: whose limits are copied.
        count: partitions that the stream will have.
    """
    before = (await StatusStore(broker).partitions(stream)).count
    if count <= before:
        return

    keys = [broker.keys(partition_name(stream, number)) for number in range(count)]
    old, new = keys[:before], keys[before:]
    await _copy(broker, map(Keys.paused, old), map(Keys.paused, new))
    old_limits = [each.limits(group) for each in old]
    new_limits = [each.limits(group) for each in new]
    await _copy(broker, old_limits, new_limits)


async def _copy(broker: Broker, old: Iterable[str], new: Iterable[str]) -> None:
    common = _common([await _read(broker, key) for key in old])
    if not common:
        return

    for key in new:
        try:
            there = await _read(broker, key)
            missing = {
                name: value for name, value in common.items() if name not in there
            }
            if missing:
                await broker.control.call("HSET", key, *flat(missing))
        except BrokerUnavailable as error:
            logger.warning(
                "a new partition is away: pauses and limits of the others are not set on it",
                extra={"key": key, "error": str(error)},
            )


def _common(rows: Sequence[dict[str, bytes]]) -> dict[str, bytes]:
    """The values of the first partition that have a counterpart on every partition."""
    found = {}
    for name, value in rows[0].items():
        is_everywhere = all(name in row for row in rows)
        if is_everywhere and not name.endswith(_DECLARED):
            found[name] = value

    return found


async def _read(broker: Broker, key: str) -> dict[str, bytes]:
    return pairs(await broker.control.call("HGETALL", key))
