"""The thread of the lease renewers: one for all groups that share a broker.

A thread per group would be hundreds of threads in a process with hundreds of groups,
each of which wakes twenty times a second for nothing. This one looks at all of them in
one go, and wakes only those that have something to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from typing import TYPE_CHECKING, Protocol

from streams.broker import Broker
from streams.broker.entries.settle import link_for_leases
from streams.common.log_facts import logger_of

if TYPE_CHECKING:
    from streams.broker.server.link import Link

logger = logger_of("consumer")

TICK = 0.05
"""Seconds between two looks at what the renewers have to do."""


class Renewer(Protocol):
    """Keeps the leases of one consumer."""

    async def keep(self, link: Link) -> None:
        """Keep them until told to stop. Runs in the thread."""

    def look(self, now: float) -> None:
        """Wake ``keep`` if there is something to do."""

    def ended(self) -> None:
        """``keep`` has returned."""


class LeaseThread:
    """Runs renewers for as long as there are any; the thread ends with the last one.

    Args:
        broker: that their consumers use.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = weakref.ref(broker)
        self._lock = threading.Lock()
        self._renewers: set[Renewer] = set()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, broker: Broker) -> LeaseThread:
        """The one of a broker."""
        with _making:
            return _threads.setdefault(broker, cls(broker))

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def add(self, renewer: Renewer) -> None:
        """Run a renewer.

        The thread is started if there is none, or a fork has left it behind.
        """
        broker = self._broker()
        assert broker is not None  # noqa: S101 - for the type checker
        with self._lock:
            is_new = not self.alive
            if is_new:
                self._renewers = set()
                self._thread = threading.Thread(
                    target=self._main,
                    args=(broker,),
                    name="streams-leases",
                    daemon=True,
                )
            self._renewers.add(renewer)
            if is_new and self._thread is not None:
                self._thread.start()

    def _main(self, broker: Broker) -> None:
        asyncio.run(self._run(broker))

    async def _run(self, broker: Broker) -> None:
        link = link_for_leases(broker)
        running: dict[Renewer, asyncio.Task[None]] = {}
        ended = asyncio.Event()
        try:
            while self._start_new(running, link, ended):
                now = time.monotonic()
                for renewer in running:
                    renewer.look(now)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK):
                        # A consumer that stops need not wait for a tick.
                        await ended.wait()
                ended.clear()
                for renewer in [
                    renewer for renewer, task in running.items() if task.done()
                ]:
                    self._remove(renewer, running.pop(renewer))
        finally:
            await link.close()

    def _start_new(
        self,
        running: dict[Renewer, asyncio.Task[None]],
        link: Link,
        ended: asyncio.Event,
    ) -> bool:
        """Start the renewers that were added.

        False: there is none left, so this thread ends.
        """
        with self._lock:
            if not self._renewers:
                self._thread = None
                return False
            for renewer in self._renewers - running.keys():
                task = running[renewer] = asyncio.create_task(
                    renewer.keep(link), name="streams-leases"
                )
                task.add_done_callback(lambda _: ended.set())
            return True

    def _remove(self, renewer: Renewer, task: asyncio.Task[None]) -> None:
        with self._lock:
            self._renewers.discard(renewer)
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "a lease keeper ended although nothing told it to",
                exc_info=task.exception(),
            )
        renewer.ended()


_making = threading.Lock()
_threads: weakref.WeakKeyDictionary[Broker, LeaseThread] = weakref.WeakKeyDictionary()
