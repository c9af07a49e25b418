"""Figures of groups over time, and who works for them: written by workers, read by whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streams.broker.connection import Broker
from streams.broker.scripts import Script
from streams.errors import BrokerError
from streams.keys import Keys

_COUNT = Script("count")
MINUTE, HOUR = 60, 3600
"""Seconds of the two spans that figures are kept for."""
KEPT = {MINUTE: 25 * 3600, HOUR: 91 * 86_400}
"""Seconds for which the figures of each span are kept."""
_WORKERS_KEPT = 86_400


class FigureStore:
    """The figures of one group.

    Args:
        broker: an open broker.
        keys: of the stream.
        group: the group's name.
    """

    def __init__(self, broker: Broker, keys: Keys, group: str) -> None:
        self._broker = broker
        self._keys = keys
        self._group = group

    async def count(self, amounts: Mapping[str, int], worker: str, presence: Mapping[str, Any] | None) -> None:
        """Add what a worker did lately, and say what it is; ``presence`` None takes it out. One command."""
        now = self._broker.clock.now()
        keys = (
            self._keys.minute(self._group, int(now // MINUTE)),
            self._keys.hour(self._group, int(now // HOUR)),
            self._keys.workers(self._group),
        )
        said = b"" if presence is None else orjson.dumps({**presence, "at": round(now, 3)})
        kept = (1000 * KEPT[MINUTE], 1000 * KEPT[HOUR], 1000 * _WORKERS_KEPT)
        pairs = [part for pair in amounts.items() if pair[1] for part in pair]
        await self._broker.control.call(*_COUNT.command(keys, *kept, worker, said, *pairs))

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Who works for the group, by name, as each said last. One command."""
        reply = await self._broker.control.call("HGETALL", self._keys.workers(self._group))
        return {reply[i].decode(): orjson.loads(reply[i + 1]) for i in range(0, len(reply), 2)}

    async def read(self, span: int, numbers: Sequence[int]) -> list[dict[str, int]]:
        """The figures of some minutes or hours, counted since 1970; empty where nothing was done. One round trip."""
        key = self._keys.minute if span == MINUTE else self._keys.hour
        commands = [("HGETALL", key(self._group, number)) for number in numbers]
        found = []
        for reply in await self._broker.control.batch(commands):
            if isinstance(reply, BrokerError):
                raise reply
            found.append({reply[i].decode(): int(reply[i + 1]) for i in range(0, len(reply), 2)})
        return found
