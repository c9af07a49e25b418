"""Connect to the primary of a service, which the Sentinels name.

Imported when a URL names Sentinels. The steps are those of Redis's guidelines for clients of
Sentinel, except that all Sentinels are asked at once and most of them must agree: the first one
to answer may be cut off from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from streams.broker.server import failures
from streams.broker.server.client import AbstractConnection, ask, errors
from streams.broker.server.credentials import Credentials
from streams.broker.server.dial import Dial
from streams.broker.server.following import (
    Leave,
    Node,
    NoService,
    PrimaryFollower,
    Sentinels,
)
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable, WrongServer

_REPLICA = b"slave"


class SentinelDial:
    """Connects to the primary of a service.

    Args:
        dial: connects to any server.
        sentinels: of the service.
        leave: called while connections are open, to drop those to other servers than the primary.

    Attributes:
        place: host and port of the primary that was tried last; None before.
    """

    def __init__(self, dial: Dial, sentinels: Sentinels, leave: Leave) -> None:
        self._dial = dial
        self._sentinels = sentinels
        self._following = PrimaryFollower(sentinels, leave)
        self.place: Node | None = None

    @property
    def credentials(self) -> Credentials:
        """The server's credentials."""
        return self._dial.credentials

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of connections."""
        return self._dial.options

    @property
    def user(self) -> str:
        """The server's user."""
        return self._dial.user

    async def connect(self, within: float) -> AbstractConnection:
        """A connected connection to the primary, within ``within`` seconds.

        A server that calls itself a replica is refused: Sentinels may not know of a failover yet.

        Raises:
            BrokerUnavailable: no Sentinel can be reached, none names a primary, or the primary
                cannot be reached.
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
        """Stop following the primary."""
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
        # Half of the time, so that a hanging Sentinel leaves time to use the others' answers.
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

        raise self._unknown(troubles)

    def _unknown(self, troubles: list[BrokerError]) -> BrokerError:
        """The error where no Sentinel names a primary."""
        unknown = [error for error in troubles if isinstance(error, NoService)]
        if len(unknown) == len(troubles) and self.place is None:
            # The service was never seen: its name in the URL is wrong.
            return WrongServer(str(troubles[0]))

        for error in troubles:
            if isinstance(error, (AccessDenied, WrongServer)):
                return error

        why = (unknown or troubles)[0]
        return BrokerUnavailable(
            f"no Sentinel names a primary of {self._sentinels.service}: {why}"
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
            return  # A replica will refuse the first write.
        except (errors.RedisError, OSError) as error:
            raise failures.loss(error, sent=False) from error

        if role == _REPLICA:
            raise BrokerUnavailable(
                f"{primary[0]}:{primary[1]} is a replica: a failover is under way"
            )
