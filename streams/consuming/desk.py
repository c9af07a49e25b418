"""What the parts of one consumer share."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.broker import ServerClock
from streams.broker.entries import observing
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.observing import NOBODY, Observer
from streams.broker.server.outages import Outages
from streams.consuming.isolation import Isolation
from streams.consuming.stats import Stats
from streams.policy.levels import Levels


@dataclass(slots=True)
class Desk:
    """Names, limits, the server's clock, and the entries in hand. Only ``concurrency`` may change.

    ``held`` is everything fetched whose outcome the server has not confirmed; its leases are renewed.
    Durations are in seconds.
    """

    stream: str
    group: str
    consumer: str
    clock: ServerClock
    levels: Levels
    concurrency: int
    lease: float
    cancel_grace: float
    max_event_bytes: int
    outages: Outages
    observers: tuple[Observer, ...] = NOBODY
    stats: Stats = field(default_factory=Stats)
    held: dict[tuple[int, str], Delivery] = field(default_factory=dict)
    unstarted: dict[int, tuple[Delivery, float]] = field(default_factory=dict)
    """Entries that wait for a runner, since when (monotonic). Who pops one has it: its runner, or the lease keeper."""
    isolation: Isolation = field(default_factory=Isolation)
    """The gate of the process, which is closed while a suspect runs."""
    unsure: bool = False
    """The server may have given this consumer entries that it does not know of: an answer was lost."""

    @property
    def in_hand(self) -> bool:
        """Whether the consumer has an entry, or may have one without knowing it."""
        return bool(self.held) or self.unsure

    @property
    def seat(self) -> observing.Desk:
        """Who sits here, for those who look on."""
        return observing.Desk(self.stream, self.group, self.consumer)

    @property
    def where(self) -> str:
        """Stream and group, for log lines."""
        return f"{self.stream}/{self.group}"
