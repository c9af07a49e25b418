"""The fetch loop of a group whose events are lined up by key."""

from __future__ import annotations

import asyncio

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.ordering import FetchingByKey
from streams.common.log_facts import logger_of
from streams.consuming.desk import Desk
from streams.consuming.fetcher import POLL, Fetcher
from streams.consuming.gate import Gate
from streams.consuming.idle import Idling
from streams.consuming.runners import Runners
from streams.consuming.settler import Settler
from streams.errors import BrokerError
from streams.policy.levels import Turns

logger = logger_of("consumer")

_LINE_UP = 0.25
"""Seconds between looks for what is new while every handler is busy: what comes behind a backlog is found in time."""


class LaneFetcher(Fetcher):
    """Reads for one consumer what is next by key; see ``FetchingByKey``."""

    def __init__(  # noqa: PLR0913 - as its base
        self,
        desk: Desk,
        fetching: FetchingByKey,
        runners: Runners,
        settler: Settler,
        idling: Idling,
        gate: Gate,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(desk, fetching, runners, settler, idling, gate, turns)
        self._by_key = fetching
        self._ready = asyncio.Event()
        self._is_blocked = False
        settler.on_ready = self._ready.set

    async def follow(self) -> None:
        """Begin at once what was behind entries that are settled now. Runs until cancelled."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            self._hungry = True
            if self._is_blocked:
                try:
                    await self.take_over(self._by_key.take)
                except BrokerError as error:
                    logger.debug(
                        "cannot go on with keys",
                        extra={"where": self._where, "error": str(error)},
                    )

    async def _read(self, free: int) -> list[Delivery]:
        """Line up what is new, and take what is next; wait if there is nothing of either."""
        if self._hungry:
            taken = await (
                self._by_key.take_turns(self._turns, free)
                if self._turns
                else self._by_key.take(free)
            )
            self._count_vanished()
            self._hungry = bool(taken) or self._by_key.more or not self._by_key.idle
            return taken
        seconds = min(POLL, self._due_at - asyncio.get_running_loop().time())
        self._is_blocked = True
        try:
            if self._ready.is_set():
                return []
            if (news := await self._wait_with_others(seconds, seconds)) is not None:
                self._hungry = news
            elif seconds <= 0.001:
                await asyncio.sleep(max(0.0, seconds))
            else:
                await self._fetching.wait(
                    free, seconds, min(10.0, max(1.0, self._desk.lease / 3))
                )
                self._hungry = True
        finally:
            self._is_blocked = False
        return []

    async def _wait_for_slot(self) -> None:
        while not self._stopping:
            try:
                async with asyncio.timeout(_LINE_UP):
                    await super()._wait_for_slot()
            except TimeoutError:
                await self._by_key.take(0)
                while self._by_key.more and self._runners.free <= 0:
                    await self._by_key.take(0)
            else:
                return

    async def _create_group(self) -> None:
        await super()._create_group()
        before = await self._by_key.declare()
        if before:
            logger.info(
                "order_by was changed; what is lined up goes on by the order before",
                extra={"where": self._where, "before": before},
            )

    def _count_vanished(self) -> None:
        self._stats.vanished += self._by_key.vanished
        self._by_key.vanished = 0
