"""The lease keeper: renews what a consumer holds, from a thread of its own.

A handler that blocks the event loop (a plain ``time.sleep``, a long computation) would otherwise stop the renewals and
lose every lease of the worker. The thread runs its own event loop and its own connection, so it uses the same code.
If even the thread cannot run (the process is stopped), leases are lost; the checks of owner and delivery count in every
script make sure that nothing is then written in the name of the old holder.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping

from streams.broker import Backoff
from streams.broker.fetch import Delivery
from streams.broker.settle import Settling
from streams.errors import BrokerError

logger = logging.getLogger("streams.consumer")


class LeaseKeeper:
    """Renews every third of a lease.

    Args:
        make_settling: makes the broker's writer; called in the thread.
        held: everything fetched and not settled; read, never written.
        lease: seconds.
        on_lost: told, in the thread, about leases that are lost.
    """

    def __init__(
        self,
        make_settling: Callable[[], Settling],
        held: Mapping[tuple[int, str], Delivery],
        lease: float,
        on_lost: Callable[[list[Delivery]], None],
    ) -> None:
        self._make_settling = make_settling
        self._held = held
        self._interval = lease / 3
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="streams-leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Stop the thread and wait for it."""
        await asyncio.to_thread(self._ready.wait, 5.0)
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join, 5.0)

    def _main(self) -> None:
        asyncio.run(self._keep())

    async def _keep(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop = asyncio.Event()
        self._ready.set()
        settling = self._make_settling()
        backoff = Backoff(limit=min(1.0, self._interval))
        wait = self._interval
        while not stop.is_set():
            try:
                async with asyncio.timeout(wait):
                    await stop.wait()
                break
            except TimeoutError:
                pass
            wait = self._interval
            now = time.monotonic()
            held = [delivery for delivery in list(self._held.values()) if delivery.renew_until > now]
            if not held:
                continue
            try:
                lost = await settling.renew(held)
            except BrokerError:
                wait = backoff.next()
                continue
            backoff.reset()
            if lost:
                self._on_lost(lost)
        await settling.close()
