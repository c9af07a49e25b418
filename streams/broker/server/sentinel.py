"""A server with replicas that Sentinels watch: whoever connects asks them first which one is the primary.

Imported when a URL names Sentinels. The steps are those of Redis's guidelines for clients of Sentinel, but that all are
asked at once and most of them must agree: the first one to answer may be the one that is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from streams.broker.server import failures
from streams.broker.server.client import AbstractConnection, ask, errors
from streams.broker.server.credentials import Credentials
from streams.broker.server.dial import Dial
from streams.broker.server.following import Following, Leave, Node, NoService, Sentinels
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, WrongServer

_REPLICA = b"slave"


class SentinelDial:
    """How to connect to the primary of a service.

    Args:
        dial: how to connect to a server, wherever it is.
        sentinels: who knows which one is the primary.
        leave: told, while connections are open, to leave every server but the primary.

    Attributes:
        place: host and port of the primary that was tried last; None before.
    """

    def __init__(self, dial: Dial, sentinels: Sentinels, leave: Leave) -> None:
        self._dial = dial
        self._sentinels = sentinels
        self._following = Following(sentinels, leave)
        self.place: Node | None = None

    @property
    def credentials(self) -> Credentials:
        """What is known of the server's credentials."""
        return self._dial.credentials

    @property
    def options(self) -> Mapping[str, Any]:
        """What connections are made with."""
        return self._dial.options

    @property
    def user(self) -> str:
        """The server's user."""
        return self._dial.user

    async def connect(self, within: float) -> AbstractConnection:
        """A connected connection to the primary, ``within`` that many seconds.

        A server that says it is a replica is not it, whatever a Sentinel says that has not heard of the failover yet.

        Raises:
            BrokerUnavailable: no Sentinel can be reached, none knows a primary, or that cannot be reached.
            AccessDenied: Sentinel or server refuse the credentials.
        """
        try:
            async with asyncio.timeout(within):
                primary = self.place = await self._discover(within)
                connection = await self._connect(within, primary)
                try:
                    await self._check(connection, primary)
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
        except TimeoutError as error:
            raise BrokerUnavailable(
                f"no primary of {self._sentinels.service} was found within {within} s"
            ) from error
        self._following.start()
        return connection

    async def close(self) -> None:
        """Follow the primary no more."""
        await self._following.close()

    async def _connect(self, within: float, primary: Node) -> AbstractConnection:
        try:
            return await self._dial.connect(within, host=primary[0], port=primary[1])
        except BrokerUnavailable as error:
            said = (
                f"{error} (the primary that the Sentinels name: replica-announce-ip,"
                " if it is not to be used from here)"
            )
            raise BrokerUnavailable(said, sent=error.sent) from error.__cause__

    async def _discover(self, within: float) -> Node:
        # Each gets a part of the time: one that hangs must not keep the others from being believed.
        asked = [
            asyncio.create_task(self._ask(place, within / 2))
            for place in self._sentinels.places
        ]
        votes: dict[Node, int] = {}
        troubles: list[BrokerError] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    primary = await answer
                except BrokerError as error:
                    troubles.append(error)
                    continue
                votes[primary] = votes.get(primary, 0) + 1
                if votes[primary] > len(asked) // 2:
                    return primary
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        if votes:
            return max(votes, key=lambda primary: votes[primary])
        if (
            all(isinstance(error, NoService) for error in troubles)
            and self.place is None
        ):
            # It never was one, and only a person mends that.
            raise WrongServer(str(troubles[0]))
        denied = next(
            (
                error
                for error in troubles
                if isinstance(error, (AccessDenied, WrongServer))
            ),
            None,
        )
        unknown = next(
            (error for error in troubles if isinstance(error, NoService)), troubles[0]
        )
        raise denied or BrokerUnavailable(
            f"no Sentinel names a primary of {self._sentinels.service}: {unknown}"
        )

    async def _ask(self, place: Node, within: float) -> Node:
        link = self._sentinels.link(place, within)
        try:
            return await self._sentinels.ask(link)
        finally:
            await link.close()

    async def _check(self, connection: AbstractConnection, primary: Node) -> None:
        try:
            role = (await ask(connection, "ROLE"))[0]
        except errors.NoPermissionError:
            return  # Then its refusal of the first write tells.
        except (errors.RedisError, OSError) as error:
            raise failures.loss(error, sent=False) from error
        if role == _REPLICA:
            raise BrokerUnavailable(
                f"{primary[0]}:{primary[1]} is a replica: a failover is under way"
            )
