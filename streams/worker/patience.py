"""Waiting for a server that is away when a program starts."""

from __future__ import annotations

import asyncio

from streams.broker import Backoff, Broker
from streams.broker.server.outages import OUTAGE
from streams.errors import CommandRefused, StreamsError, WrongCredentials
from streams.settings import Wait


def is_waited_out(wait: Wait, error: BaseException) -> bool:
    """Whether a program with this setting waits until the trouble has passed."""
    if isinstance(error, WrongCredentials):
        return wait == "always"
    if isinstance(error, CommandRefused) and "unknown command" in str(error):
        return False  # A server that is too old, or none of its kind.
    return wait != "never" and isinstance(error, OUTAGE)


async def opened(broker: Broker, wait: Wait) -> Broker:
    """The broker, connected; or not yet, if that is waited out. It is closed if it cannot be opened."""
    try:
        await broker.connect()
    except BaseException as error:
        if not is_waited_out(wait, error):
            await broker.close()
            raise
    return broker


async def reach(broker: Broker, who: str, wait: Wait) -> None:
    """Return once the server answers, however long that takes. One line says that it is away, one that it is back.

    Args:
        broker: whose server.
        who: waits, for ``broker.outages``.
        wait: see ``Wait``.

    Raises:
        StreamsError: the server cannot be reached, for a reason that is not waited out.
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
    """Sees a program that serves requests through outages, at its start or later.

    Requests fail with ``BrokerUnavailable`` meanwhile, and connections come back with the first one that does not;
    this only tells the log, and reads the server's clock, when that is.

    Args:
        broker: whose server.
        who: serves.
    """

    def __init__(self, broker: Broker, who: str) -> None:
        self._broker = broker
        self._who = who
        self._task: asyncio.Task[None] | None = None

    def report(self, error: StreamsError) -> None:
        """A call failed because the server does not answer, or refuses."""
        self._broker.outages.away(self._who, error)
        self.start()

    def start(self) -> None:
        """Wait for the server, unless that is done already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(
                reach(self._broker, self._who, "always"), name="streams-recovering"
            )

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
