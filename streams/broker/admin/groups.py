"""drop and trim: a group is given up, and what only it still needed goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import orjson

from streams.broker.admin.watermarks import Marking
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script

_DROP = Script("drop")
_TRIM = Script("trim")
_SLICE = 200


class Config(NamedTuple):
    """What is written down of a stream: ``retention`` is '' if nothing is; declared groups with start and Unix time.

    ``dropped``: groups that were given up and had dead letters then.
    """

    retention: str
    groups: dict[str, tuple[str, float | None]]
    dropped: list[str]


class Dropping:
    """Ends groups of one stream.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Sequence[int]) -> None:
        self._link = broker.control
        self._keys = keys
        self._levels = levels
        self._streams = [keys.level(level) for level in levels]
        self._marking = Marking(broker, keys)

    async def config(self) -> Config:
        """What is written down. One command."""
        rows = await self._link.call("HGETALL", self._keys.config())
        retention, groups, dropped = "", {}, []
        for name, value in zip(rows[::2], rows[1::2], strict=True):
            if name == b"retention":
                retention = value.decode()
            elif name.startswith(b"group:"):
                groups[name[6:].decode()] = _facts(value)
            elif name.startswith(b"dropped:"):
                dropped.append(name[8:].decode())
        return Config(retention, dict(sorted(groups.items())), sorted(dropped))

    async def drop(self, group: str, by: str, alive: float) -> tuple[bool, list[str]]:
        """End a group, unless a consumer of it was heard of within ``alive`` seconds (0: whoever was).

        Returns whether it was dropped, and who is alive; neither if there is no such group.
        """
        keys = self._keys
        places = (
            keys.config(),
            keys.paused(),
            keys.retry(group),
            keys.attempts(group),
            keys.sweep(group),
            keys.audit(),
            keys.dead(group),
            *self._streams,
            keys.heads(group),
            keys.behind(group),
            keys.rules(group),
            keys.leases(group),
            keys.admissions(group),
            *(
                key
                for level in self._levels
                for key in (keys.lane(group, level), keys.ring(group, level))
            ),
        )
        command = _DROP.command(
            places, group, by, len(self._levels), round(alive * 1000)
        )
        dropped, names = await self._link.call(*command)
        if dropped:
            # That nobody looks for it any more is no loss.
            await self._marking.forget(group, self._levels)
            await self._forget_queues(group)
        return bool(dropped), [name.decode() for name in names]

    async def _forget_queues(self, group: str) -> None:
        """Delete the queues for slots. A call that is cut short leaves the hash, for the next one."""
        queues, cursor, found = self._keys.queues(group), b"0", list[str]()
        while True:
            cursor, rows = await self._link.call(
                "HSCAN", queues, cursor, "COUNT", _SLICE
            )
            found += [
                self._keys.queue_prefix(group) + name.decode() for name in rows[::2]
            ]
            if cursor == b"0":
                break
        for at in range(0, len(found), _SLICE):
            await self._link.call("UNLINK", *found[at : at + _SLICE])
        await self._link.call("UNLINK", queues)

    async def trim(self) -> AsyncIterator[int]:
        """Delete what no group needs any more; gives the count of every slice of 200 entries."""
        for stream in self._streams:
            last = b"-"
            while last:
                count, last = await self._link.call(
                    *_TRIM.command((stream, self._keys.config()), last, _SLICE)
                )
                yield count


def _facts(value: bytes) -> tuple[str, float | None]:
    """Start and Unix time of a declaration; what another program wrote in other words counts for nothing."""
    try:
        facts = orjson.loads(value)
        return str(facts["start"]), float(facts["since"])
    except (LookupError, TypeError, ValueError):
        return "", None
