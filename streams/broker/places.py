"""Where the slots of a limited concurrency are: the keys of a limit and a key under it, and giving back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streams.broker.scripts import Command, Script
from streams.keys import PARKED, Keys
from streams.limit import Limit
from streams.priority import Levels

if TYPE_CHECKING:
    from streams.broker.fetch import Delivery

_GIVE_BACK = Script("give_back")

Slot = tuple[Limit, str]
"""A limit with a concurrency, and a key under it."""


class SlotPlaces:
    """The keys of slots and queues of one group."""

    def __init__(self, keys: Keys, group: str) -> None:
        self._busy = keys.busy_prefix(group)
        self._queues = keys.queue_prefix(group)

    def of(self, slot: Slot) -> tuple[str, str]:
        """The taken slots, and the queue, of a limit and a key under it."""
        limit, key = slot
        return self.named(f"{limit.name}={key}")

    def named(self, name: str) -> tuple[str, str]:
        """The same for ``name=key``."""
        return self._busy + name, self._queues + name


class GivingBack:
    """Gives back what entries hold at limits, before their outcome is written.

    Args:
        keys: of the stream.
        levels: of the stream.
        group, consumer: names.
    """

    def __init__(self, keys: Keys, levels: Levels, group: str, consumer: str) -> None:
        self._levels = levels.descending
        self._streams = (keys.config(), keys.retry(group), *(keys.level(level) for level in self._levels))
        self._group = group
        self._consumer = consumer
        self._places = SlotPlaces(keys, group)

    def command(self, deliveries: Sequence[Delivery]) -> Command | None:
        """What is to be sent before the outcomes of these entries; None if none of them asked for a slot."""
        keys: dict[str, int] = {}
        arguments: list[Any] = []
        for delivery in deliveries:
            if delivery.slots and not delivery.in_queue:
                arguments += (*delivery.place, delivery.count, len(delivery.slots))
                arguments += self.indexes(delivery, keys, 1 + len(self._streams))
        if not arguments:
            return None
        places = (*self._streams, *keys)
        owners = (self._group, self._consumer, PARKED)
        return _GIVE_BACK.command(places, *owners, len(self._levels), *self._levels, *arguments)

    def indexes(self, delivery: Delivery, keys: dict[str, int], first: int) -> list[int]:
        """The indexes in KEYS, the first of them ``first``, of an entry's slots and queues; adds to ``keys``."""
        found = []
        for slot in delivery.slots:
            for name in self._places.of(slot):
                found.append(keys.setdefault(name, len(keys) + first))
        return found
