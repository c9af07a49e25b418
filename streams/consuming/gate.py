"""The gate: what was fetched and is over a limit goes to its reserved time, before it holds a slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from streams.broker import Backoff
from streams.broker.admit import Admitting, Answer, Ask, Slot
from streams.broker.fetch import Delivery
from streams.codec import decode
from streams.consuming.desk import Desk
from streams.consuming.intake import Intake
from streams.consuming.settler import Settler
from streams.errors import BrokerError, EventTooLarge, MalformedEvent
from streams.handlers import Router
from streams.limit import Limit
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
        self._freed: dict[Slot, list[tuple[int, str]]] = {}
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
                logger.warning("cannot hand on slots", extra={"where": self._desk.where, "error": str(error)})
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    async def hand_over(self, room: int) -> list[Delivery]:
        """Give back the slots of what is settled; returns at most ``room`` entries that have one now.

        Raises:
            BrokerError: the server could not be told; it is told the next time.
        """
        freed, self._freed = self._freed, {}
        self._news.clear()
        if not freed:
            return []
        try:
            return await self._admitting.hand_over(freed, room)
        except BaseException:
            for slot, places in freed.items():
                self._freed.setdefault(slot, []).extend(places)
            self._news.set()
            raise

    def _settled(self, delivery: Delivery) -> None:
        for slot in delivery.slots:
            # What was put aside has none, and may have been given one since, with another delivery. It asks all the
            # same: while it was being put aside nobody could hand it one.
            freed = self._freed.setdefault(slot, [])
            if delivery.has_slots:
                freed.append(delivery.place)
        self._news.set()

    async def declare(self) -> None:
        """Write down which limits there are."""
        await self._admitting.declare(self._router.limits())

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
            if answer.reserved:
                record.reserved[answer.limit] = answer.reserved
            self._settler.postpone(delivery, answer.wait, "limited", record.to_json() if answer.reserved else b"")
            return False
        delivery.has_slots = True
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

    def _ask(self, delivery: Delivery) -> Ask | None:
        """None: nothing limits it. Without limits: it was refused."""
        try:
            event = decode(delivery.fields, self._desk.max_event_bytes)
        except (MalformedEvent, EventTooLarge):
            return None  # The intake says so.
        route = self._router.find(event.type)
        if route is None or not route.limits or (event.group and event.group != self._desk.group):
            return None
        if event.meta and event.expires is not None and event.expires <= self._desk.clock.now():
            return None
        event.priority = delivery.level
        delivery.event = event
        reserved = AttemptRecord.from_json(delivery.record).reserved if delivery.record else {}
        limits: list[tuple[Limit, str, int]] = []
        for limit in route.limits:
            try:
                key = limit.key_of(event)
            except Exception as error:  # noqa: BLE001 - the user's function
                self._intake.refuse(delivery, "invalid", error, event)
                return Ask(delivery.place, ())
            if key is not None:
                limits.append((limit, key, reserved.get(limit.name, 0)))
        delivery.limit_keys = {limit.name: key for limit, key, _ in limits}
        delivery.slots = tuple((limit, key) for limit, key, _ in limits if limit.concurrency)
        return Ask(delivery.place, limits) if limits else None
