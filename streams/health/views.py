"""What is served: the health of the worker in this process."""

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
"""Seconds within which the server has to answer: an orchestrator's probe usually waits for one second."""
_TICK = 0.25
_FRESH = 1.0


class Pulse:
    """Shows from outside whether an event loop runs: it notes the time four times a second."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds for which the loop was not heard beyond its usual pause."""
        return max(0.0, time.monotonic() - self._at - _TICK)

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat in the running loop while inside."""
        task = asyncio.create_task(self._beat(), name="streams-pulse")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(_TICK)


class ServedWorker:
    """The worker in this process.

    Args:
        broker: an open broker.
        vitals: takes the worker's vitals; called from the server's thread.
        pulse: of the worker's event loop.
    """

    def __init__(
        self, broker: Broker, vitals: Callable[[], Vitals], pulse: Pulse
    ) -> None:
        self._vitals = vitals
        self._pulse = pulse
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
        """Whether the process is worth keeping; never asks the server."""
        return judge_live(self._vitals(), self._pulse.silence)

    async def ready(self) -> Report:
        """Whether the worker can take events; asks the server at most once a second, however often it is called."""
        async with self._lock:
            if time.monotonic() - self._probed_at > _FRESH:
                self._probed = await self._probe()
                self._probed_at = time.monotonic()
        return judge_ready(
            self._vitals(), self._pulse.silence, self._probed, time.monotonic()
        )

    async def metrics(self) -> bytes:
        """What the worker measures."""
        return b"".join([await observer.exposition() for observer in self._observers])

    async def close(self) -> None:
        """Close the connection."""
        await self._probing.close()

    async def _probe(self) -> Probed:
        try:
            async with asyncio.timeout(REACH_BOUND):
                return Probed(wrong=tuple(await self._probing.probe(REACH_BOUND)))
        except (TimeoutError, BrokerUnavailable) as error:
            return Probed(unreachable=str(error) or f"no answer within {REACH_BOUND} s")
        except BrokerError as error:
            return Probed(unreachable=str(error))
