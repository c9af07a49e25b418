"""Asking for many streams, some of whose servers may be away: what is there is told, and what is not is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from streams.broker.server.connection import Broker
from streams.errors import BrokerUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Away:
    """A shard of a cluster that could not be asked.

    Attributes:
        shard: host and port.
        streams: those on it that nothing is told of.
        has_index: it has the list of streams, so there may be more that nothing is told of.
    """

    shard: str
    streams: tuple[str, ...] = ()
    has_index: bool = False

    def __str__(self) -> str:
        """One line for an operator."""
        if self.has_index:
            return (
                f"shard {self.shard} is away: the list of streams cannot be read; commands that name a stream work, "
                "if its own shard is there"
            )
        return f"shard {self.shard} is away: these streams are not shown: {', '.join(self.streams)}"

    def as_plain(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self) | {"streams": list(self.streams)}


async def each(
    broker: Broker, streams: Iterable[str], ask: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Away]]:
    """What ``ask`` says of each stream, in their order, and the shards that are away.

    A shard that did not answer is not asked again: one that hangs costs one timeout, not one per stream.

    Raises:
        BrokerUnavailable: there is one server only, and it is away.
    """
    found: list[T] = []
    missing: dict[str, list[str]] = {}
    for stream in streams:
        shard = broker.server_of(stream)
        if shard in missing:
            missing[shard].append(stream)
            continue
        try:
            found.append(await ask(stream))
        except BrokerUnavailable as error:
            if not (shard := shard or error.server):
                raise
            missing.setdefault(shard, []).append(stream)
    return found, [Away(shard, tuple(names)) for shard, names in missing.items()]


def away_index(error: BrokerUnavailable) -> Away:
    """That the list of streams could not be read.

    Raises:
        BrokerUnavailable: there is one server only, and it is away.
    """
    if not error.server:
        raise error
    return Away(error.server, has_index=True)
