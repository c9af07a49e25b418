"""The lease renewer: renews the leases of a consumer's entries, from another thread.

A handler that blocks the event loop (a plain ``time.sleep``, a long computation) would
otherwise stop the renewals and lose every lease of the worker. The thread runs its own
event loop and its own connection, so it uses the same code; all renewers of a process
share it. For the same reason the thread gives back entries that wait for a runner while
the loop is blocked: their handlers have not started, so if the process is killed now
they must not count as stalled.

If even the thread cannot run (the process is stopped, or a handler keeps the GIL),
leases are lost. Every script checks the owner and the delivery count, so that nothing
is then written in the name of the old holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from streams.broker import Backoff
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.settle import Postponed, Settling
from streams.common.log_facts import logger_of
from streams.consuming.lease_thread import TICK, LeaseThread
from streams.consuming.state import ConsumerState
from streams.errors import BrokerError

if TYPE_CHECKING:
    from streams.broker.server.link import Link

logger = logger_of("consumer")

_LONGEST = 10.0
"""The most seconds between renewals, however long the lease.

A reclaimer that does not know the lease judges by 30 s and more.
"""
_STILL = 1.0
"""Seconds that the thread was not run, from which on that is said."""
_NAMED = 3
_PATIENCE = 0.1
_LAST_TRIP = 5.0
"""Seconds that a trip which is under way gets when the consumer ends."""


class LeaseRenewer:
    """Renews every third of a lease, or every ten seconds if that is more often.

    Args:
        state: the consumer's. Held entries are read from it, and an entry that waits
            too long for a runner is taken from it.
        thread: that it runs in.
        make_settling: makes the broker's writer, which uses the thread's connection;
            called in the thread.
        on_lost: told, in the thread, about leases that are lost.
    """

    def __init__(
        self,
        state: ConsumerState,
        thread: LeaseThread,
        make_settling: Callable[[Link], Settling],
        on_lost: Callable[[list[Delivery]], None],
    ) -> None:
        self._make_settling = make_settling
        self._state = state
        self._interval = min(state.options.lease / 3, _LONGEST)
        self._renew_at = 0.0
        self._looked_at = math.inf
        self._late: list[Delivery] = []
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._stopped = threading.Event()
        self._thread = thread
        self._home: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._has_ended = False

    def start(self) -> None:
        """Run in the thread from now on."""
        self._home = asyncio.get_running_loop()
        self._thread.add(self)

    @property
    def alive(self) -> bool:
        """Whether leases are renewed."""
        return not self._has_ended and self._thread.alive

    def stop(self) -> None:
        """Renew nothing any more. Idempotent; may be called in any thread."""
        self._stopped.set()
        loop, news = self._loop, self._news
        if loop is not None and news is not None:
            with contextlib.suppress(RuntimeError):  # It has ended.
                loop.call_soon_threadsafe(news.set)

    async def close(self) -> None:
        """Stop, and wait until nothing is under way any more."""
        self.stop()
        if not self.alive:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_TRIP):
                await self._end.wait()

    def ended(self) -> None:
        """Called in the thread when ``keep`` has returned."""
        self._has_ended = True
        if self._home is not None:
            with contextlib.suppress(RuntimeError):  # The consumer's loop has ended.
                self._home.call_soon_threadsafe(self._end.set)

    def look(self, now: float) -> None:
        """Wake ``keep`` if something is to be renewed, or may have to be given back.

        Called in the thread.
        """
        self._say_still(now - self._looked_at - TICK)
        self._looked_at = now
        if now >= self._renew_at and not self._state.held:
            self._renew_at = now + self._interval
        if self._news is not None and (
            now >= self._renew_at or self._state.unstarted or self._late
        ):
            self._news.set()

    async def keep(self, link: Link) -> None:
        """Renew until stopped. Runs in the thread."""
        self._news = news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._renew_at = time.monotonic() + self._interval
        settling = self._make_settling(link)
        backoff = Backoff(limit=min(1.0, self._interval))
        while not self._stopped.is_set():
            await news.wait()
            news.clear()
            if self._stopped.is_set():
                return
            try:
                await self._give_back(settling)
                if time.monotonic() < self._renew_at:
                    continue
                await self._renew(settling)
            except BrokerError:
                self._renew_at = time.monotonic() + backoff.next()
            else:
                backoff.reset()
                self._renew_at = time.monotonic() + self._interval

    def _say_still(self, seconds: float) -> None:
        """Log that the process stood still for a while, and the entries held then."""
        if seconds < _STILL or not self._state.held:
            return
        running = [
            f"{level}|{entry_id}" for level, entry_id in list(self._state.held)[:_NAMED]
        ]
        logger.warning(
            "the process stood still and could not renew leases: "
            "a handler keeps the GIL, or it was stopped",
            extra={
                "where": self._state.where,
                "seconds": round(seconds, 1),
                "lease": self._state.options.lease,
                "in_hand": len(self._state.held),
                "entries": running,
            },
        )

    async def _renew(self, settling: Settling) -> None:
        now = time.monotonic()
        held = [
            delivery
            for delivery in list(self._state.held.values())
            if delivery.renew_until > now
        ]
        if held and (lost := await settling.renew(held)):
            self._on_lost(lost)

    async def _give_back(self, settling: Settling) -> None:
        """Give back what has been waiting for a runner: the event loop does not get to start it."""
        unstarted = self._state.unstarted
        if unstarted:
            now = time.monotonic()
            waiting = [
                delivery
                for delivery, since in list(unstarted.values())
                if now - since > _PATIENCE
            ]
            # Taking one out decides the race with its runner, which then leaves it
            # alone.
            taken = [
                delivery
                for delivery in waiting
                if unstarted.pop(id(delivery), None) is not None
            ]
            for delivery in taken:
                delivery.renew_until = 0.0
            self._late += taken
        if self._late:
            await settling.settle(
                (), [Postponed(delivery, 0) for delivery in self._late]
            )
            logger.warning(
                "the event loop is blocked: entries that could not start are given back",
                extra={"where": self._state.where, "count": len(self._late)},
            )
            self._late = []
