"""Health of a worker: alive (worth keeping) and ready (can handle events).

Liveness never depends on the server, because an outage must not restart every worker.
Readiness does: a worker that cannot read is not ready. ``streams.consuming.vitals`` has
the state of a worker, ``judging`` the checks, and ``listening`` the HTTP server. ``views``
and ``family`` are the served health of one process and of several, and ``asking`` is the
client.
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
from streams.health.views import REACH_BOUND, LoopWatchdog, WorkerHealth

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
    """Serve the health of a worker while open, unless the address is empty.

    Yields:
        The address, with the chosen port instead of port 0.

    Raises:
        ConfigurationError: the address is malformed, in use, or not of this machine.
    """
    if not address:
        yield None
        return

    watchdog = LoopWatchdog()
    async with (
        watchdog.watching(),
        HealthServer(
            Address.parse(address), WorkerHealth(broker, vitals, watchdog)
        ) as server,
    ):
        yield server.address
