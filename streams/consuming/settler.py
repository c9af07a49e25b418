"""The settler: writes outcomes, many per trip, without a timer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal

from streams.broker import Backoff
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.observing import Settled
from streams.broker.entries.settle import (
    DONE,
    LOST,
    Buried,
    Postponed,
    Settlement,
    Settling,
    was_written,
)
from streams.broker.server.outages import OUTAGE
from streams.common.log_facts import logger_of
from streams.consuming.state import ConsumerState
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, GroupMissing
from streams.policy.admission import Admission, Kind

logger = logger_of("consumer")

Why = Literal["retried", "snoozed", "released"]


@dataclass(slots=True)
class Given:
    """Outcomes that are to be written."""

    done: list[Delivery] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    buried: list[Buried] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.done or self.postponed or self.buried)

    @property
    def deliveries(self) -> list[Delivery]:
        """The entries."""
        postponed = [row.delivery for row in self.postponed]
        return [*self.done, *postponed, *(row.delivery for row in self.buried)]

    def add(self, others: Given) -> None:
        """Write these, too."""
        self.done += others.done
        self.postponed += others.postponed
        self.buried += others.buried

    def without(self, places: Container[tuple[int, str]]) -> Given:
        """The outcomes that remain without those of the entries at these places."""
        return Given(
            [row for row in self.done if row.place not in places],
            [row for row in self.postponed if row.delivery.place not in places],
            [row for row in self.buried if row.delivery.place not in places],
        )


class Settler:
    """Takes outcomes from the runners and writes them.

    It sends what is there as soon as the last trip returned: a lone event is settled at
    once, a flood in batches. An entry counts as held until the server has confirmed its
    outcome, so its lease is kept through an outage.
    """

    def __init__(self, state: ConsumerState, settling: Settling) -> None:
        self._state = state
        self._settling = settling
        self._held = state.held
        self._isolation = state.isolation
        self._stats = state.stats
        self._where = state.where
        self._observers = state.observers
        self._id = state.id
        self._given = Given()
        self._why: dict[int, Why] = {}
        self._news = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._written = asyncio.Event()
        self._aside = 0
        self._refused = ""
        self.unsettled = 0

    def done(self, delivery: Delivery) -> None:
        """The handler returned: acknowledge."""
        self._given.done.append(delivery)
        self._announce()

    def postpone(
        self, delivery: Delivery, delay: float, why: Why, record: bytes = b""
    ) -> None:
        """Put the entry back, due in ``delay`` seconds.

        ``record`` replaces its attempt record unless it is empty.
        """
        self._why[id(delivery)] = why
        self._given.postponed.append(Postponed(delivery, round(delay * 1000), record))
        self._announce()

    def bury(self, delivery: Delivery, reason: str, record: bytes) -> None:
        """Move the entry to the dead letters."""
        self._given.buried.append(Buried(delivery, reason, record))
        self._announce()

    def put_aside(self, delivery: Delivery, admission: Admission) -> None:
        """Let go of an entry that may not start.

        The server has put it aside, or it is not this consumer's any more.
        """
        self._let_go(delivery)
        if admission.kind is Kind.LOST:
            self._stats.lost += 1
        elif admission.kind is Kind.GONE:
            self._stats.vanished += 1
        elif admission.scope:
            self._stats.held += 1
        else:
            self._stats.limited += 1
            if self._observers:
                waits = Postponed(delivery, round(admission.wait * 1000))
                settled = Settled(time.time_ns(), [], [(waits, "limited")], [])
                for observer in self._observers:
                    observer.settled(self._id, settled)

    def drop(self, delivery: Delivery) -> None:
        """The lease is lost: nothing may be written about the entry any more."""
        self._let_go(delivery)

    def _let_go(self, delivery: Delivery) -> None:
        if self._held.get(delivery.place) is delivery:
            del self._held[delivery.place]
            if not self._held:
                self._isolation.tell()

    def _announce(self) -> None:
        self.unsettled += 1
        self._news.set()
        self._quiet.clear()

    async def rest(self) -> None:
        """Do without a connection until there is something to write."""
        if not self.unsettled:
            await self._settling.rest()

    async def wait_quiet(self) -> None:
        """Return once everything given so far is settled."""
        await self._quiet.wait()

    async def wait_trip(self, seconds: float) -> None:
        """Return when the next outcomes are written, but after ``seconds`` at the latest."""
        self._written.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._written.wait()

    async def run(self) -> None:
        """Settle until cancelled.

        Raises:
            AccessDenied: the user lacks a permission; waiting would not help.
        """
        backoff = Backoff(limit=5.0)
        while True:
            await self._news.wait()
            self._news.clear()
            given, self._given = self._given, Given()
            certain = True
            while given:
                began = time.time_ns()
                try:
                    settlement = await self._settling.settle(
                        given.done, given.postponed, given.buried
                    )
                except OUTAGE:
                    # Sending again is safe: an entry that the first try settled is then
                    # seen as lost or as already acknowledged.
                    certain = False
                    await asyncio.sleep(backoff.next())
                    continue
                self._written.set()
                if settlement.ready:
                    self._state.keys_ready.set()
                self._tell(settlement, given, began, certain=certain)
                refused = self._count(settlement, given, certain=certain)
                given = given.without(settlement.statuses)
                if refused is None:
                    if not self._aside:
                        backoff.reset()
                        self._refused = ""
                elif isinstance(refused, GroupMissing):
                    # The pending list is gone with the group: the entries will be
                    # delivered anew.
                    for delivery in given.deliveries:
                        self._forget(delivery)
                        self._stats.lost += 1
                    break
                else:
                    self._set_aside(given, backoff.next())
                    break
            if not self.unsettled:
                self._quiet.set()

    def _tell(
        self, settlement: Settlement, given: Given, began: int, *, certain: bool
    ) -> None:
        """Tell observers of a trip's outcomes. Without observers no object is built."""
        if not self._observers:
            return
        statuses = settlement.statuses
        lost = list(statuses.values()).count(LOST) + settlement.ack_shortfall
        settled = Settled(
            began,
            [delivery for delivery in given.done if delivery.place in statuses],
            [
                (p, self._why[id(p.delivery)])
                for p in given.postponed
                if was_written(statuses, p.delivery, certain=certain)
            ],
            [
                b
                for b in given.buried
                if was_written(statuses, b.delivery, certain=certain)
            ],
            lost if certain else 0,
        )
        for observer in self._observers:
            observer.settled(self._id, settled)

    def _set_aside(self, given: Given, seconds: float) -> None:
        """Try refused outcomes again later, so that they do not hold up the others."""

        def again() -> None:
            self._aside -= 1
            self._given.add(given)
            self._news.set()

        self._aside += 1
        asyncio.get_running_loop().call_later(seconds, again)

    def _forget(self, delivery: Delivery) -> None:
        self._let_go(delivery)
        if delivery.slots:
            self._state.free_slots(delivery)
        self._why.pop(id(delivery), None)
        self.unsettled -= 1

    def _count(
        self, settlement: Settlement, given: Given, *, certain: bool
    ) -> BrokerError | None:
        statuses = settlement.statuses
        finished = 0
        for delivery in given.done:
            if delivery.place in statuses:
                self._forget(delivery)
                finished += 1
        lost = settlement.ack_shortfall if certain else 0
        self._stats.done += finished
        for row in given.postponed:
            status = statuses.get(row.delivery.place)
            if status is not None:
                why = self._why[id(row.delivery)]
                lost += self._end(row.delivery, status, why, certain=certain)
        for letter in given.buried:
            status = statuses.get(letter.delivery.place)
            if status is not None:
                lost += self._end(letter.delivery, status, "dead", certain=certain)
        if lost:
            self._stats.lost += lost
            logger.warning(
                "lease lost before settling",
                extra={"where": self._where, "count": lost},
            )
        if settlement.refused is not None and not isinstance(
            settlement.refused, BrokerUnavailable
        ):
            self._say_refused(settlement.refused)
        return settlement.refused

    def _say_refused(self, refused: BrokerError) -> None:
        """Once, however often it is tried.

        Raises:
            AccessDenied: that is what it is.
        """
        if str(refused) != self._refused:
            self._refused = str(refused)
            logger.error(
                "the server refuses to settle",
                extra={"where": self._where, "error": self._refused},
            )
        if isinstance(refused, AccessDenied):
            raise refused

    def _end(
        self, delivery: Delivery, status: int, outcome: str, *, certain: bool
    ) -> int:
        """Count one outcome; returns 1 if it was a lost lease."""
        self._forget(delivery)
        if status == DONE or (status == LOST and not certain):
            setattr(self._stats, outcome, getattr(self._stats, outcome) + 1)
        elif status == LOST:
            return 1
        else:
            self._stats.vanished += 1
        return 0
