"""The gate: what was fetched and is over a limit goes to its reserved time, before it holds a slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from streams.broker import Backoff
from streams.broker.admit import Admitting, Answer, Ask
from streams.broker.fetch import Delivery
from streams.broker.outages import OUTAGE
from streams.broker.places import Slot
from streams.codec import decode
from streams.consuming.desk import Desk
from streams.consuming.intake import Intake
from streams.consuming.settler import Settler
from streams.errors import BrokerError, EventTooLarge, MalformedEvent
from streams.event import Event
from streams.handlers import Route, Router
from streams.retry import AttemptRecord

logger = logging.getLogger("streams.consumer")


HandOver = Callable[[int], Awaitable[list[Delivery]]]
"""Hands on slots, and returns at most so many entries that have one now."""


class Gate:
    """Asks the server, once for all that was fetched in one read, which entries may start.

    Args:
        desk: what the parts of the consumer share.
        router: whose routes have the limits.
        admitting: of the group.
        settler: takes what has to wait.
    """

    def __init__(self, desk: Desk, router: Router, admitting: Admitting, settler: Settler) -> None:
        self._desk = desk
        self._router = router
        self._admitting = admitting
        self._settler = settler
        self._intake = Intake(desk, router, settler)
        self._freed: set[Slot] = set()
        self._looks = False
        self._news = asyncio.Event()
        settler.on_settled = self._settled

    async def run(self, take_over: Callable[[HandOver], Awaitable[None]]) -> None:
        """Hand on the slots of what is settled, until cancelled; ``take_over`` begins entries that waited for one."""
        backoff = Backoff()
        while True:
            await self._news.wait()
            try:
                await take_over(self.hand_over)
            except BrokerError as error:
                known = (
                    logging.DEBUG if isinstance(error, OUTAGE) else logging.WARNING
                )  # The fetcher tells of an outage.
                logger.log(known, "cannot hand on slots", extra={"where": self._desk.where, "error": str(error)})
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def hand_over(self, room: int) -> list[Delivery]:
        """Hand on the slots of what is settled; returns at most ``room`` entries that have one now.

        Raises:
            BrokerError: the server could not be told; it is told the next time.
        """
        freed, self._freed = self._freed, set()
        looks, self._looks = self._looks, False
        self._news.clear()
        if not freed:
            return []
        try:
            return await self._admitting.hand_over(freed, room, looks=looks)
        except BaseException:
            self._freed |= freed
            self._looks |= looks
            self._news.set()
            raise

    def _settled(self, delivery: Delivery) -> None:
        """Its slots were given back with its outcome. What was put aside asks, too: until now it could have none."""
        self._freed.update(delivery.slots)
        self._looks |= delivery.in_doubt
        self._news.set()

    async def admit(self, deliveries: list[Delivery]) -> tuple[list[Delivery], float | None]:
        """Those that may start, and after how many seconds the first of the others may.

        Raises:
            BrokerError: the server could not be asked; then nothing is decided, and all are given back.
        """
        admitted: list[Delivery] = []
        asking: list[Delivery] = []
        asks: list[Ask] = []
        for delivery in deliveries:
            ask = self._ask(delivery)
            if ask is None:
                admitted.append(delivery)
            elif ask.limits:
                asking.append(delivery)
                asks.append(ask)
        if not asks:
            return admitted, None
        try:
            answers = await self._admitting.admit(asks)
        except BaseException:
            for delivery in (*admitted, *asking):
                self._settler.postpone(delivery, 0.0, "released")
            raise
        soonest: float | None = None
        for delivery, answer in zip(asking, answers, strict=True):
            if self._may_start(delivery, answer):
                admitted.append(delivery)
            elif answer.wait is not None:
                soonest = answer.wait if soonest is None else min(soonest, answer.wait)
        return admitted, soonest

    def _may_start(self, delivery: Delivery, answer: Answer) -> bool:
        """Act on an answer: what has to wait is put aside."""
        record = AttemptRecord.from_json(delivery.record)
        if answer.wait is not None:
            delivery.in_queue = not answer.reserved
            if answer.reserved:
                record.reserved[answer.limit] = answer.reserved
            self._settler.postpone(delivery, answer.wait, "limited", record.to_json() if answer.reserved else b"")
            return False
        if record.reserved:
            record.reserved.clear()
            delivery.record = record.to_json()
        return True

    async def throttle(self, limit: str, key: str, seconds: float) -> None:
        """Let nothing of a key start for some time. If the server cannot be told, that is logged."""
        try:
            await self._admitting.throttle(limit, key, seconds)
        except BrokerError as error:
            logger.warning("cannot throttle", extra={"where": self._desk.where, "limit": limit, "error": str(error)})

    async def close(self) -> None:
        """Close its connection."""
        await self._admitting.close()

    def recognise(self, deliveries: Iterable[Delivery]) -> None:
        """Find out which limits the entries are under, before anything else is decided on them.

        An entry has a slot that was handed on from then on, whatever becomes of the entry: paused, expired, or given
        back for want of room. Its outcome gives the slot back, and must know of it.
        """
        for delivery in deliveries:
            try:
                event = decode(delivery.fields, self._desk.max_event_bytes)
            except (MalformedEvent, EventTooLarge):
                continue  # The intake says so.
            route = self._router.find(event.type)
            if route is None or not route.limits or (event.group and event.group != self._desk.group):
                continue
            event.priority = delivery.level
            delivery.event = event
            find_keys(delivery, event, route)

    def _ask(self, delivery: Delivery) -> Ask | None:
        """None: nothing limits it, or it will not start. Without limits: it was refused."""
        event = delivery.event
        if event is None or (event.meta and event.expires is not None and event.expires <= self._desk.clock.now()):
            return None
        if delivery.unlimited is not None:
            self._intake.refuse(delivery, "invalid", delivery.unlimited, event)
            return Ask(delivery.place, ())
        route = self._router.find(event.type)
        reserved = AttemptRecord.from_json(delivery.record).reserved if delivery.record else {}
        limits = [
            (limit, delivery.limit_keys[limit.name], reserved.get(limit.name, 0))
            for limit in (route.limits if route is not None else ())
            if limit.name in delivery.limit_keys
        ]
        return Ask(delivery.place, limits) if limits else None


def find_keys(delivery: Delivery, event: Event[Any], route: Route) -> None:
    """Write down its key under each limit of its handler, and which slots it may have by that."""
    keys: dict[str, str] = {}
    slots: list[Slot] = []
    for limit in route.limits:
        try:
            key = limit.key_of(event)
        except BaseException as error:  # noqa: BLE001 - the user's function, which is no coroutine
            delivery.unlimited = error
            break
        if key is not None:
            keys[limit.name] = key
            slots += [(limit, key)] if limit.concurrency else []
    delivery.limit_keys, delivery.slots = keys, tuple(slots)
