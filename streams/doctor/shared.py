"""Share one examination among all readers of the dashboard and its API."""

from __future__ import annotations

import asyncio
import time

from streams.admin.operating import Operating
from streams.common.guests import Guests
from streams.common.log_facts import logger_of
from streams.doctor import Doctor
from streams.doctor.finding import Finding

logger = logger_of("doctor")
_FRESH = 10.0
"""Seconds for which findings are used again."""


class SharedDoctor:
    """Examines at most every ten seconds: an examination costs the server many commands.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Operating) -> None:
        self._pipeline = pipeline
        self._examining = asyncio.Lock()
        self._findings: list[Finding] = []
        self._stale_at = 0.0
        self._guests = Guests(logger.error)

    async def findings(self) -> list[Finding]:
        """The findings, the worst first."""
        async with self._examining:
            if time.monotonic() >= self._stale_at:
                broker = self._pipeline.broker
                doctor = Doctor(broker, role="operator", guests=self._guests)
                self._findings = await doctor.examine()
                self._stale_at = time.monotonic() + _FRESH

            return self._findings
