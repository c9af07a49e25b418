"""The gate: decides of each entry that was fetched whether it may start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streams.broker import Backoff
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.places import Slot
from streams.broker.server.outages import OUTAGE
from streams.common.log_facts import logger_of
from streams.consuming.decode import Decoder, UserFunction
from streams.consuming.settler import Settler
from streams.consuming.state import ConsumerState
from streams.errors import BrokerError
from streams.events.event import Event
from streams.events.names import parse_scope
from streams.handlers.routes import Route, Router
from streams.policy.admission import BUSY, EXPIRED, START, SUSPECT, Admission, Kind
from streams.policy.limit import Limit

logger = logger_of("consumer")


HandOver = Callable[[int], Awaitable[list[Delivery]]]
"""Transfers slots, and returns at most so many entries that have one now."""
_OF_BEFORE = (b'"reserved"', b'"held"')


class Gate:
    """Asks, once for all that was fetched in one read, which entries may start.

    The gate itself decides on entries that no limit and no pause covers. It asks the
    server only about the others. The server defers an entry that has to wait, in the
    step in which it says so. An entry that may not start for another reason gets its
    outcome here.

    Args:
        state: shared by the parts of the consumer.
        router: whose routes have the limits.
        decoder: reads entries as events, and refuses those that are none.
        admitting: of the group.
        settler: takes what does not start.
    """

    def __init__(
        self,
        state: ConsumerState,
        router: Router,
        decoder: Decoder,
        admitting: Admitting,
        settler: Settler,
    ) -> None:
        self._state = state
        self._router = router
        self._has_limits = bool(router.limits())
        self._admitting = admitting
        self._settler = settler
        self._decoder = decoder
        self._covering: dict[str, dict[str, list[str]]] = {}
        self.scopes: frozenset[str] = frozenset()
        """The pauses by attribute, as of the last look."""

    def hold(self, scopes: frozenset[str]) -> None:
        """Hold back what these scopes of pauses by attribute cover, from now on."""
        self.scopes, self._covering = scopes, {}
        for scope in sorted(scopes):
            _, _, attribute, value = parse_scope(scope)
            self._covering.setdefault(attribute, {}).setdefault(value, []).append(scope)

    async def admit(
        self, deliveries: Sequence[Delivery], room: int, *, alone: bool = False
    ) -> tuple[list[Delivery], float | None]:
        """Decide which entries may start.

        Returns these, and after how many seconds the first of the others may start;
        None if that is not known.

        At most ``room`` of them, the first ones. A suspect starts ``alone`` or not at
        all. All others have their outcome, or are deferred.

        Raises:
            BrokerError: the server could not be asked; then nothing is decided, and all
                are given back.
        """
        decided, asks = self._told_here(deliveries, room, alone=alone)
        if asks:
            try:
                answers = await self._admitting.admit(asks)
            except BaseException:
                for delivery in (
                    *(row[0] for row in decided),
                    *(ask.delivery for ask in asks),
                ):
                    self._settler.postpone(delivery, 0.0, "released")
                raise
            for ask, answer in zip(asks, answers, strict=True):
                is_late = answer.kind is Kind.START and self._is_over(ask.delivery)
                decided.append((ask.delivery, EXPIRED if is_late else answer))
        return self._act(decided)

    def _told_here(
        self, deliveries: Sequence[Delivery], room: int, *, alone: bool
    ) -> tuple[list[tuple[Delivery, Admission]], list[Ask]]:
        """Decide where no server is needed, and make the questions about the others."""
        decided: list[tuple[Delivery, Admission]] = []
        asks: list[Ask] = []
        may_ask = self._has_limits or self.scopes
        for delivery in deliveries:
            if delivery.record and not alone and delivery.is_suspect:
                # Suspects are not fetched beside others, but an entry that is queued by
                # key is handed out even if it is a suspect.
                decided.append((delivery, SUSPECT))
                continue
            if room <= 0:
                decided.append((delivery, BUSY))
                continue
            room -= 1
            if not self._decoder.decode(delivery):
                continue
            ask = self._question(delivery) if may_ask else None
            if ask is None:
                decided.append(
                    (delivery, EXPIRED if self._is_over(delivery) else START)
                )
            elif ask.limits or ask.scopes:
                asks.append(ask)
        return decided, asks

    def _act(
        self, decided: Sequence[tuple[Delivery, Admission]]
    ) -> tuple[list[Delivery], float | None]:
        """Give each entry that may not start its outcome."""
        starting: list[Delivery] = []
        soonest: float | None = None
        for delivery, admission in decided:
            kind = admission.kind
            if kind is Kind.START:
                if admission.probing:
                    delivery.probing = admission.probing
                if delivery.record:
                    _forget_what_it_waited_for(delivery)
                starting.append(delivery)
            elif kind is Kind.EXPIRED:
                error = TimeoutError("the event expired before it could be handled")
                self._decoder.refuse(delivery, "expired", error, delivery.event)
            elif kind in (Kind.SUSPECT, Kind.BUSY):
                self._settler.postpone(delivery, 0.0, "released")
                soonest = 0.0
            else:
                self._settler.put_aside(delivery, admission)
                if kind in (Kind.RATE, Kind.SLOT):
                    soonest = (
                        admission.wait
                        if soonest is None
                        else min(soonest, admission.wait)
                    )
        return starting, soonest

    def _is_over(self, delivery: Delivery) -> bool:
        """Whether its event has expired."""
        event = delivery.event
        if event is None or not event.meta:
            return False
        expires = event.meta.get("expires")
        return expires is not None and bool(expires <= self._state.clock.now())

    def _question(self, delivery: Delivery) -> Ask | None:
        """Find what the server has to be asked about an entry; None: nothing.

        A question without a limit and a scope says that the entry was refused.
        """
        event = delivery.event
        assert event is not None  # noqa: S101 - for the type checker; the intake has read it
        scopes = self._scopes_of(event) if self._covering else []
        limits: list[Slot] = []
        route = self._router.find(event.type) if self._has_limits else None
        if route is not None and route.limits and not self._is_over(delivery):
            try:
                limits = find_keys(delivery, event, route)
            except KeyFailed as failed:
                self._decoder.refuse(
                    delivery, "invalid", failed.error, event, function=failed.function
                )
                return Ask(delivery)
        return Ask(delivery, limits, scopes) if limits or scopes else None

    def _scopes_of(self, event: Event[Any]) -> list[str]:
        """The pauses that cover an event.

        Those of one group are last: a circuit breaker's may let the event through.
        """
        found: list[str] = []
        for attribute, scopes in self._covering.items():
            value = event.type if attribute == "type" else event.meta.get(attribute)
            if isinstance(value, str):
                found += scopes.get(value, ())
        return sorted(found, key=lambda scope: bool(parse_scope(scope)[0]))

    # --- free slots go to entries that wait for them; the server told the first already

    async def run(self, take_over: Callable[[HandOver], Awaitable[None]]) -> None:
        """Transfer the slots of settled entries, until cancelled.

        ``take_over`` begins the entries that waited for one of them.
        """
        backoff = Backoff()
        while True:
            await self._state.slots_freed.wait()
            try:
                await take_over(self.hand_over)
            except BrokerError as error:
                known = (
                    logging.DEBUG if isinstance(error, OUTAGE) else logging.WARNING
                )  # The fetcher tells of an outage.
                logger.log(
                    known,
                    "cannot hand on slots",
                    extra={"where": self._state.where, "error": str(error)},
                )
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def hand_over(self, room: int) -> list[Delivery]:
        """Transfer the slots of settled entries; return at most ``room`` that have one now.

        Raises:
            BrokerError: the server could not be told; it is told the next time.
        """
        state = self._state
        freed, state.freed = state.freed, set()
        state.slots_freed.clear()
        if not freed:
            return []
        try:
            return await self._admitting.hand_over(freed, room)
        except BaseException:
            state.freed |= freed
            state.slots_freed.set()
            raise

    async def throttle(self, limit: str, key: str, seconds: float) -> None:
        """Let nothing of a key start for some time; a failure is logged."""
        try:
            await self._admitting.throttle(limit, key, seconds)
        except BrokerError as error:
            logger.warning(
                "cannot throttle",
                extra={"where": self._state.where, "limit": limit, "error": str(error)},
            )

    async def close(self) -> None:
        """Close its connection."""
        await self._admitting.close()


class KeyFailed(Exception):  # noqa: N818 - what the user's function raised is the error
    """The function that makes the key of a limit has raised ``error``."""

    def __init__(self, limit: Limit, error: BaseException) -> None:
        super().__init__(limit.name)
        name = getattr(limit.by, "__qualname__", type(limit.by).__name__)
        assert callable(limit.by)  # noqa: S101 - for the type checker; an attribute can be read
        self.function = UserFunction(
            f"the key function {name} of the limit {limit.name!r}", limit.by
        )
        self.error = error


def find_keys(delivery: Delivery, event: Event[Any], route: Route) -> list[Slot]:
    """The limits that an entry is under, with its key under each; the entry is told of them.

    Raises:
        KeyFailed: a function of the user's that makes a key has failed.
    """
    found: list[Slot] = []
    for limit in route.limits:
        try:
            key = limit.key_of(event)
        except BaseException as error:
            # The user's function, which is no coroutine.
            raise KeyFailed(limit, error) from error
        if key is not None:
            found.append((limit, key))
    delivery.limit_keys = {limit.name: key for limit, key in found}
    delivery.slots = tuple((limit, key) for limit, key in found if limit.concurrency)
    return found


def _forget_what_it_waited_for(delivery: Delivery) -> None:
    """An older version wrote that into the attempt record; it starts now, so that is over."""
    if any(mark in delivery.record for mark in _OF_BEFORE):
        delivery.record = delivery.history().to_json()
