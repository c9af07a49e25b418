"""The sources of a consumer: a plain stream, or one whose events are queued by key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import DueReply, Fetching
from streams.broker.entries.ordering import FetchingByKey
from streams.common.log_facts import logger_of
from streams.consuming.state import ConsumerState
from streams.policy.levels import LevelTurns

logger = logger_of("consumer")

_LINE_UP = 0.25
"""Seconds between looks for new entries while every handler is busy.

Entries behind a backlog are then queued in time.
"""


class Source(ABC):
    """The source of a fetcher. It knows what the next read should look for.

    Args:
        state: shared by the parts of the consumer.
        store: of the group; the server is asked through it.
        turns: how the levels share the reads; None: strictly the highest level first.

    Attributes:
        lines_up_every: seconds between calls of ``line_up`` while every handler is
            busy; None: it is never called.
    """

    lines_up_every: float | None = None

    def __init__(
        self, state: ConsumerState, store: Fetching, turns: LevelTurns | None
    ) -> None:
        self.store = store
        self._state = state
        self._turns = turns
        self._due_turns = turns or LevelTurns()
        self._hungry = True

    def look_again(self) -> None:
        """Look for new entries with the next read, from the highest level on."""
        self._hungry = True

    def heard(self, *, news: bool) -> None:
        """Take over whether there are new entries, as another part has learned."""
        self._hungry = news

    @abstractmethod
    async def read(self, free: int) -> list[Delivery] | None:
        """At most ``free`` entries that are there now; None: to be waited for."""

    @abstractmethod
    async def wait(self, free: int, seconds: float, patience: float) -> list[Delivery]:
        """Block for new entries for ``seconds``; see ``Fetching.wait``."""

    async def take_due(self, free: int) -> DueReply:
        """Due retries, and in turn with them what is new; see ``Fetching.take_due``."""
        return await self.store.take_due(free, 0, self._due_turns)

    async def take_next(self, room: int) -> list[Delivery]:
        """At most ``room`` entries that may start now, whatever was read before."""
        return await self.store.take(room)

    @abstractmethod
    async def line_up(self, is_full: Callable[[], bool]) -> None:
        """Queue the new entries while no handler is free, without taking them."""


class PlainSource(Source):
    """Reads new entries by the cheapest way that keeps the order of levels."""

    def __init__(
        self, state: ConsumerState, store: Fetching, turns: LevelTurns | None
    ) -> None:
        super().__init__(state, store, turns)
        self._count = len(state.levels.descending)
        self._focus: int | None = None
        """The busy level: the last read was full, and of this level only."""

    def look_again(self) -> None:
        """As ``Source.look_again``."""
        self._hungry, self._focus = True, None

    async def read(self, free: int) -> list[Delivery] | None:
        """As ``Source.read``."""
        if self._turns is not None and self._hungry:
            taken = await self.store.take_turns(self._turns, free)
            self._hungry = len(taken) >= free
        elif self._focus is not None and free >= 4 * self._count:
            taken, busy = await self.store.take_from(self._focus, free)
            if not busy:
                self._focus, self._hungry = None, bool(taken)
        elif self._hungry:
            taken = await self.store.take(free)
            self._learn(taken, free)
        else:
            return None
        return taken

    async def wait(self, free: int, seconds: float, patience: float) -> list[Delivery]:
        """As ``Source.wait``."""
        count = max(1, free // self._count)
        taken = await self.store.wait(count, seconds, patience)
        self._hungry = len(taken) >= count
        return taken

    async def line_up(self, is_full: Callable[[], bool]) -> None:
        """Do nothing: new entries wait on the stream."""

    def _learn(self, taken: list[Delivery], asked: int) -> None:
        """A full read of a single level makes that level the busy one."""
        self._hungry = len(taken) >= asked
        levels = {delivery.level for delivery in taken}
        if self._hungry and len(levels) == 1:
            self._focus = levels.pop()
        else:
            # Mixed or short: let the next read find out from the top.
            self._focus = None


class OrderedSource(Source):
    """Queues new entries by key, and reads the next ones."""

    lines_up_every = _LINE_UP

    def __init__(
        self, state: ConsumerState, store: FetchingByKey, turns: LevelTurns | None
    ) -> None:
        super().__init__(state, store, turns)
        self._by_key = store

    async def read(self, free: int) -> list[Delivery] | None:
        """As ``Source.read``."""
        if not self._hungry:
            return None
        by_key = self._by_key
        if self._turns:
            taken = await by_key.take_turns(self._turns, free)
        else:
            taken = await by_key.take(free)
        self._state.stats.vanished += by_key.take_vanished()
        self._hungry = bool(taken) or by_key.more or not by_key.idle
        return taken

    async def wait(self, free: int, seconds: float, patience: float) -> list[Delivery]:
        """As ``Source.wait``; it takes nothing, as new entries are queued first."""
        await self._by_key.wait(free, seconds, patience)
        self._hungry = True
        return []

    async def line_up(self, is_full: Callable[[], bool]) -> None:
        """As ``Source.line_up``."""
        await self._by_key.take(0)
        while self._by_key.more and is_full():
            await self._by_key.take(0)

    async def declare(self) -> None:
        """Write down how the events of the group are queued."""
        before = await self._by_key.declare()
        if before:
            logger.info(
                "order_by was changed; what is lined up goes on by the order before",
                extra={"where": self._state.where, "before": before},
            )
