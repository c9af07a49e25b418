"""The gate: what was fetched and is over a limit goes to its reserved time, before it holds a slot."""

from __future__ import annotations

import logging

from streams.broker.fetch import Delivery
from streams.broker.limits import Ask, Limiting
from streams.codec import decode
from streams.consuming.desk import Desk
from streams.consuming.intake import Intake
from streams.consuming.settler import Settler
from streams.errors import BrokerError, EventTooLarge, MalformedEvent
from streams.handlers import Router
from streams.limit import Limit
from streams.retry import AttemptRecord

logger = logging.getLogger("streams.consumer")


class Gate:
    """Asks the server, once for all that was fetched in one read, which entries may start.

    Args:
        desk: what the parts of the consumer share.
        router: whose routes have the limits.
        limiting: of the group.
        settler: takes what has to wait.
    """

    def __init__(self, desk: Desk, router: Router, limiting: Limiting, settler: Settler) -> None:
        self._desk = desk
        self._router = router
        self._limiting = limiting
        self._settler = settler
        self._intake = Intake(desk, router, settler)

    async def declare(self) -> None:
        """Write down which limits there are."""
        await self._limiting.declare(self._router.limits())

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
            answers = await self._limiting.admit(asks)
        except BaseException:
            for delivery in (*admitted, *asking):
                self._settler.postpone(delivery, 0.0, "released")
            raise
        soonest: float | None = None
        for delivery, answer in zip(asking, answers, strict=True):
            record = AttemptRecord.from_json(delivery.record)
            if answer.wait is None:
                if record.reserved:
                    record.reserved.clear()
                    delivery.record = record.to_json()
                admitted.append(delivery)
                continue
            record.reserved[answer.limit] = answer.reserved
            self._settler.postpone(delivery, answer.wait, "limited", record.to_json())
            soonest = answer.wait if soonest is None else min(soonest, answer.wait)
        return admitted, soonest

    async def throttle(self, limit: str, key: str, seconds: float) -> None:
        """Let nothing of a key start for some time. If the server cannot be told, that is logged."""
        try:
            await self._limiting.throttle(limit, key, seconds)
        except BrokerError as error:
            logger.warning("cannot throttle", extra={"where": self._desk.where, "limit": limit, "error": str(error)})

    async def close(self) -> None:
        """Close its connection."""
        await self._limiting.close()

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
                return Ask(())
            if key is not None:
                limits.append((limit, key, reserved.get(limit.name, 0)))
        return Ask(limits) if limits else None
