"""Health of a worker: alive (worth keeping) and ready (can take events), over HTTP and from the command line.

Alive never depends on the server: an outage must not restart every worker. Ready always does: a worker that cannot
read is not ready. ``streams.consuming.vitals`` is what a worker says about itself, ``judging`` the verdict, and
``listening`` the HTTP server; ``views`` and ``family`` are what it serves, and ``asking`` is the other side.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from streams.address import Address
from streams.broker import Broker
from streams.consuming.vitals import Vitals
from streams.health.asking import Answer, ask
from streams.health.family import Family
from streams.health.judging import LOOP_BOUND, READ_BOUND, Check, Report
from streams.health.listening import LIVE, READY, HealthServer, View
from streams.health.views import REACH_BOUND, Pulse, ServedWorker

__all__ = [
    "LIVE",
    "LOOP_BOUND",
    "REACH_BOUND",
    "READY",
    "READ_BOUND",
    "Answer",
    "Check",
    "Family",
    "HealthServer",
    "Report",
    "View",
    "ask",
    "served",
]


@contextlib.asynccontextmanager
async def served(
    address: str, broker: Broker, vitals: Callable[[], Vitals]
) -> AsyncIterator[Address | None]:
    """Serve the health of the worker whose vitals these are, while inside; nothing if the address is empty.

    Yields:
        The address, with the port that was chosen if it named port 0.

    Raises:
        ConfigurationError: the address is malformed, taken, or not of this machine.
    """
    if not address:
        yield None
        return
    pulse = Pulse()
    async with (
        pulse.beating(),
        HealthServer(
            Address.parse(address), ServedWorker(broker, vitals, pulse)
        ) as server,
    ):
        yield server.address
