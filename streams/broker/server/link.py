"""Connections to the server: commands one after the other, replies as bytes."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from streams.broker.server import failures
from streams.broker.server.client import AbstractConnection, ReplyError, errors
from streams.broker.server.credentials import Credentials
from streams.broker.server.errands import Errands
from streams.broker.server.kinds import node_of_cluster
from streams.broker.server.scripts import Command, by_sha
from streams.broker.server.wire import Packed, Wire
from streams.errors import (
    OTHER_LOOP,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    WrongCredentials,
)

_STALE_AFTER = 0.2
_RELOADS = 20
"""Tries to load scripts per batch: they can be flushed again between loading and calling."""


class Link(ABC):
    """The way of one user of the server: nothing that others send can delay its replies or answer in their place.

    The client library is used below its own client object: no pool, no retries (a retried write can write twice), one
    timeout per round trip instead of one per reply.
    """

    def __init__(self) -> None:
        self._errands = Errands(self.send)

    async def see_to(self, *command: bytes | str | float) -> None:
        """Have a command done, though its server may be away: then later, while this link is open.

        Raises:
            BrokerError: the server refused at once, and trying again cannot help.
        """
        await self._errands.do(command)

    async def call(
        self, *command: bytes | str | float, within: float | None = None
    ) -> Any:
        """Send one command and return its reply, ``within`` seconds (the link's timeout if None).

        The time includes that for connecting, and for waiting until others have their replies.

        Raises:
            BrokerUnavailable: the server could not be reached or the answer was lost (``sent`` tells which).
            BrokerError: the server refused; see the classes in ``streams.errors``.
        """
        return await self.send(command, within=within)

    @staticmethod
    def pack(command: Command) -> Packed:
        """The command, ready to be sent."""
        return Packed(command)

    async def send(self, command: Command, *, within: float | None = None) -> Any:
        """As ``call``, with the command in one piece."""
        reply = (await self.batch((command,), within=within))[0]
        if isinstance(reply, BrokerError):
            raise reply
        return reply

    @abstractmethod
    async def batch(
        self, commands: Sequence[Command], *, within: float | None = None
    ) -> list[Any]:
        """Send commands in one write and return their replies; a refusal stands in its reply's place.

        Raises:
            BrokerUnavailable: as in ``call``.
        """

    @abstractmethod
    async def ask_any(self, *command: bytes | str | float) -> Any:
        """Send a command that every server can answer alike, to whichever answers.

        Raises:
            BrokerUnavailable: none answers.
            BrokerError: one refused.
        """

    @abstractmethod
    def server_of(self, key: str) -> str:
        """Which of several servers has a key, as far as is known; '' where there is one only."""

    @abstractmethod
    async def close(self) -> None:
        """Close it for good. Idempotent. From another event loop than its own: make it of no use to who has it."""

    @abstractmethod
    async def rest(self) -> None:
        """Close the connection until it is needed again, unless it is in use."""

    @abstractmethod
    async def primaries(self) -> dict[str, Link]:
        """A link to each server that has a part of the keys, by the server's name; one without a name has them all."""

    @abstractmethod
    def leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop the connections to servers that are no primaries (any more), whatever is awaited from them.

        May be called from any thread. ``stay`` says of a host and port whether it is one. Returns whether there is a
        connection, be it one that is dropped.
        """


class NodeLink(Link):
    """One connection to one server.

    A cancelled or failed exchange closes the connection, so a late reply can never answer a later command.

    Args:
        connect: makes a connected connection.
        timeout: seconds for one round trip.
        on_close: told when the link is closed for good.
        depth: how many round trips may be under way at once; the others wait for their turn. They are answered in the
            order of the calls, and when the connection is lost, all of them are.
        credentials: those of the connections; it is noted when the server takes them.
        is_bounded: connecting has to be done within the time of a call; a server that is started for it may take more.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AbstractConnection]],
        timeout: float,
        on_close: Callable[[NodeLink], None],
        depth: int = 1,
        *,
        credentials: Credentials | None = None,
        is_bounded: bool = True,
    ) -> None:
        super().__init__()
        self._connect = connect
        self._on_close = on_close
        self._timeout = timeout
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Semaphore(depth)
        self._connecting = asyncio.Lock()
        self._used = 0.0
        self._closed = False
        self._peer = ("", 0)
        self._credentials = credentials or Credentials()
        self._is_bounded = is_bounded

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of the server that it was connected to last; '' and 0 on a unix socket, and before."""
        return self._peer

    async def batch(
        self, commands: Sequence[Command], *, within: float | None = None
    ) -> list[Any]:
        """Send commands in one write and return their replies; a refusal stands in its reply's place.

        A script that the server does not know is loaded and sent again: such a command did nothing.

        Raises:
            BrokerUnavailable: as in ``call``.
        """
        replies = await self.trip(commands, within)
        for i, reply in enumerate(replies):
            # Whoever follows redirections makes trips of its own.
            if isinstance(reply, Redirected):
                replies[i] = node_of_cluster(self._peer)
        return plain(replies)

    async def trip(
        self, commands: Sequence[Command], within: float | None = None
    ) -> list[Any]:
        """As ``batch``, with each ``Sign`` among the replies as it is.

        Raises:
            BrokerUnavailable: as in ``call``.
            ConfigurationError: another event loop has used the link before.
        """
        if not commands:
            # From Python 3.12 on a transport that is given nothing to write tries for ever to write it.
            return []
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(OTHER_LOOP)
        within = within or self._timeout
        deadline = _Deadline(loop.time() + within, within)
        await self._turn(deadline)
        try:
            return await self._with_scripts(commands, deadline)
        finally:
            self._turns.release()

    async def _turn(self, deadline: _Deadline) -> None:
        """Wait until there is room for one more round trip."""
        if not self._turns.locked():
            await self._turns.acquire()
            return
        try:
            async with asyncio.timeout_at(deadline.at):
                await self._turns.acquire()
        except TimeoutError:
            raise deadline.passed("others waited for their answers") from None

    async def _with_scripts(
        self, commands: Sequence[Command], deadline: _Deadline
    ) -> list[Any]:
        replies = await self._exchange(commands, deadline)
        for _ in range(_RELOADS):
            unknown = [
                i
                for i, reply in enumerate(replies)
                if isinstance(reply, _UnknownScript)
            ]
            if not unknown:
                break
            shas = dict.fromkeys(str(commands[i][1]) for i in unknown)
            await self._exchange(
                [("SCRIPT", "LOAD", by_sha[sha].text) for sha in shas], deadline
            )
            again = await self._exchange([commands[i] for i in unknown], deadline)
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return replies

    async def close(self) -> None:
        """Close the connection for good. Idempotent."""
        self._closed = True
        self._errands.close()
        self._on_close(self)
        wire = self._wire
        if wire is None:
            return
        if not wire.is_here:
            # Whoever has it may be amid an exchange; that fails now, and its own close comes here again.
            wire.give_up("the broker is closed")
            return
        self._wire = None
        await wire.close(wait=True)

    async def rest(self) -> None:
        """Close the connection until it is needed again, unless it is in use."""
        wire = self._wire
        if wire is not None and not wire.awaited and not self._connecting.locked():
            await self._drop(wire)

    async def primaries(self) -> dict[str, Link]:
        """This one: the server has all keys."""
        return {"": self}

    async def ask_any(self, *command: bytes | str | float) -> Any:
        """Ask the one server that there is."""
        return await self.call(*command)

    def server_of(self, key: str) -> str:
        """There is one server only."""
        del key
        return ""

    def leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop the connection if its server is no primary any more; returns whether there is one."""
        wire = self._wire
        if wire is not None and not stay(*wire.peer):
            wire.give_up("another server is the primary now")
        return wire is not None

    async def _exchange(
        self, commands: Sequence[Command], deadline: _Deadline
    ) -> list[Any]:
        wire = await self._ready(deadline)
        left = deadline.at - asyncio.get_running_loop().time()
        if left <= 0:
            raise deadline.passed("connecting took as long")
        try:
            replies = await wire.exchange(commands, len(commands), left)
        except TimeoutError as error:
            await self._drop(wire)
            raise BrokerUnavailable(
                f"no answer within {deadline.within} s", sent=True
            ) from error
        except OSError as error:
            await self._drop(wire)
            raise failures.loss(error, sent=True) from error
        except BaseException:
            if (
                wire.awaited <= 1
                # Cancelled. A server that hangs may be the reason, and the next call should not hang too.
            ):
                await self._drop(wire)
            raise
        self._used = time.monotonic()
        is_welcome = True
        for i, reply in enumerate(replies):
            if type(reply) is ReplyError:
                refused = _refusal(str(reply))
                if isinstance(refused, (NotPrimary, WrongCredentials)):
                    await self._drop(wire)  # The next call connects, and logs in, anew.
                    is_welcome &= not isinstance(refused, WrongCredentials)
                replies[i] = self._credentials.judged(refused)
        if is_welcome:
            self._credentials.accepted = True
        return replies

    async def _ready(self, deadline: _Deadline) -> Wire:
        if not self._is_bounded or (
            self._wire is not None and not self._connecting.locked()
        ):
            return await self._connected()
        try:
            async with asyncio.timeout_at(deadline.at):
                return await self._connected()
        except TimeoutError:
            raise deadline.passed("there was no connection") from None

    async def _connected(self) -> Wire:
        async with self._connecting:
            wire = self._wire
            if wire is not None and time.monotonic() - self._used > _STALE_AFTER:
                await wire.look()
            if wire is not None and wire.is_lost:
                # Found out before a write whose fate would then be unknown.
                await self._drop(wire)
                wire = None
            if wire is None:
                if self._closed:
                    raise BrokerUnavailable("the broker is closed")
                wire = self._wire = Wire(await self._connect())
                self._peer = wire.peer
            return wire

    async def _drop(self, wire: Wire) -> None:
        if self._wire is wire:
            self._wire = None
        await wire.close(wait=False)


def _refusal(text: str) -> BrokerError:
    if text.startswith("NOSCRIPT"):
        return _UnknownScript(text)
    if text.startswith(("MOVED ", "ASK ")):
        return Redirected(text)
    refused = failures.refusal(errors.ResponseError(text))
    if isinstance(refused, BrokerUnavailable):
        if text.startswith("TRYAGAIN"):
            return TryAgain(str(refused))
        if text.startswith("CLUSTERDOWN"):
            return Down(str(refused))
        if any(
            mark in text
            for mark in ("READONLY", "read only replica", "NOREPLICAS", "MASTERDOWN")
        ):
            return NotPrimary(str(refused))
    return refused


@dataclass(frozen=True, slots=True)
class _Deadline:
    """When a call has to have ended: on the clock of the event loop, and in seconds from its beginning."""

    at: float
    within: float

    def passed(self, why: str) -> BrokerUnavailable:
        """What is raised for a call that was not sent until then."""
        return BrokerUnavailable(
            f"nothing was sent within {self.within} s: {why}", sent=False
        )


class Sign(BrokerUnavailable):
    """A refusal that tells a link what to do. Users see it as what it is for them: ``BrokerUnavailable``."""


def plain(replies: list[Any]) -> list[Any]:
    """The replies, without signs among them."""
    for i, reply in enumerate(replies):
        if isinstance(reply, Sign):
            replies[i] = said = BrokerUnavailable(str(reply), sent=reply.sent)
            said.server = reply.server
    return replies


class _UnknownScript(Sign):
    """NOSCRIPT: the server has not got the script (any more)."""


class NotPrimary(Sign):
    """The server is a replica, or a primary without its replicas: another one may be the primary by now."""


class Down(Sign):
    """CLUSTERDOWN: the node is cut off, or nobody serves the slot."""


class TryAgain(Sign):
    """TRYAGAIN: the keys of the command are on their way from one node to another."""


class Redirected(Sign):
    """MOVED or ASK: another node serves the slot.

    Attributes:
        slot, host, port: of whom; the host is '' for the one that was asked.
        once: ASK: only this command is for that node, and it must be told so.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"the server cannot serve this now: {text}")
        word, slot, address = text.split(" ")[:3]
        self.host, _, port = address.rpartition(":")
        self.slot, self.port, self.once = int(slot), int(port), word == "ASK"
