"""The health of several processes at one address, served by their supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Self

from streams.address import Address
from streams.health.asking import Answer, ask, read_metrics
from streams.health.exposition import merged
from streams.health.judging import STOPPING, Check, Report, running
from streams.health.listening import LIVE, READY, HealthServer
from streams.quantities import counted

_PATIENCE = 0.9


class Family:
    """Serves the merged health of processes, each with a unix socket. Use ``async with``.

    It is alive if every running process is. A dead process is restarted by the
    supervisor, and is no reason to end the others. It is ready if every process is.

    Args:
        address: the address of the server; empty: there is none.
        processes: the number of processes.
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
            ConfigurationError: the address is malformed, in use, or not of this machine.
        """
        if self._address:
            folder = tempfile.TemporaryDirectory(
                prefix="streams-", ignore_cleanup_errors=True
            )
            self._folder = self._stack.enter_context(folder)
            server = HealthServer(Address.parse(self._address), self)
            await self._stack.enter_async_context(server)

        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def options_of(self, name: str) -> list[str]:
        """Add a process; returns the options of its command."""
        if not self._folder:
            return []

        address = self._members[name] = Address(path=str(Path(self._folder, name)))
        return ["--health", str(address)]

    def ended(self, name: str) -> None:
        """Remove a process that has ended."""
        self._members.pop(name, None)

    async def live(self) -> Report:
        """Whether every running process is worth keeping."""
        if self.is_stopping:
            return STOPPING

        answers = await self._ask(LIVE)
        checks = [Check("supervisor", ok=True, says=self._count(answers))]
        for name, answer in answers.items():
            # Without a listener the process starts, or has ended: the supervisor knows.
            ok = answer.ok or answer.is_nobody
            checks.append(Check(f"process {name}", ok, answer.says))

        return Report(tuple(checks))

    async def ready(self) -> Report:
        """Whether every process can handle events."""
        answers = await self._ask(READY)
        is_whole = len(answers) == self._processes
        checks = [
            running(is_stopping=self.is_stopping),
            Check("processes", is_whole, self._count(answers)),
        ]

        for name, answer in answers.items():
            checks.append(Check(f"process {name}", answer.ok, answer.says))

        return Report(tuple(checks))

    async def metrics(self) -> bytes:
        """The metrics of every process, with the process as a label."""
        members = dict(self._members)
        reads = [read_metrics(address, within=3.0) for address in members.values()]
        texts = await asyncio.gather(*reads)
        return merged(dict(zip(members, texts, strict=True)))

    async def _ask(self, path: str) -> dict[str, Answer]:
        members = dict(self._members)
        questions = [ask(one, path, within=_PATIENCE) for one in members.values()]
        answers = await asyncio.gather(*questions)
        return dict(zip(members, answers, strict=True))

    def _count(self, answers: dict[str, Answer]) -> str:
        of = counted(self._processes, "process", "processes")
        return f"{len(answers)} of {of} {'runs' if len(answers) == 1 else 'run'}"

    async def close(self) -> None:
        """Do nothing: no connection stays open between two requests."""
