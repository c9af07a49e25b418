"""attend: the present members of a group, and the partitions of its stream."""

from __future__ import annotations

from typing import NamedTuple

from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.policy.partitions import Partitions

_ATTEND = Script("attend")


class Attendance(NamedTuple):
    """The members that are present, and the declared partitions."""

    partitions: Partitions
    members: list[str]


class Attending:
    """A worker's presence in a group of a partitioned stream.

    Args:
        broker: an open broker.
        stream: the stream, not a partition of it.
        group: the group.
        worker: the worker's name.
    """

    def __init__(self, broker: Broker, stream: str, group: str, worker: str) -> None:
        self._link = broker.link()
        keys = broker.keys(stream)
        self._keys = (keys.members(group), keys.partitions())
        self._worker = worker

    async def attend(self, seconds: float, declared: Partitions) -> Attendance:
        """Be there for so many seconds from now; 0.0: leave.

        Declares how the stream is spread, too.
        """
        arguments = (self._worker, round(seconds * 1000), declared.count, declared.by)
        count, by, *members = await self._link.call(
            *_ATTEND.command(self._keys, *arguments)
        )
        return Attendance(
            Partitions(int(count) or 1, by.decode()),
            [member.decode() for member in members],
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()
