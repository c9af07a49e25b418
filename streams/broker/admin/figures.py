"""Figures of groups over time, and the notes of their workers. Workers write, front ends read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from streams.broker.admin.replies import replies_of
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import flat, pairs, said_by_workers, whole

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_COUNT = Script("count")
MINUTE, HOUR, DAY = 60, 3600, 86_400
"""Seconds of the spans that have figures."""
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
        self._group = group
        self._workers = keys.workers(group)
        self._key_of = {MINUTE: keys.minute, HOUR: keys.hour, DAY: keys.day}

    @property
    def _link(self) -> Link:
        # Not kept: a broker that is opened again has another connection.
        return self._broker.control

    async def count(
        self,
        amounts: Mapping[str, int],
        worker: str,
        presence: Mapping[str, Any] | None,
    ) -> None:
        """Add to the figures, and write the worker's note. One command.

        Args:
            amounts: by figure.
            worker: its name.
            presence: the note; None removes the worker.
        """
        now = self._broker.clock.now()
        keys = [self._key(span, int(now // span)) for span in KEPT]
        kept = [1000 * seconds for seconds in (*KEPT.values(), _WORKERS_KEPT)]
        note = b""
        if presence is not None:
            note = orjson.dumps({**presence, "at": round(now, 3)})

        grown = flat({name: amount for name, amount in amounts.items() if amount})
        keys.append(self._workers)
        await self._broker.shared.run(
            _COUNT,
            keys,
            *kept,
            worker,
            note,
            *grown,
        )

    async def workers(self) -> dict[str, dict[str, Any]]:
        """The last note of each worker of the group, by name. One command."""
        return said_by_workers(await self._link.call("HGETALL", self._workers))

    async def glance(
        self, wanted: Mapping[int, Sequence[int]]
    ) -> tuple[dict[int, list[dict[str, int]]], dict[str, dict[str, Any]]]:
        """Figures by span, and the workers' notes. One round trip.

        Args:
            wanted: span to numbers, as of ``read``.
        """
        keys = [self._workers]
        for span, numbers in wanted.items():
            keys += [self._key(span, number) for number in numbers]

        replies = iter(await self._hashes(keys))
        notes = said_by_workers(next(replies))
        figures = {}

        for span, numbers in wanted.items():
            figures[span] = [_counts(next(replies)) for _ in numbers]

        return figures, notes

    async def read(self, span: int, numbers: Sequence[int]) -> list[dict[str, int]]:
        """Figures of minutes, hours or days, by their number since 1970. One round trip.

        The figures of an idle span are empty.
        """
        keys = [self._key(span, number) for number in numbers]

        return [_counts(reply) for reply in await self._hashes(keys)]

    def _key(self, span: int, number: int) -> str:
        return self._key_of[span](self._group, number)

    async def _hashes(self, keys: Sequence[str]) -> list[Any]:
        return await replies_of(self._link, [("HGETALL", key) for key in keys])


def _counts(reply: Sequence[bytes]) -> dict[str, int]:
    return {name: whole(count) for name, count in pairs(reply).items()}
