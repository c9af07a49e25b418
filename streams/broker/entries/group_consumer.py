"""A consumer of a group, as every module that talks to the server for it takes it."""

from __future__ import annotations

from dataclasses import dataclass

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.policy.levels import Levels


@dataclass(frozen=True, slots=True)
class GroupConsumer:
    """One consumer, or reclaimer, of one group of one stream.

    Attributes:
        broker: an open broker.
        keys: of the stream.
        levels: of the stream, all of them.
        group: its name.
        name: of the consumer.
        lease: seconds of its leases; 0.0: it does not say.
        serve: those of the levels that it reads; None: all of them.
    """

    broker: Broker
    keys: Keys
    levels: Levels
    group: str
    name: str
    lease: float = 0.0
    serve: Levels | None = None

    @property
    def served(self) -> Levels:
        """The levels that it reads."""
        return self.serve or self.levels

    @property
    def lease_ms(self) -> int:
        """Its lease in milliseconds."""
        return round(self.lease * 1000)
