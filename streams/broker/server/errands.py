"""Commands that may be carried out later, since their server may be away meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from streams.broker.server.outages import OUTAGE
from streams.broker.server.scripts import Command
from streams.common.log_facts import logger_of
from streams.errors import BrokerError, OutOfMemory

logger = logger_of("broker")

PATIENCE = 0.5
"""Seconds for which the caller waits: a hanging server must not delay work on other servers."""
_PASSING = (*OUTAGE, OutOfMemory)
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 10.0


class Errands:
    """Sends commands, again and again until their server answers or this is closed.

    Each command must be safe to repeat.

    Args:
        send: sends a command and returns its reply.
    """

    def __init__(self, send: Callable[[Command], Awaitable[Any]]) -> None:
        self._send = send
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, command: Command) -> None:
        """Send a command; returns when it is done, or after its first failure.

        Raises:
            BrokerError: the server refused at once, and trying again cannot help.
        """
        tried = asyncio.Event()
        task = asyncio.create_task(self._run(command, tried))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        waiting = asyncio.create_task(tried.wait())

        try:
            await asyncio.wait(
                (task, waiting), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()

        if task.done() and not task.cancelled():
            task.result()
        else:
            task.add_done_callback(_say_refused)

    def close(self) -> None:
        """Give up the commands that are not done. May be called from another event loop."""
        for task in list(self._tasks):
            # RuntimeError: its loop is closed, and the task with it.
            with contextlib.suppress(RuntimeError):
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def _run(self, command: Command, tried: asyncio.Event) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                await self._send(command)
            except _PASSING as error:
                if not tried.is_set():
                    logger.info("%s is written down later: %s", command[0], error)

                tried.set()
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                return


def _say_refused(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, BrokerError):
        logger.warning(
            "the index of streams could not be written", extra={"error": str(error)}
        )
