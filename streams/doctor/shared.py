"""One examination for all readers of a page or an answer."""

from __future__ import annotations

import asyncio
import time

from streams.admin.operating import Operating
from streams.doctor import Doctor
from streams.doctor.finding import Finding

_FRESH = 10.0
"""Seconds for which findings are shown again."""


class SharedDoctor:
    """Examines at most every ten seconds, however many ask, since an examination costs the server many commands.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Operating) -> None:
        self._pipeline = pipeline
        self._examining = asyncio.Lock()
        self._examined: tuple[float, list[Finding]] = (0.0, [])

    async def findings(self) -> list[Finding]:
        """The findings, the worst first."""
        async with self._examining:
            at, found = self._examined
            if time.monotonic() - at > _FRESH or not at:
                found = await Doctor(self._pipeline.broker, role="operator").examine()
                self._examined = (time.monotonic(), found)
            return found
