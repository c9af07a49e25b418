"""Ask about many streams, some of whose servers may be away; those are named."""

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
        streams: those on it, which could not be asked about.
        has_index: it has the list of streams, so that more streams may be missing.
    """

    shard: str
    streams: tuple[str, ...] = ()
    has_index: bool = False

    def __str__(self) -> str:
        """One line for an operator."""
        if self.has_index:
            return (
                f"shard {self.shard} is away: the list of streams cannot be read; commands that"
                " name a stream work, if its own shard is there"
            )

        names = ", ".join(self.streams)
        return f"shard {self.shard} is away: these streams are not shown: {names}"

    def as_plain(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self) | {"streams": list(self.streams)}


async def each(
    broker: Broker, streams: Iterable[str], ask: Callable[[str], Awaitable[T]]
) -> tuple[list[T], list[Away]]:
    """The answers of ``ask`` for each stream, in order, and the shards that are away.

    A shard that did not answer is not asked again: a hanging one costs one timeout, not one per
    stream.

    Raises:
        BrokerUnavailable: the only server is away.
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
            shard = shard or error.server
            if not shard:
                raise

            missing.setdefault(shard, []).append(stream)

    away = [Away(shard, tuple(names)) for shard, names in missing.items()]
    return found, away


def away_index(error: BrokerUnavailable) -> Away:
    """The shard whose list of streams could not be read.

    Raises:
        BrokerUnavailable: the only server is away.
    """
    if not error.server:
        raise error

    return Away(error.server, has_index=True)
