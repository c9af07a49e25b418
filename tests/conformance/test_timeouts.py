"""A call ends within its time, whatever hangs and whoever waits before it."""

from __future__ import annotations

import asyncio
import signal
import time

from streams import Broker, BrokerUnavailable
from tests.topologies import Clustered, Watched

TIMEOUT = 0.8
"""Seconds: shorter than what it takes to notice that a primary is lost."""


async def test_a_call_ends_within_its_time_when_the_primary_hangs(
    several: Watched | Clustered,
) -> None:
    async with Broker(several.url, timeout=TIMEOUT) as broker:
        link = broker.link()
        await link.call("SET", "{jobs}k", "v")
        several.of("jobs").signal(signal.SIGSTOP)
        began = time.monotonic()
        calls = [link.call("GET", "{jobs}k") for _ in range(4)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < 1.5 * TIMEOUT
        assert [type(error) for error in errors] == [BrokerUnavailable] * 4
        assert [
            error.sent for error in errors if isinstance(error, BrokerUnavailable)
        ] == [True, False, False, False]
