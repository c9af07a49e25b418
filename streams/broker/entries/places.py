"""Where the slots of a limited concurrency are: the keys of a limit and a key under it."""

from __future__ import annotations

from streams.broker.keys import Keys
from streams.policy.limit import Limit

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
