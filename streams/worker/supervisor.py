"""The supervisor: starts the processes of a worker, starts those again that die, passes on the order to stop.

Each process is a fresh interpreter, not a fork: a fork of a program with threads, connections and an event loop
inherits their locks in whatever state they are, and changed code could not be loaded in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streams.broker import Broker
from streams.common.log_facts import logger_of
from streams.errors import StreamsError
from streams.health.family import Family
from streams.worker import lifeline
from streams.worker.reload import FolderWatch
from streams.worker.service import EXIT_FORCED, STOP_SIGNALS

logger = logger_of("worker")

EXIT_CRASHING = 71
"""Exit code when a process died again and again before it began."""
_STARTS = 5
_STEADY = 10.0
_LONGEST_WAIT = 30.0
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_REPLACE = ((signal.SIGTERM, 1.0), (signal.SIGINT, 8.0), (_KILL, 5.0))
"""How a process ends that a reload replaces: signals, and seconds to the next. Between them lies its hand-back."""


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """What is run, and how.

    Attributes:
        command: of one process; it finds its ``Lifeline`` in its environment.
        processes: how many.
        watch: start them again when a file below this folder changes, and only then. None: when they die.
        first_wait: seconds before a process that died is started again; doubled each time up to half a minute.
        health: where the health of all processes together is served; empty: nowhere.
        once_reached: more options for processes that begin after the server had let one in: its credentials are no
            mistake then, and a refusal passes.
    """

    command: Sequence[str]
    processes: int = 1
    watch: Path | None = None
    first_wait: float = 0.5
    health: str = ""
    once_reached: Sequence[str] = ()


class Child:
    """A process of the worker, and the supervisor's end of its lifeline. It runs once.

    Args:
        name: ``1``, ``2`` …
        hold: called with the URL of an embedded server that has to outlive the process.
    """

    def __init__(self, name: str, hold: Callable[[str], Awaitable[None]]) -> None:
        self.name = name
        self.is_ready = False
        self.is_replaced = False
        self.last_word = ""
        self.was_reached = False
        self._hold = hold
        self._ready_at = 0.0
        self._process: asyncio.subprocess.Process | None = None
        self._asked: list[int] = []
        self._over = asyncio.Event()

    @property
    def began(self) -> bool:
        """Whether it came so far that it could work."""
        return self.is_ready and self.last_word != lifeline.UNREACHABLE

    @property
    def was_steady(self) -> bool:
        """Whether it ran for so long that its end is not one of a series."""
        return self.is_ready and time.monotonic() - self._ready_at > _STEADY

    async def run(self, command: Sequence[str]) -> int:
        """Start it and wait for its end; returns its exit code, or the negative number of the signal that killed it."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        listening = asyncio.create_task(self._listen(reader))
        try:
            return await self._run(command, theirs)
        finally:
            theirs.close()
            self._over.set()
            # Its last words are in the socket by now. Should a process of its own hold the socket open: no matter.
            await asyncio.wait((listening,), timeout=0.2)
            await _end(listening)
            writer.close()
            await writer.wait_closed()

    async def _run(self, command: Sequence[str], theirs: socket.socket) -> int:
        env = os.environ | {lifeline.VARIABLE: f"{theirs.fileno()}:{self.name}"}
        try:
            with lifeline.starting_deaf():
                process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=(theirs.fileno(),), env=env
                )
        except OSError as error:
            logger.error(  # noqa: TRY400
                "cannot start a process",
                extra={"child": self.name, "error": str(error)},
            )
            return os.EX_OSERR
        theirs.close()
        self._process = process
        logger.info("process started", extra={"child": self.name, "pid": process.pid})
        for number in self._asked:
            self.signal(number)
        return await process.wait()

    def signal(self, number: int) -> None:
        """Send a signal, as soon as there is a process and unless it has ended."""
        if self._process is None:
            self._asked.append(number)
            return
        # Not its own method, which would take the exit code away from the loop if it has just ended.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def replace(self) -> None:
        """End it soon: handlers get a short while, then their entries are given back."""
        self.is_replaced = True
        for number, seconds in _REPLACE:
            self.signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()
                    return

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = orjson.loads(line)
            self.last_word = message["word"]
            if self.last_word == lifeline.REACHED:
                self.was_reached = True
            if self.last_word == lifeline.READY:
                self.is_ready, self._ready_at = True, time.monotonic()
            if message.get("hold"):
                await self._hold(message["hold"])


@dataclass(slots=True)
class _Series:
    """Ends in a row: of processes that had not begun, and of those that had not run for long."""

    failed_starts: int = 0
    deaths: int = 0

    def count(self, child: Child) -> None:
        self.failed_starts = 0 if child.began else self.failed_starts + 1
        self.deaths = 0 if child.was_steady else self.deaths + 1


class Supervisor:
    """Keeps the processes of a worker running.

    A process that dies is started again, after a wait that grows while it keeps dying. One that cannot begin (its
    target cannot be loaded, or it dies again and again before it began) ends the worker. One that ends with 0 has ended
    by its own wish and is not started again.

    SIGTERM, SIGINT or SIGHUP: all processes stop in order. A second one: now. A third one: they are killed.

    Args:
        options: see ``SupervisorOptions``.
    """

    def __init__(self, options: SupervisorOptions) -> None:
        self.options = options
        self._running: dict[str, Child] = {}
        self._servers: dict[str, Broker] = {}
        self._stops = 0
        self._verdict = 0
        self._version = 0
        self._was_reached = False
        self._news = asyncio.Event()
        self._family = Family(options.health, options.processes)

    def stop(self) -> None:
        """Stop every process in order; called again: now; a third time: kill them."""
        at = min(self._stops, 2)
        self._stops += 1
        self._family.is_stopping = True
        self._news.set()
        logger.info(
            ("stopping", "stopping now", "killing")[at],
            extra={"running": len(self._running)},
        )
        for child in self._running.values():
            child.signal((signal.SIGTERM, signal.SIGINT, _KILL)[at])

    async def run(self) -> int:
        """Run until stopped, or until no process is left; returns the exit code.

        It is 0 if every process ended in order; that of a process that cannot run, if it says why;
        ``EXIT_CRASHING``; or ``EXIT_FORCED``, if one had to be ended.

        Raises:
            ConfigurationError: files are to be watched without the extra for that, or the health address is taken.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._signals())
            stack.push_async_callback(self._release)
            await stack.enter_async_context(self._family)
            if self.options.watch is not None:
                changes = await stack.enter_async_context(
                    FolderWatch(self.options.watch)
                )
                watching = asyncio.create_task(self._reload(changes))
                stack.push_async_callback(_end, watching)
                logger.info(
                    "watching for changes", extra={"folder": str(self.options.watch)}
                )
            names = [str(number + 1) for number in range(self.options.processes)]
            codes = await asyncio.gather(*(self._keep(name) for name in names))
        code = self._verdict or max(codes)
        logger.info("stopped", extra={"code": code})
        return code

    async def _keep(self, name: str) -> int:
        """Keep one process running until there is no need; returns what that means for the exit code."""
        series = _Series()
        while not self._stops:
            version = self._version
            child = self._running[name] = Child(name, self._hold)
            more = self.options.once_reached if self._was_reached else ()
            code = await child.run(
                [*self.options.command, *self._family.options_of(name), *more]
            )
            self._was_reached |= child.was_reached
            del self._running[name]
            self._family.ended(name)
            if self._stops:
                return _after_stop(code)
            if child.is_replaced:
                continue
            series.count(child)
            if not await self._goes_on(child, code, series, version):
                return 0
        return 0

    async def _goes_on(
        self, child: Child, code: int, series: _Series, version: int
    ) -> bool:
        """After an end that nobody asked for: whether, and when, a process takes the place of the one that ended."""
        extra = {"child": child.name, "code": code}
        unreachable = child.last_word == lifeline.UNREACHABLE
        if self.options.watch is not None and not unreachable:
            logger.warning(
                "process ended; it is started again when a file changes", extra=extra
            )
            await self._pause(version)
            return True
        if child.last_word == lifeline.HOPELESS:
            return self._give_up(
                "process cannot run, and to start it again would not help", code, extra
            )
        if code == 0:
            logger.info("process ended by its own wish", extra=extra)
            return False
        if series.failed_starts >= _STARTS and self.options.watch is None:
            told = code if unreachable else EXIT_CRASHING
            return self._give_up(
                f"process ended {_STARTS} times in a row before it began", told, extra
            )
        wait = (
            min(_LONGEST_WAIT, self.options.first_wait * 2 ** (series.deaths - 1))
            if series.deaths
            else 0.0
        )
        wait *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        logger.warning(
            "process ended and is started again",
            extra={**extra, "seconds": round(wait, 1)},
        )
        await self._pause(version, wait)
        return True

    def _give_up(self, why: str, verdict: int, extra: dict[str, Any]) -> bool:
        logger.error("%s: the worker ends", why, extra=extra)
        self._verdict = self._verdict or (verdict if verdict > 0 else EXIT_CRASHING)
        if not self._stops:
            self.stop()
        return False

    async def _pause(self, version: int, seconds: float | None = None) -> None:
        """Wait for a stop, for a change of files, or for the time to pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stops and self._version == version:
                    self._news.clear()
                    await self._news.wait()

    async def _reload(self, changes: FolderWatch) -> None:
        while True:
            names = await changes.changed()
            self._version += 1
            self._news.set()
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            logger.info("%s%s changed: starting again", names[0], more)
            await asyncio.gather(
                *(child.replace() for child in list(self._running.values()))
            )

    async def _hold(self, url: str) -> None:
        """Use an embedded server, too: it shall not end while processes are replaced."""
        if url in self._servers:
            return
        broker = self._servers[url] = Broker(url)
        try:
            await broker.connect()
        except StreamsError as error:
            logger.warning(
                "cannot hold the embedded server",
                extra={"server": broker.address, "error": str(error)},
            )

    async def _release(self) -> None:
        for broker in self._servers.values():
            await broker.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = [
            number
            for number in STOP_SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _after_stop(code: int) -> int:
    """What the end of a process means that was told to stop: it may not have begun when it was."""
    if code in (0, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT):
        return 0
    return code if code > 0 else EXIT_FORCED


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
