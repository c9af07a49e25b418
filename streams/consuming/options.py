"""How a consumer works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streams.common.arguments import checked_number, checked_seconds
from streams.errors import ConfigurationError
from streams.events.codec import MAX_EVENT_BYTES
from streams.middleware.base import Middleware
from streams.policy.declaration import AS_IT_IS, Declaration
from streams.policy.levels import (
    Levels,
    LevelTurns,
    checked_levels,
    checked_wait,
    checked_weights,
)
from streams.policy.ordering import NO_LANES, Lanes
from streams.settings import Unsaid


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a consumer works.

    Attributes:
        levels: of the stream; must be the same on its producers.
        concurrency: the most handlers at once; 32 where one is a plain function, unless
            it is set.
        lease: seconds that an entry may stay silent before it counts as stalled;
            renewed every third of it while held. Handlers may run longer than that.
        cancel_grace: seconds that a cancelled handler gets to end before it is
            abandoned.
        max_event_bytes: a larger body goes to the dead letters unread.
        name: of the consumer; made from host, process and start if empty.
        middleware: the middleware around every attempt, outermost first; see
            ``streams.middleware``.
        weights: shares of the levels, one for each; None: strictly the highest level
            first.
        max_wait: seconds after which a waiting event is overdue and gets every second
            place; None: never.
        declaration: the declaration of the stream: retention, further groups, where
            this group begins.
        serve: those of the levels that this consumer reads; None: all of them. The
            group exists on all of them.
        lanes: order and fairness by key; the same on every consumer and reclaimer of
            the group.
    """

    levels: Levels = Levels()
    concurrency: int = Unsaid(100)
    lease: float = 30.0
    cancel_grace: float = 5.0
    max_event_bytes: int = MAX_EVENT_BYTES
    name: str = ""
    middleware: tuple[Middleware, ...] = ()
    weights: Mapping[int, int] | None = None
    max_wait: float | None = None
    declaration: Declaration = AS_IT_IS
    serve: Levels | None = None
    lanes: Lanes = NO_LANES

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", checked_levels(self.levels))
        checked_levels(self.serve, "serve")
        if self.serve is not None and not set(self.serve.ascending) <= set(
            self.levels.ascending
        ):
            wanted, known = (
                ",".join(map(str, levels.ascending))
                for levels in (self.serve, self.levels)
            )
            raise ConfigurationError(
                f"levels to serve {wanted}: give some of the streams' levels, which are {known}"
            )
        checked_number("concurrency", self.concurrency, 1, 100_000)
        checked_seconds("lease", self.lease, 0.3, 86_400)
        checked_seconds("cancel_grace", self.cancel_grace, 0, 3600)
        if self.weights is not None:
            checked_weights(self.weights, self.levels)
        if self.max_wait is not None:
            checked_wait(self.max_wait)
        if self.lanes and self.max_wait is not None:
            raise ConfigurationError(
                "max_wait does not go with order_by or fair_by: give the levels weights instead"
            )

    def turns(self) -> LevelTurns | None:
        """The turns of the levels; None: strictly the highest level first."""
        if self.weights is None and self.max_wait is None:
            return None
        return LevelTurns(self.weights, self.max_wait)
