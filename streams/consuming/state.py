"""The state that the parts of one consumer share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from streams.broker import ServerClock
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.observing import NOBODY, ConsumerId, Observer
from streams.broker.entries.places import Slot
from streams.broker.server.outages import Outages
from streams.consuming.isolation import Isolation
from streams.consuming.options import ConsumerOptions
from streams.consuming.stats import Stats
from streams.policy.levels import Levels


@dataclass(slots=True, kw_only=True)
class ConsumerState:
    """The identity and options of one consumer, and the entries that it holds.

    Attributes:
        id: its stream, group and name.
        options: as it was made with.
        levels: those that it reads.
        concurrency: the most handlers at once; changed by ``limit`` only.
        held: everything fetched whose outcome the server has not confirmed. The leases
            of these entries are renewed.
        unstarted: entries that wait for a runner, since when (monotonic seconds). An
            entry belongs to the part that pops it: its runner, or the lease renewer.
        isolation: the gate of the process, which is closed while a suspect runs.
        unsure: the server may have given this consumer entries that it does not know
            of, for an answer was lost.
        freed: slots that were given back with an outcome, so that others may have them.
        slots_freed: set when there is something new in ``freed``.
        keys_ready: set when entries may start that were behind settled ones of their
            keys.
    """

    id: ConsumerId
    options: ConsumerOptions
    levels: Levels
    clock: ServerClock
    outages: Outages
    isolation: Isolation
    concurrency: int
    observers: tuple[Observer, ...] = NOBODY
    stats: Stats = field(default_factory=Stats)
    held: dict[tuple[int, str], Delivery] = field(default_factory=dict)
    unstarted: dict[int, tuple[Delivery, float]] = field(default_factory=dict)
    unsure: bool = False
    freed: set[Slot] = field(default_factory=set)
    slots_freed: asyncio.Event = field(default_factory=asyncio.Event)
    keys_ready: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, me: GroupConsumer, options: ConsumerOptions) -> ConsumerState:
        """The state of a consumer that holds no entry yet."""
        broker = me.broker
        return cls(
            id=ConsumerId(me.keys.stream, me.group, me.name),
            options=options,
            levels=me.served,
            clock=broker.clock,
            outages=broker.outages,
            isolation=Isolation.of(broker),
            concurrency=options.concurrency,
            observers=broker.observers,
        )

    @property
    def in_hand(self) -> bool:
        """Whether the consumer has an entry, or may have one without knowing it."""
        return bool(self.held) or self.unsure

    @property
    def where(self) -> str:
        """Stream and group, for log lines."""
        return self.id.where

    def limit(self, concurrency: int) -> None:
        """At most so many handlers at once, and never more than the options say."""
        self.concurrency = max(1, min(concurrency, self.options.concurrency))

    def free_slots(self, delivery: Delivery) -> None:
        """Note that the slots of an entry were given back with its outcome."""
        self.freed.update(delivery.slots)
        self.slots_freed.set()
