"""declare: write down which groups a stream has and what it keeps for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streams.broker.keys import Keys
from streams.broker.server.scripts import Script
from streams.errors import BrokerError, ConfigurationError, GroupMissing, OutOfMemory
from streams.policy.declaration import Declaration
from streams.policy.levels import Levels

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_DECLARE = Script("declare")
_DECLARED, _NOT_WORK, _SECOND_GROUP, _DROPPED = range(4)


class Declared(NamedTuple):
    """The outcome of declaring.

    Attributes:
        created: the levels on which the own group was created.
        lost: declared groups that were gone.
    """

    created: list[int]
    lost: list[str]


class Declaring:
    """Declares one group of a stream, and those that are named with it."""

    def __init__(
        self, keys: Keys, levels: Levels, group: str, declaration: Declaration
    ) -> None:
        self._keys = keys
        self._levels = levels.descending
        self._group = group
        self._retention = declaration.retention or ""
        self._groups = [group, declaration.start]
        for name in declaration.groups:
            if name != group:
                self._groups += (name, "new" if name in declaration.new else "oldest")
        self._again = 0

    async def declare(self, link: Link) -> Declared:
        """Create the groups where they are missing and write them down.

        Never at the end of the stream when a group comes back: what was added meanwhile
            must be read. Without memory nothing is written; if the group is missing,
            the next read says so.

        Raises:
            ConfigurationError: the stream is declared otherwise; the message says what
                to do.
            GroupMissing: the group was declared by this object before, and dropped
                since.
        """
        streams = [self._keys.level(level) for level in self._levels]
        command = _DECLARE.command(
            (self._keys.config(), *streams), self._retention, self._again, *self._groups
        )
        reply, noted = await link.batch(
            [command, ("SADD", self._keys.levels(), *self._levels)]
        )
        for refusal in (reply, noted):
            if isinstance(refusal, BrokerError) and not isinstance(
                refusal, OutOfMemory
            ):
                raise refusal
        # The index may be on another server, whose trouble is not this stream's.
        await link.see_to(
            "SADD",
            self._keys.index(),
            *(f"{self._keys.stream}|{level}" for level in self._levels),
        )
        if isinstance(reply, BrokerError):
            return Declared([], [])
        code, retention, names, created, lost = reply
        self._refuse(
            code,
            retention.decode(),
            [n.decode() for n in names],
            [n.decode() for n in lost],
        )
        self._again = 1
        return Declared(
            [self._levels[at - 1] for at in created], [name.decode() for name in lost]
        )

    def _refuse(
        self, code: int, retention: str, names: list[str], refused: list[str]
    ) -> None:
        stream, group = self._keys.stream, self._group
        known = ", ".join(sorted(names))
        if code == _NOT_WORK:
            raise ConfigurationError(
                f"stream {stream!r} has retention {retention!r} for {known}, and "
                "cannot become 'work' again while it "
                "is in use: leave retention out, or say 'fanout'"
            )
        if code == _SECOND_GROUP:
            raise ConfigurationError(
                f"group {refused[0]!r} cannot join stream {stream!r}: that belongs "
                f"to {known} alone, whose "
                "acknowledgement deletes (retention 'work'). If several groups are "
                "to get every event, declare "
                f"pipeline.stream({stream!r}, retention='fanout'); if the group has "
                "a new name, drop the old one with "
                f"'streams groups drop {stream} {names[0]}'"
            )
        if code == _DROPPED:
            raise GroupMissing(
                f"group {group!r} of stream {stream!r} was dropped by an operator: "
                "remove its handlers, or start the "
                "worker again to declare it anew"
            )
