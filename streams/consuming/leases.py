"""The lease keeper: renews what a consumer holds, from a thread of its own.

A handler that blocks the event loop (a plain ``time.sleep``, a long computation) would otherwise stop the renewals and
lose every lease of the worker. The thread runs its own event loop and its own connection, so it uses the same code.
For the same reason the thread gives back entries that wait for a runner while the loop is blocked: their handlers have
not started, so if the process is killed now they must not count as stalled.

If even the thread cannot run (the process is stopped, or a handler keeps the GIL), leases are lost; the checks of owner
and delivery count in every script make sure that nothing is then written in the name of the old holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from streams.broker import Backoff
from streams.broker.fetch import Delivery
from streams.broker.settle import Postponed, Settling
from streams.consuming.desk import Desk
from streams.errors import BrokerError

logger = logging.getLogger("streams.consumer")

_TICK = 0.05
_LONGEST = 10.0
"""Seconds between renewals, however long the lease: whoever does not know it judges by 30 s and more."""
_PATIENCE = 0.1
_STILL = 1.0
"""Seconds that the thread was not run, from which on that is said."""
_NAMED = 3


class LeaseKeeper:
    """Renews every third of a lease, or every ten seconds if that is more often.

    Args:
        desk: the consumer's; what it holds is read, and what waits for a runner is taken if it waits too long.
        make_settling: makes the broker's writer; called in the thread.
        on_lost: told, in the thread, about leases that are lost.
    """

    def __init__(
        self,
        desk: Desk,
        make_settling: Callable[[], Settling],
        on_lost: Callable[[list[Delivery]], None],
    ) -> None:
        self._make_settling = make_settling
        self._desk = desk
        self._interval = min(desk.lease / 3, _LONGEST)
        self._late: list[Delivery] = []
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._main, name="streams-leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Let the thread renew nothing any more and end. Idempotent, and waits for nothing."""
        self._stopped.set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # It has ended.
                loop.call_soon_threadsafe(stop.set)

    async def close(self) -> None:
        """Stop the thread and wait for it."""
        self.stop()
        await asyncio.to_thread(self._thread.join, 5.0)

    def _main(self) -> None:
        asyncio.run(self._keep())

    async def _keep(self) -> None:
        self._stop = stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stopped.is_set():
            return
        settling = self._make_settling()
        try:
            await self._renew_until(stop, settling)
        finally:
            await settling.close()

    async def _renew_until(self, stop: asyncio.Event, settling: Settling) -> None:
        backoff = Backoff(limit=min(1.0, self._interval))
        renew_at = time.monotonic() + self._interval
        while not stop.is_set():
            began = time.monotonic()
            try:
                async with asyncio.timeout(min(_TICK, self._interval)):
                    await stop.wait()
                break
            except TimeoutError:
                self._say_still(time.monotonic() - began - _TICK)
            try:
                await self._give_back(settling)
                if time.monotonic() < renew_at:
                    continue
                await self._renew(settling)
            except BrokerError:
                renew_at = time.monotonic() + backoff.next()
            else:
                backoff.reset()
                renew_at = time.monotonic() + self._interval

    def _say_still(self, seconds: float) -> None:
        """Say that no thread of the process ran for a while, and what was with handlers then."""
        if seconds < _STILL or not self._desk.held:
            return
        running = [f"{level}|{entry_id}" for level, entry_id in list(self._desk.held)[:_NAMED]]
        logger.warning(
            "the process stood still and could not renew leases: a handler keeps the GIL, or it was stopped",
            extra={
                "where": self._desk.where,
                "seconds": round(seconds, 1),
                "lease": self._desk.lease,
                "in_hand": len(self._desk.held),
                "entries": running,
            },
        )

    async def _renew(self, settling: Settling) -> None:
        now = time.monotonic()
        held = [delivery for delivery in list(self._desk.held.values()) if delivery.renew_until > now]
        if held and (lost := await settling.renew(held)):
            self._on_lost(lost)

    async def _give_back(self, settling: Settling) -> None:
        """Give back what has been waiting for a runner: the event loop does not get to start it."""
        unstarted = self._desk.unstarted
        if unstarted:
            now = time.monotonic()
            waiting = [delivery for delivery, since in list(unstarted.values()) if now - since > _PATIENCE]
            # Taking one out decides the race with its runner, which then leaves it alone.
            taken = [delivery for delivery in waiting if unstarted.pop(id(delivery), None) is not None]
            for delivery in taken:
                delivery.renew_until = 0.0
            self._late += taken
        if self._late:
            await settling.settle((), [Postponed(delivery, 0) for delivery in self._late])
            logger.warning(
                "the event loop is blocked: entries that could not start are given back",
                extra={"where": self._desk.where, "count": len(self._late)},
            )
            self._late = []
