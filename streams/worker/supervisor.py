"""The supervisor: starts, restarts and stops the processes of a worker.

Each process is a fresh interpreter, not a fork. A fork would inherit the locks of threads,
connections and the event loop in an arbitrary state, and could not load changed code.
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
_STOPS = (
    (signal.SIGTERM, "stopping"),
    (signal.SIGINT, "stopping now"),
    (_KILL, "killing"),
)
"""The signal and the log line of the first, second and third stop."""
_REPLACE = ((signal.SIGTERM, 1.0), (signal.SIGINT, 8.0), (_KILL, 5.0))
"""The signals that end a process at a reload, and the seconds after each of them.

In these seconds the process gives its events back.
"""


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """The processes of a supervisor.

    Attributes:
        command: the command of one process, which finds its ``Lifeline`` in its
            environment.
        processes: the number of processes.
        watch: restart them when a file below this folder changes, and only then. None:
            restart them when they die.
        first_wait: seconds before a dead process is restarted; doubled each time up to
            half a minute.
        health: the address for the health of all processes; empty: there is none.
        once_reached: more options for processes that start after the server has accepted
            one. Its credentials are right then, so that a refusal is temporary.
    """

    command: Sequence[str]
    processes: int = 1
    watch: Path | None = None
    first_wait: float = 0.5
    health: str = ""
    once_reached: Sequence[str] = ()


class WorkerProcess:
    """A process of the worker, which runs once, and the supervisor's end of its socket.

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
        """Whether it was ready to work."""
        return self.is_ready and self.last_word != lifeline.UNREACHABLE

    @property
    def was_steady(self) -> bool:
        """Whether it ran so long that its end does not count as a repeated one."""
        return self.is_ready and time.monotonic() - self._ready_at > _STEADY

    async def run(self, command: Sequence[str]) -> int:
        """Start it and wait for its end.

        Returns its exit code, or the negative number of the signal that killed it.
        """
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        listening = asyncio.create_task(self._listen(reader))
        try:
            return await self._run(command, theirs)
        finally:
            theirs.close()
            self._over.set()
            # Its last messages are in the socket by now. The timeout is for a child of
            # its own that keeps the socket open.
            await asyncio.wait((listening,), timeout=0.2)
            await _end(listening)
            writer.close()
            await writer.wait_closed()

    async def _run(self, command: Sequence[str], theirs: socket.socket) -> int:
        env = os.environ | {lifeline.VARIABLE: f"{theirs.fileno()}:{self.name}"}
        try:
            with lifeline.interrupts_blocked():
                process = await asyncio.create_subprocess_exec(
                    *command, pass_fds=(theirs.fileno(),), env=env
                )
        except OSError as error:
            extra = {"child": self.name, "error": str(error)}
            logger.error("cannot start a process", extra=extra)  # noqa: TRY400
            return os.EX_OSERR

        theirs.close()
        self._process = process
        logger.info("process started", extra={"child": self.name, "pid": process.pid})
        for number in self._asked:
            self.signal(number)

        return await process.wait()

    def signal(self, number: int) -> None:
        """Send a signal, once the process has started and unless it has ended."""
        if self._process is None:
            self._asked.append(number)
            return

        # ``Process.send_signal`` would take the exit code of an ended process, which the
        # event loop then misses.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def replace(self) -> None:
        """End it soon: its handlers get a short time, then their events are given back."""
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
    """The consecutive ends of processes that never began, or ran only shortly."""

    failed_starts: int = 0
    deaths: int = 0

    def count(self, child: WorkerProcess) -> None:
        self.failed_starts = 0 if child.began else self.failed_starts + 1
        self.deaths = 0 if child.was_steady else self.deaths + 1


class Supervisor:
    """Keeps the processes of a worker running.

    A dead process is restarted after a wait, which grows with each further death. If a
    process cannot begin (its target cannot be loaded, or it dies several times before it
    begins), the worker ends. A process that exits with code 0 is not restarted.

    SIGTERM, SIGINT or SIGHUP stops all processes in order. A second signal cancels their
    handlers, and a third one kills them.

    Args:
        options: see ``SupervisorOptions``.
    """

    def __init__(self, options: SupervisorOptions) -> None:
        self.options = options
        self._running: dict[str, WorkerProcess] = {}
        self._servers: dict[str, Broker] = {}
        self._stops = 0
        self._verdict = 0
        self._version = 0
        self._was_reached = False
        self._news = asyncio.Event()
        self._family = Family(options.health, options.processes)

    def stop(self) -> None:
        """Stop every process; a second call cancels handlers, a third one kills."""
        number, word = _STOPS[min(self._stops, len(_STOPS) - 1)]
        self._stops += 1
        self._family.is_stopping = True
        self._news.set()
        logger.info(word, extra={"running": len(self._running)})
        for child in self._running.values():
            child.signal(number)

    async def run(self) -> int:
        """Run until stopped, or until no process is left; returns the exit code.

        It is 0 if every process ended in order; the code of a process that cannot run, if
        it reports a reason; ``EXIT_CRASHING``; or ``EXIT_FORCED``, if one was killed.

        Raises:
            ConfigurationError: the extra for watching files is missing, or the health
                address is in use.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._signals())
            stack.push_async_callback(self._release)
            await stack.enter_async_context(self._family)
            folder = self.options.watch
            if folder is not None:
                changes = await stack.enter_async_context(FolderWatch(folder))
                watching = asyncio.create_task(self._reload(changes))
                stack.push_async_callback(_end, watching)
                logger.info("watching for changes", extra={"folder": str(folder)})

            names = map(str, range(1, self.options.processes + 1))
            codes = await asyncio.gather(*map(self._keep, names))

        code = self._verdict or max(codes)
        logger.info("stopped", extra={"code": code})
        return code

    async def _keep(self, name: str) -> int:
        """Keep one process running; returns its part of the exit code in the end."""
        series = _Series()
        while not self._stops:
            version = self._version
            child = self._running[name] = WorkerProcess(name, self._hold)
            command = [*self.options.command, *self._family.options_of(name)]
            if self._was_reached:
                command += self.options.once_reached

            code = await child.run(command)
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
        self, child: WorkerProcess, code: int, series: _Series, version: int
    ) -> bool:
        """Wait until a process that ended by itself is to be restarted; False if never."""
        extra: dict[str, Any] = {"child": child.name, "code": code}
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
            logger.info("worker process exited with code 0", extra=extra)
            return False

        if series.failed_starts >= _STARTS and self.options.watch is None:
            verdict = code if unreachable else EXIT_CRASHING
            why = f"process ended {_STARTS} times in a row before it began"
            return self._give_up(why, verdict, extra)

        wait = 0.0
        if series.deaths:
            longer = self.options.first_wait * 2 ** (series.deaths - 1)
            wait = min(_LONGEST_WAIT, longer)

        wait *= random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        extra["seconds"] = round(wait, 1)
        logger.warning("process ended and is started again", extra=extra)
        await self._pause(version, wait)
        return True

    def _give_up(self, why: str, verdict: int, extra: dict[str, Any]) -> bool:
        logger.error("%s: the worker ends", why, extra=extra)
        self._verdict = self._verdict or (verdict if verdict > 0 else EXIT_CRASHING)
        if not self._stops:
            self.stop()

        return False

    async def _pause(self, version: int, seconds: float | None = None) -> None:
        """Wait for a stop, a change of files, or the end of the time."""
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
            children = list(self._running.values())
            await asyncio.gather(*(child.replace() for child in children))

    async def _hold(self, url: str) -> None:
        """Connect to an embedded server, so that it outlives replaced processes."""
        if url in self._servers:
            return

        broker = self._servers[url] = Broker(url)
        try:
            await broker.connect()
        except StreamsError as error:
            extra = {"server": broker.address, "error": str(error)}
            logger.warning("cannot hold the embedded server", extra=extra)

    async def _release(self) -> None:
        for broker in self._servers.values():
            await broker.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        numbers = [one for one in STOP_SIGNALS if handlers[one] is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self.stop)

        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _after_stop(code: int) -> int:
    """The exit code for a stopped process, which a signal may end before it begins."""
    if code in (0, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT):
        return 0
    return code if code > 0 else EXIT_FORCED


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
