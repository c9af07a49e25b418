"""The health of the worker in this process, for the health server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from streams.broker import Broker
from streams.broker.admin.probe import ProbeStore
from streams.consuming.vitals import Vitals
from streams.errors import BrokerError, BrokerUnavailable
from streams.health.judging import Probed, Report, judge_live, judge_ready

REACH_BOUND = 0.8
"""The longest answer of the server in seconds. Orchestrators' probes wait for one second."""
_TICK = 0.25
_FRESH = 1.0


class LoopWatchdog:
    """Detects a blocked event loop, in which it notes the time four times a second."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the time that the loop should have noted."""
        return max(0.0, time.monotonic() - self._at - _TICK)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the running loop while open."""
        task = asyncio.create_task(self._beat(), name="streams-watchdog")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(_TICK)


class WorkerHealth:
    """The worker in this process.

    Args:
        broker: an open broker.
        vitals: returns the state of the worker; called from the server's thread.
        watchdog: the watchdog of the worker's event loop.
    """

    def __init__(
        self, broker: Broker, vitals: Callable[[], Vitals], watchdog: LoopWatchdog
    ) -> None:
        self._vitals = vitals
        self._watchdog = watchdog
        self._observers = broker.observers
        places = [
            (consumer.stream, consumer.group, consumer.levels)
            for consumer in vitals().consumers
        ]
        self._probing = ProbeStore(broker, places)
        self._probed = Probed()
        self._probed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def live(self) -> Report:
        """Whether the process is worth keeping; sends nothing to the server."""
        return judge_live(self._vitals(), self._watchdog.silence)

    async def ready(self) -> Report:
        """Whether the worker can handle events; asks the server at most once a second."""
        async with self._lock:
            if time.monotonic() - self._probed_at > _FRESH:
                self._probed = await self._probe()
                self._probed_at = time.monotonic()

        silence = self._watchdog.silence
        return judge_ready(self._vitals(), silence, self._probed, time.monotonic())

    async def metrics(self) -> bytes:
        """The metrics of the worker."""
        texts = [await observer.exposition() for observer in self._observers]
        return b"".join(texts)

    async def close(self) -> None:
        """Close the connection."""
        await self._probing.close()

    async def _probe(self) -> Probed:
        try:
            async with asyncio.timeout(REACH_BOUND):
                wrong = await self._probing.probe(REACH_BOUND)
        except (TimeoutError, BrokerUnavailable) as error:
            return Probed(unreachable=str(error) or f"no answer within {REACH_BOUND} s")
        except BrokerError as error:
            return Probed(unreachable=str(error))

        return Probed(wrong=tuple(wrong))
