"""Check whether groups can be read. Read only, with permissions that a worker has anyway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streams.broker.server.connection import Broker
from streams.errors import (
    AccessDenied,
    BrokerError,
    BrokerUnavailable,
    GroupMissing,
    WrongKeyType,
)

_WORDS: tuple[tuple[type[BrokerError], str], ...] = (
    (GroupMissing, "the group is missing"),
    (WrongKeyType, "the key holds another kind of value"),
    (AccessDenied, "the server denies access"),
)


class ProbeStore:
    """Looks at groups on a connection of its own, which a worker's traffic does not delay.

    Args:
        broker: an open broker; the connection belongs to the event loop that probes.
        places: stream, group and levels of each group.
    """

    def __init__(
        self, broker: Broker, places: Iterable[tuple[str, str, Sequence[int]]]
    ) -> None:
        self._broker = broker
        self._places = [
            (stream, group, level)
            for stream, group, levels in places
            for level in levels
        ]

        self._link = broker.link()

    async def probe(self, within: float) -> list[str]:
        """The groups that cannot be read, a sentence each.

        One ``XPENDING`` per level, in one round trip.

        Args:
            within: seconds for the trip, connecting included.

        Raises:
            BrokerUnavailable: the server cannot be reached in that time, or cannot serve now.
            AccessDenied: it refuses the credentials.
        """
        commands = [
            ("XPENDING", self._broker.keys(stream).level(level), group)
            for stream, group, level in self._places
        ]

        replies = await self._link.batch(commands, within=within)
        wrong = []

        for (stream, group, level), reply in zip(self._places, replies, strict=True):
            if isinstance(reply, BrokerUnavailable):
                raise reply

            if isinstance(reply, BrokerError):
                wrong.append(f"{stream}/{group} level {level}: {_said(reply)}")

        return wrong

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()


def _said(refusal: BrokerError) -> str:
    for kind, words in _WORDS:
        if isinstance(refusal, kind):
            return words

    return "the server refuses"
