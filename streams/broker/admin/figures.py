"""Figures of groups over time, and who works for them: written by workers, read by whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import pairs, said_by_workers, whole
from streams.errors import BrokerError

_COUNT = Script("count")
MINUTE, HOUR, DAY = 60, 3600, 86_400
"""Seconds of the spans that figures are kept for."""
KEPT = {MINUTE: 2 * HOUR, HOUR: 25 * HOUR, DAY: 91 * DAY}
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

    async def count(
        self,
        amounts: Mapping[str, int],
        worker: str,
        presence: Mapping[str, Any] | None,
    ) -> None:
        """Add what a worker did lately, and say what it is; ``presence`` None takes it out. One command."""
        now = self._broker.clock.now()
        keys = (
            self._keys.minute(self._group, int(now // MINUTE)),
            self._keys.hour(self._group, int(now // HOUR)),
            self._keys.day(self._group, int(now // DAY)),
            self._keys.workers(self._group),
        )
        said = (
            b"" if presence is None else orjson.dumps({**presence, "at": round(now, 3)})
        )
        kept = (
            *(1000 * KEPT[span] for span in (MINUTE, HOUR, DAY)),
            1000 * _WORKERS_KEPT,
        )
        pairs = [part for pair in amounts.items() if pair[1] for part in pair]
        await self._broker.shared.call(
            *_COUNT.command(keys, *kept, worker, said, *pairs)
        )

    async def workers(self) -> dict[str, dict[str, Any]]:
        """Who works for the group, by name, as each said last. One command."""
        return said_by_workers(
            await self._broker.control.call("HGETALL", self._keys.workers(self._group))
        )

    async def glance(
        self, wanted: Mapping[int, Sequence[int]]
    ) -> tuple[dict[int, list[dict[str, int]]], dict[str, dict[str, Any]]]:
        """Figures by span, and the workers. One round trip."""
        keys = [
            self._key(span, number)
            for span, numbers in wanted.items()
            for number in numbers
        ]
        replies = iter(await self._hashes([*keys, self._keys.workers(self._group)]))
        figures = {
            span: [_counts(next(replies)) for _ in numbers]
            for span, numbers in wanted.items()
        }
        return figures, said_by_workers(next(replies))

    async def read(self, span: int, numbers: Sequence[int]) -> list[dict[str, int]]:
        """Figures of minutes, hours or days, counted since 1970; empty where nothing was done. One round trip."""
        return [
            _counts(reply)
            for reply in await self._hashes(
                [self._key(span, number) for number in numbers]
            )
        ]

    def _key(self, span: int, number: int) -> str:
        return {MINUTE: self._keys.minute, HOUR: self._keys.hour, DAY: self._keys.day}[
            span
        ](self._group, number)

    async def _hashes(self, keys: Sequence[str]) -> list[Any]:
        replies = await self._broker.control.batch([("HGETALL", key) for key in keys])
        for reply in replies:
            if isinstance(reply, BrokerError):
                raise reply
        return replies


def _counts(reply: Sequence[bytes]) -> dict[str, int]:
    return {name: whole(count) for name, count in pairs(reply).items()}
