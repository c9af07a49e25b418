"""The health of several processes behind one address, as their supervisor serves it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Self

from streams.address import Address
from streams.health.asking import Answer, ask, read_metrics
from streams.health.exposition import merged
from streams.health.judging import Check, Report
from streams.health.listening import LIVE, READY, HealthServer
from streams.quantities import counted

_PATIENCE = 0.9


class Family:
    """Serves the health of processes that each serve theirs on a unix socket. Use ``async with``.

    Alive: no process that runs says that it is not. One that died is being started again, which is the supervisor's
    business and no reason to end the others. Ready: every process is.

    Args:
        address: where to serve; empty: nowhere, and every method does nothing.
        processes: how many there are when all run.
    """

    def __init__(self, address: str, processes: int) -> None:
        self.is_stopping = False
        self._address = address
        self._processes = processes
        self._members: dict[str, Address] = {}
        self._folder = ""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: the address is malformed, taken, or not of this machine.
        """
        if self._address:
            self._folder = self._stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="streams-", ignore_cleanup_errors=True
                )
            )
            await self._stack.enter_async_context(
                HealthServer(Address.parse(self._address), self)
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def options_of(self, name: str) -> list[str]:
        """The options with which a process is started that belongs to the family from now on."""
        if not self._folder:
            return []
        address = self._members[name] = Address(path=str(Path(self._folder, name)))
        return ["--health", str(address)]

    def ended(self, name: str) -> None:
        """The process is no more."""
        self._members.pop(name, None)

    async def live(self) -> Report:
        """Whether every process that runs is worth keeping."""
        if self.is_stopping:
            return Report((Check("stopping", ok=True, says="stopping in order"),))
        members, answers = await self._ask(LIVE)
        # Where nobody listens, a process is starting or has just ended; the supervisor deals with both.
        checks = [
            Check(f"process {name}", answer.ok or answer.is_nobody, answer.says)
            for name, answer in zip(members, answers, strict=True)
        ]
        return Report(
            (Check("supervisor", ok=True, says=self._count(members)), *checks)
        )

    async def ready(self) -> Report:
        """Whether every process can take events."""
        members, answers = await self._ask(READY)
        running = Check(
            "running",
            not self.is_stopping,
            "told to stop" if self.is_stopping else "not told to stop",
        )
        there = Check(
            "processes", len(members) == self._processes, self._count(members)
        )
        checks = [
            Check(f"process {name}", answer.ok, answer.says)
            for name, answer in zip(members, answers, strict=True)
        ]
        return Report((running, there, *checks))

    async def metrics(self) -> bytes:
        """What every process measures, one after the other, each told from the others by a label."""
        members = dict(self._members)
        texts = await asyncio.gather(
            *(read_metrics(address, within=3.0) for address in members.values())
        )
        return merged(dict(zip(members, texts, strict=True)))

    async def _ask(self, path: str) -> tuple[list[str], list[Answer]]:
        members = dict(self._members)
        answers = await asyncio.gather(
            *(ask(address, path, within=_PATIENCE) for address in members.values())
        )
        return list(members), answers

    def _count(self, members: list[str]) -> str:
        of = counted(self._processes, "process", "processes")
        return f"{len(members)} of {of} {'runs' if len(members) == 1 else 'run'}"

    async def close(self) -> None:
        """Nothing is open between two questions."""
