"""Waiting for a server that is unavailable at the start of a program."""

from __future__ import annotations

import asyncio

from streams.broker import Backoff, Broker
from streams.broker.server.outages import OUTAGE
from streams.errors import CommandRefused, StreamsError, WrongCredentials
from streams.settings import Wait


def is_waited_out(wait: Wait, error: BaseException) -> bool:
    """Whether a program with this setting waits until the error has passed."""
    if isinstance(error, WrongCredentials):
        return wait == "always"
    if isinstance(error, CommandRefused) and "unknown command" in str(error):
        return False  # The server is too old, or of another kind.
    return wait != "never" and isinstance(error, OUTAGE)


async def opened(broker: Broker, wait: Wait) -> Broker:
    """Connect the broker, or leave it unconnected if the program waits for the server.

    It is closed if it cannot be opened.
    """
    try:
        await broker.connect()
    except BaseException as error:
        if not is_waited_out(wait, error):
            await broker.close()
            raise

    return broker


async def reach(broker: Broker, who: str, wait: Wait) -> None:
    """Wait until the server answers. The outage and its end are logged in one line each.

    Args:
        broker: the broker of the server.
        who: the name of the waiting program, for ``broker.outages``.
        wait: see ``Wait``.

    Raises:
        StreamsError: the server cannot be reached, and ``wait`` excludes this reason.
    """
    backoff = Backoff()
    try:
        while True:
            try:
                await broker.connect()
            except StreamsError as error:
                if not is_waited_out(wait, error):
                    raise

                broker.outages.away(who, error)
                await asyncio.sleep(backoff.next())
            else:
                broker.outages.back(who)
                return
    finally:
        broker.outages.leave(who)


class Recovering:
    """Observes outages for a program that serves requests.

    During an outage requests fail with ``BrokerUnavailable``. The first request after it
    connects again. This class only logs the end of the outage, and reads the server's
    clock then.

    Args:
        broker: the broker of the server.
        who: the name of the program.
    """

    def __init__(self, broker: Broker, who: str) -> None:
        self._broker = broker
        self._who = who
        self._task: asyncio.Task[None] | None = None

    def report(self, error: StreamsError) -> None:
        """Report a call that failed because of the server."""
        self._broker.outages.away(self._who, error)
        self.start()

    def start(self) -> None:
        """Start to wait for the server, unless a task waits already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(
                reach(self._broker, self._who, "always"), name="streams-recovering"
            )

    async def close(self) -> None:
        """Stop waiting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
