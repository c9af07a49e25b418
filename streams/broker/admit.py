"""admit, hand over, throttle: who of the fetched may start now, and who follows."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.connection import Broker
from streams.broker.fetch import Delivery
from streams.broker.limits import rule
from streams.broker.places import Slot, SlotPlaces
from streams.broker.redeclare import Queues
from streams.broker.scripts import Script
from streams.keys import PARKED, Keys
from streams.limit import Limit
from streams.priority import Levels

if TYPE_CHECKING:
    from streams.broker.link import Link

_ADMIT = Script("admit")
_HAND_OVER = Script("hand_over")
_THROTTLE = Script("throttle")


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
        lease: seconds of the consumer's own leases.
        serve: the levels that the consumer reads; None: all of them.
        link: the connection to use; None: one of its own.
    """

    def __init__(  # noqa: PLR0913 - where it asks, and for whom
        self,
        broker: Broker,
        keys: Keys,
        levels: Levels,
        group: str,
        consumer: str,
        lease: float,
        serve: Levels | None = None,
        link: Link | None = None,
    ) -> None:
        self._link = link or broker.link()
        self._keys = keys
        self._all_levels = levels
        self._levels = levels.descending
        self._serve = (serve or levels).descending
        self._streams = [keys.level(level) for level in self._levels]
        self._group = group
        self._consumer = consumer
        self._lease_ms = round(lease * 1000)
        self._hash = keys.limits(group)
        self._retry = keys.retry(group)
        self._attempts = keys.attempts(group)
        self._paused = keys.paused()
        self._waiting = keys.queues(group)
        self._leases = (keys.leases(group), keys.workers(group))
        self._states = keys.limit_prefix(group)
        self._places = SlotPlaces(keys, group)

    async def admit(self, asks: Sequence[Ask]) -> list[Answer]:
        """Who may start now. What may start has taken its part of every limit; what may not has a place."""
        places: dict[str, int] = {}
        numbers: dict[str, int] = {}
        declared: list[str | int] = []
        rows: list[str | int] = []
        first = 7 + len(self._streams)
        for ask in asks:
            rows += (*ask.place, len(ask.limits))
            for limit, key, reserved in ask.limits:
                if limit.name not in numbers:
                    numbers[limit.name] = len(numbers) + 1
                    declared += (limit.name, *rule(limit.parsed), limit.concurrency or 0)
                busy, queue = self._places.of((limit, key))
                rows += (
                    places.setdefault(f"{self._states}{limit.name}={key}", len(places) + first),
                    numbers[limit.name],
                    reserved,
                    places.setdefault(busy, len(places) + first) if limit.concurrency else 0,
                    places.setdefault(queue, len(places) + first) if limit.concurrency else 0,
                )
        reply = await self._link.call(
            *_ADMIT.command(
                (self._hash, self._retry, self._paused, self._waiting, *self._leases, *self._streams, *places),
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

    async def hand_over(self, slots: Iterable[Slot], room: int, *, looks: bool = False) -> list[Delivery]:
        """Give the free slots of these keys to those who wait for them; at most ``room`` of these are taken here.

        ``looks``: look first whether those who have the slots are alive.
        """
        queues = {f"{limit.name}={key}": limit.concurrency or 0 for limit, key in slots}
        return await self._hand_over(queues, room, looks=looks)

    async def look_after_queues(self, known: Container[str] | None = None, *, only_release: bool = False) -> None:
        """Hand on what nobody has: slots of workers that were lost, and of which nothing waits to be told any more.

        ``known``: names of the limits with slots, as the handlers declare them. What waits for others, which workers of
        before know, would never be told by those of now: it asks anew. None: they are not known. ``only_release``: do
        nothing but that.
        """
        queues = Queues(self._link, self._keys, self._all_levels, self._group)
        async for page in queues.pages():
            foreign = [name for name in page if known is not None and name.partition("=")[0] not in known]
            for name in foreign:
                await queues.release(name)
            # One whose concurrency cannot be read is looked after when the next one queues there, who writes it anew.
            kept = {name: most for name, most in page.items() if name not in foreign and most > 0}
            if kept and not only_release:
                await self._hand_over(kept, 0, looks=True)

    async def _hand_over(self, queues: Mapping[str, int], room: int, *, looks: bool) -> list[Delivery]:
        keys: list[str] = []
        arguments: list[Any] = []
        for name, most in queues.items():
            keys += self._places.named(name)
            arguments += (name, most)
        reply = await self._link.call(
            *_HAND_OVER.command(
                (self._retry, self._attempts, self._paused, self._waiting, *self._leases, *self._streams, *keys),
                self._group,
                self._consumer,
                PARKED,
                self._lease_ms,
                room,
                int(looks),
                len(self._levels),
                *self._levels,
                len(self._serve),
                *self._serve,
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

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()
