"""Oldest: what of a group waits longest, for whoever asks why. Read only, and bounded whatever is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.broker.admin.waits import MOST_QUEUES, replies_of, texts_of
from streams.broker.keys import WAITING
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command
from streams.broker.server.stored import entry_place, real, whole

_MOST = 10


class Oldest:
    """Asks for what waits longest in the groups of a stream.

    Args:
        broker: an open broker.
        stream: its name; of a stream with partitions that of one of them.
    """

    def __init__(self, broker: Broker, stream: str) -> None:
        self._link = broker.control
        self._keys = broker.keys(stream)

    async def of(
        self, group: str, infos: Mapping[int, Mapping[str, Any]], before_ms: int
    ) -> list[tuple[int, str]]:
        """The first of each level that waits, the first due retries, and the first of queues with a free slot.

        Those that came before a time. ``infos``: what ``groups`` says of the group. Two commands and two per level, in
        one round trip; another one where there are queues.
        """
        keys = self._keys
        commands: list[Command] = [
            ("ZRANGEBYSCORE", keys.retry(group), 0, before_ms, "LIMIT", 0, _MOST),
            ("HSCAN", keys.queues(group), 0, "COUNT", MOST_QUEUES),
        ]
        for level, info in infos.items():
            key = keys.level(level)
            commands.append(
                (
                    "XRANGE",
                    key,
                    f"({info['last-delivered-id'].decode()}",
                    str(before_ms),
                    "COUNT",
                    1,
                )
            )
            commands.append(("XPENDING", key, group, "-", str(before_ms), 1, WAITING))
        retry, queues, *rows = await replies_of(self._link, commands)
        found = [named for name in retry or () if (named := entry_place(name))]
        for i, level in enumerate(infos):
            found += [
                (level, row[0][0].decode()) for row in rows[2 * i : 2 * i + 2] if row
            ]
        found += await self._first_in_queues(
            group, texts_of(queues[1] if queues else ()), before_ms
        )
        return list(dict.fromkeys(found))

    async def _first_in_queues(
        self, group: str, queues: Mapping[str, str], before_ms: int
    ) -> list[tuple[int, str]]:
        """Those that a free slot waits for, and that came to their queue before a time."""
        keys, names = self._keys, list(queues)[:MOST_QUEUES]
        commands: list[Command] = []
        for name in names:
            commands += [
                ("ZRANGE", keys.queue_prefix(group) + name, 0, 0, "WITHSCORES"),
                ("ZCARD", keys.busy_prefix(group) + name),
            ]
        replies, found = await replies_of(self._link, commands), []
        for i, name in enumerate(names):
            row, taken = replies[2 * i] or (), replies[2 * i + 1] or 0
            if (
                row
                and taken < whole(queues[name])
                and real(row[1]) / 1000 <= before_ms
                and (at := entry_place(row[0]))
            ):
                found.append(at)
        return found[:_MOST]
