"""Entries that wait by a limit that is declared otherwise now are looked at anew.

Otherwise they would wait by a rule of before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from streams.broker.entries.holding import bring_back
from streams.broker.entries.places import SlotPlaces
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import pairs, whole
from streams.policy.levels import Levels
from streams.policy.limit import Limit

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_RELEASE = Script("release_queue")
DECLARED = ":declared"
_SLICE = 500
_PAGE = 100
_LARGEST = 1000
"""A concurrency above that was never declared: the row says nothing."""


class Queues:
    """The queues of a group, in which entries wait for slots of limits.

    Args:
        link: the connection to use.
        keys: of the stream.
        levels: of the stream, all of them.
        group: its name.
    """

    def __init__(self, link: Link, keys: Keys, levels: Levels, group: str) -> None:
        self._link = link
        self._levels = levels.descending
        self._streams = [keys.level(level) for level in self._levels]
        self._retry = keys.retry(group)
        self._waiting = keys.queues(group)
        self._admissions = keys.admissions(group)
        self._places = SlotPlaces(keys, group)
        self._group = group

    async def pages(self) -> AsyncIterator[dict[str, int]]:
        """``name=key`` of each queue that is not empty, with its concurrency.

        The concurrency is as declared last; 0: it is no number.
        Page by page.
        """
        cursor = b"0"
        while True:
            cursor, rows = await self._link.call(
                "HSCAN", self._waiting, cursor, "COUNT", _PAGE
            )
            if rows:
                numbers = {name: whole(text) for name, text in pairs(rows).items()}
                yield {
                    name: number if 0 < number <= _LARGEST else 0
                    for name, number in numbers.items()
                }
            if cursor == b"0":
                return

    async def release(self, name: str) -> None:
        """Let everything that waits in a queue ask anew."""
        busy, queue = self._places.named(name)
        places, left = (
            (self._retry, self._waiting, queue, busy, self._admissions, *self._streams),
            0,
        )
        while True:
            command = _RELEASE.command(
                places, self._group, name, left, _SLICE, *self._levels
            )
            went, stay = await self._link.call(*command)
            left += stay
            if went + stay < _SLICE:
                return


class Redeclaring:
    """Writes down the limits of a group, and lets what waits by others be looked at anew.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream, all of them.
        group: its name.
        limits: those that the handlers declare.
    """

    def __init__(
        self,
        broker: Broker,
        keys: Keys,
        levels: Levels,
        group: str,
        limits: Sequence[Limit],
    ) -> None:
        self._broker = broker
        self._keys = keys
        self._levels = levels
        self._group = group
        self._limits = limits

    async def declare(self) -> list[str]:
        """Write down what is declared.

        Returns the names of limits that were declared otherwise, or are no more.

        Two commands. Where something was changed it walks through what waits, once for
        all workers that start.
        """
        link, place = self._broker.control, self._keys.limits(self._group)
        stored = pairs(await link.call("HGETALL", place))
        before = {
            name.removesuffix(DECLARED): text.decode("utf-8", "replace")
            for name, text in stored.items()
            if name.endswith(DECLARED)
        }
        now = {limit.name: limit.text for limit in self._limits}
        changed = [name for name, text in before.items() if now.get(name) != text]
        if changed:
            await self._look_anew(link, set(changed))
        # Written afterwards: a worker that is stopped on the way leaves it to the next
        # one.
        commands: list[Command] = []
        if gone := [name + DECLARED for name in changed if name not in now]:
            commands.append(("HDEL", place, *gone))
        if now != before and now:
            commands.append(
                (
                    "HSET",
                    place,
                    *(
                        part
                        for name, text in now.items()
                        for part in (name + DECLARED, text)
                    ),
                )
            )
        for command in commands:
            await link.call(*command)
        return sorted(changed)

    async def _look_anew(self, link: Link, changed: set[str]) -> None:
        queues = Queues(link, self._keys, self._levels, self._group)
        async for page in queues.pages():
            for name in page:
                if name.partition("=")[0] in changed:
                    await queues.release(name)
        await bring_back(
            link,
            self._keys,
            self._group,
            lambda admission: not changed.isdisjoint(admission.limits),
        )
