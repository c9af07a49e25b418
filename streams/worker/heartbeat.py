"""The heartbeat of a worker: its presence and its statistics, stored on the server."""

from __future__ import annotations

import asyncio
import math
import os
import platform
import socket
import time
from collections.abc import Sequence
from typing import Any

from streams.broker import Broker
from streams.broker.admin.figures import FigureStore
from streams.common.log_facts import logger_of
from streams.consumer import Consumer
from streams.errors import BrokerError
from streams.events.names import member
from streams.version import __version__

logger = logger_of("worker")
EVERY = 10.0
"""Seconds between two heartbeats."""
_LOOK = 1.0
"""Seconds between two checks for a suspect, whose process starts nothing else."""
_AT_ONCE = 32
"""The most groups whose statistics are written at once."""
_MOST_RUNS = 20
"""The most attempts of a group that are listed with their start."""
_COUNTED = ("fetched", "done", "retried", "dead", "snoozed", "limited", "lost")


class Heartbeat:
    """Writes the statistics of a worker's consumers: a command per group and ten seconds.

    Statistics that cannot be written are kept for the next time. They are not
    guaranteed: a killed worker loses those of the last ten seconds.

    Args:
        broker: an open broker.
        consumers: the consumers of the worker.
        worker: the worker's name.
    """

    def __init__(
        self, broker: Broker, consumers: Sequence[Consumer], worker: str
    ) -> None:
        self._worker = worker
        self._consumers = consumers
        self._stores = [
            FigureStore(broker, broker.keys(c.stream), c.group) for c in consumers
        ]
        self._written: list[dict[str, int]] = [{} for _ in consumers]
        self._written_at = [time.monotonic() for _ in consumers]
        self._seen: list[dict[tuple[int, str], float]] = [{} for _ in consumers]
        self._since = broker.clock.now()
        self._broker = broker

    async def run(self) -> None:
        """Write until cancelled. The last write is a call of ``record``."""
        self._since = self._broker.clock.now()
        while True:
            await self.record()
            await self._until_next()

    async def _until_next(self) -> None:
        """Wait for the next heartbeat, or until a suspect's time alone begins or ends."""
        told = self._kept_for
        for _ in range(math.ceil(EVERY / _LOOK)):
            await asyncio.sleep(min(EVERY, _LOOK))
            if self._kept_for != told:
                return

    @property
    def _kept_for(self) -> list[str]:
        return [consumer.kept_for for consumer in self._consumers]

    async def record(self, *, leaves: bool = False) -> None:
        """Write the statistics since the last time. ``leaves``: the worker ends."""
        every = range(len(self._consumers))
        for first in every[::_AT_ONCE]:
            some = every[first : first + _AT_ONCE]
            await asyncio.gather(*(self._note(at, leaves=leaves) for at in some))

    async def _note(self, at: int, *, leaves: bool) -> None:
        consumer = self._consumers[at]
        counted = consumer.stats.as_dict()
        before = self._written[at]
        amounts = {name: counted[name] - before.get(name, 0) for name in _COUNTED}
        now = time.monotonic()
        rate = 0.0
        if before:
            rate = amounts["done"] / max(1.0, now - self._written_at[at])

        said = None if leaves else self._presence(at, consumer, rate)
        try:
            await self._stores[at].count(amounts, self._worker, said)
        except BrokerError as error:
            logger.debug(
                "statistics not written; will retry", extra={"error": str(error)}
            )
        else:
            self._written[at] = counted
            self._written_at[at] = now

    def _presence(self, at: int, consumer: Consumer, rate: float) -> dict[str, Any]:
        said = {"kept_for": consumer.kept_for} if consumer.kept_for else {}
        return said | {
            "rate": round(rate, 2),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "python": platform.python_version(),
            "since": round(self._since, 3),
            "concurrency": consumer.options.concurrency,
            "busy": consumer.busy,
            "done": consumer.stats.done,
            "levels": consumer.vitals.levels,
            "lease": consumer.options.lease,
            "free": consumer.free,
            "declared": consumer.declared,
            "runs": self._runs(at, consumer),
        }

    def _runs(self, at: int, consumer: Consumer) -> dict[str, float]:
        """The longest attempts with the time of the first heartbeat that saw them.

        The start itself is not recorded, so that attempts pay nothing for this.
        """
        now = round(self._broker.clock.now(), 3)
        before = self._seen[at]
        seen = {
            place: before.get(place, now) for place in consumer.running[:_MOST_RUNS]
        }
        self._seen[at] = seen
        return {member(*place): since for place, since in seen.items()}
