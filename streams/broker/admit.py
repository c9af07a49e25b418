"""admit, hand over, throttle: who of the fetched may start now, and who follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streams.broker.connection import Broker
from streams.broker.fetch import Delivery
from streams.broker.limits import rule
from streams.broker.scripts import Script
from streams.keys import PARKED, Keys, member
from streams.limit import Limit
from streams.priority import Levels

_ADMIT = Script("admit")
_HAND_OVER = Script("hand_over")
_THROTTLE = Script("throttle")
DECLARED = ":declared"
Slot = tuple[Limit, str]
"""A limit with a concurrency, and a key under it."""


class Ask(NamedTuple):
    """One entry's question: its limits with its key under each, and what it has reserved (0 nothing, 1, 2) there."""

    place: tuple[int, str]
    limits: Sequence[tuple[Limit, str, int]]


class Answer(NamedTuple):
    """May it start (``wait`` None), or in how many seconds; under which limit it waits, and what it reserved there."""

    wait: float | None
    limit: str = ""
    reserved: int = 0


class Admitting:
    """What a consumer asks of the limits of its group.

    Args:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream, all of them.
        group: its name.
        consumer: its name.
        lease: seconds after which a silent consumer has lost its slots.
    """

    def __init__(self, broker: Broker, keys: Keys, levels: Levels, group: str, consumer: str, lease: float) -> None:
        self._link = broker.link()
        self._levels = levels.descending
        self._streams = [keys.level(level) for level in self._levels]
        self._group = group
        self._consumer = consumer
        self._lease_ms = round(lease * 1000)
        self._hash = keys.limits(group)
        self._retry = keys.retry(group)
        self._attempts = keys.attempts(group)
        self._states = keys.limit_prefix(group)
        self._busy = keys.busy_prefix(group)
        self._queues = keys.queue_prefix(group)

    async def admit(self, asks: Sequence[Ask]) -> list[Answer]:
        """Who may start now. What may start has taken its part of every limit; what may not has a place."""
        places: dict[str, int] = {}
        numbers: dict[str, int] = {}
        declared: list[str | int] = []
        rows: list[str | int] = []
        first = 2 + len(self._streams)
        for ask in asks:
            rows += (*ask.place, len(ask.limits))
            for limit, key, reserved in ask.limits:
                if limit.name not in numbers:
                    numbers[limit.name] = len(numbers) + 1
                    declared += (limit.name, *rule(limit.parsed), limit.concurrency or 0)
                name = f"{limit.name}={key}"
                rows += (
                    places.setdefault(self._states + name, len(places) + first),
                    numbers[limit.name],
                    reserved,
                    places.setdefault(self._busy + name, len(places) + first) if limit.concurrency else 0,
                    places.setdefault(self._queues + name, len(places) + first) if limit.concurrency else 0,
                )
        reply = await self._link.call(
            *_ADMIT.command(
                (self._hash, *self._streams, *places),
                self._group,
                PARKED,
                self._lease_ms,
                len(self._states.encode()),
                len(self._levels),
                *self._levels,
                len(numbers),
                *declared,
                *rows,
            )
        )
        return [
            Answer(None) if wait < 0 else Answer(wait / 1000, ask.limits[which - 1][0].name, reserved)
            for ask, wait, which, reserved in zip(asks, reply[::3], reply[1::3], reply[2::3], strict=True)
        ]

    async def hand_over(self, slots: Mapping[Slot, Sequence[tuple[int, str]]], room: int) -> list[Delivery]:
        """Give back the slots of entries, and hand them to those who wait; at most ``room`` of these are taken here."""
        keys: list[str] = []
        arguments: list[Any] = []
        for (limit, key), places in slots.items():
            name = f"{limit.name}={key}"
            keys += (self._busy + name, self._queues + name)
            arguments += (limit.concurrency or 0, len(places), *(member(*place) for place in places))
        reply = await self._link.call(
            *_HAND_OVER.command(
                (self._retry, self._attempts, *self._streams, *keys),
                self._group,
                self._consumer,
                PARKED,
                self._lease_ms,
                room,
                len(self._levels),
                *self._levels,
                *arguments,
            )
        )
        return [
            Delivery(int(level), entry_id.decode(), fields, count, record)
            for level, entry_id, count, record, fields in reply
        ]

    async def throttle(self, limit: str, key: str, seconds: float) -> None:
        """Let nothing of this key start for ``seconds``."""
        await self._link.call(*_THROTTLE.command((f"{self._states}{limit}={key}",), round(seconds * 1000)))

    async def declare(self, limits: Sequence[Limit]) -> None:
        """Write down what the handlers declare, for whoever looks."""
        fields = [part for limit in limits for part in (limit.name + DECLARED, limit.text)]
        if fields:
            await self._link.call("HSET", self._hash, *fields)

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()
