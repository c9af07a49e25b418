"""The recorder: lets everybody see what a worker does, by figures of each minute and hour on the server."""

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
"""Seconds between two notes."""
_LOOK = 1.0
"""Seconds between two looks whether a suspect runs alone: nothing else of the process starts then, which is told."""
_AT_ONCE = 32
"""So many groups are noted in one go."""
_MOST_RUNS = 20
"""Of what runs longest, so much is written down with its time."""
_COUNTED = ("fetched", "done", "retried", "dead", "snoozed", "limited", "lost")


class Recorder:
    """Writes down what the consumers of a worker did: one command per group and ten seconds, whatever they do.

    Figures that cannot be written are written the next time. They are no part of any promise: a worker that is killed
    takes up to ten seconds of them along.

    Args:
        broker: an open broker.
        consumers: of the worker.
        worker: its name.
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
        """Write until cancelled; a last time is for ``record`` to say that the worker leaves."""
        self._since = self._broker.clock.now()
        while True:
            await self.record()
            await self._until_next()

    async def _until_next(self) -> None:
        """Wait for the time of the next note, or until the process is kept free for a suspect, or no more."""
        told = self._kept_for
        for _ in range(math.ceil(EVERY / _LOOK)):
            await asyncio.sleep(min(EVERY, _LOOK))
            if self._kept_for != told:
                return

    @property
    def _kept_for(self) -> list[str]:
        return [consumer.kept_for for consumer in self._consumers]

    async def record(self, *, leaves: bool = False) -> None:
        """Write down what was done since the last time. ``leaves``: the worker ends, and is there no more."""
        for first in range(0, len(self._consumers), _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, len(self._consumers)))
            await asyncio.gather(*(self._note(at, leaves=leaves) for at in some))

    async def _note(self, at: int, *, leaves: bool) -> None:
        consumer = self._consumers[at]
        counted = consumer.stats.as_dict()
        before = self._written[at]
        amounts = {name: counted[name] - before.get(name, 0) for name in _COUNTED}
        now = time.monotonic()
        rate = amounts["done"] / max(1.0, now - self._written_at[at]) if before else 0.0
        said = (
            None if leaves else self._presence(at, consumer) | {"rate": round(rate, 2)}
        )
        try:
            await self._stores[at].count(amounts, self._worker, said)
        except BrokerError as error:
            logger.debug("figures wait", extra={"error": str(error)})
        else:
            self._written[at], self._written_at[at] = counted, now

    def _presence(self, at: int, consumer: Consumer) -> dict[str, Any]:
        said = {"kept_for": consumer.kept_for} if consumer.kept_for else {}
        return said | {
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
        """What runs longest, with when it was first seen here: a run costs nothing more for it than it does."""
        now, before = round(self._broker.clock.now(), 3), self._seen[at]
        seen = self._seen[at] = {
            place: before.get(place, now) for place in consumer.running[:_MOST_RUNS]
        }
        return {member(*place): since for place, since in seen.items()}
