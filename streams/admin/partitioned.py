"""A stream's name means all of its partitions to an operator.

Here a verb is run on each of them.

A class whose objects are about one stream derives from ``OnPartitions``, writes each
verb for one partition, and says with ``on_each`` how the answers are put together. Such
an object is about all partitions, or about one of them.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from copy import copy
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from streams.broker import Broker, checked_broker
from streams.broker.admin.inspect import StatusStore
from streams.broker.keys import Keys
from streams.errors import BrokerUnavailable, NotFound, PartlyAway
from streams.events.names import checked_name
from streams.policy.partitions import partition_name

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S", bound="OnPartitions")


class OnPartitions:
    """About the partitions of one stream.

    Args:
        broker: an open broker.
        stream: the stream's name, or that of a partition, e.g. ``orders.p2``.
        by: the name of the operator, for the audit record.
        partition: the number of one of its partitions; None: all that there are.
    """

    def __init__(
        self, broker: Broker, stream: str, *, by: str = "", partition: int | None = None
    ) -> None:
        self.stream = checked_broker(broker).keys(stream).stream
        self._broker = broker
        self._by = by or "unknown"
        self._partition = partition
        self._is_one = False

    @property
    def _keys(self) -> Keys:
        return self._broker.keys(self.stream)

    @property
    def _inspecting(self) -> StatusStore:
        return StatusStore(self._broker)

    async def _levels(self) -> list[int]:
        """The levels of the stream, which has to be there."""
        return await self._inspecting.existing(self.stream)

    async def _groups(self) -> list[str]:
        """The names of its groups; none if there is no such stream."""
        levels = await self._inspecting.levels(self.stream)
        status = await self._inspecting.stream(self.stream, levels)

        return [group.group for group in status.groups]

    async def _names(self) -> list[str]:
        """The names of the partitions that this is about."""
        return await partitions_of(self._broker, self.stream, self._partition)

    async def _parts(self) -> list[Self]:
        """One object for each partition that this is about. One command.

        Raises:
            NotFound: there is no partition of that number.
        """
        if self._is_one:
            return [self]

        return [self._of(name) for name in await self._names()]

    def _of(self, name: str) -> Self:
        part = copy(self)
        part.stream = name
        part._is_one = True  # noqa: SLF001 - of this class

        return part


class OnGroup(OnPartitions):
    """About one group of a stream, on the stream's partitions.

    Args:
        broker: an open broker.
        stream, group: names.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        group: str,
        *,
        by: str = "",
        partition: int | None = None,
    ) -> None:
        super().__init__(broker, stream, by=by, partition=partition)
        self.group = checked_name(group, "group")


async def partitions_of(
    broker: Broker, stream: str, partition: int | None = None
) -> list[str]:
    """The names of a stream's partitions, or that of one of them. One command.

    A stream that is not spread has one, with its own name.

    Raises:
        NotFound: there is no partition of that number.
    """
    if partition == 0:
        return [stream]

    count = (await StatusStore(broker).partitions(stream)).count
    if partition is None:
        return [partition_name(stream, number) for number in range(count)]
    if 0 < partition < count:
        return [partition_name(stream, partition)]

    has = (
        f"{count} partitions: give --partition 0 to {count - 1}"
        if count > 1
        else "one partition, number 0"
    )
    raise NotFound(f"stream {stream!r} has no partition {partition}; it has {has}")


def no_group(stream: str, group: str, names: Iterable[str], more: str = "") -> NotFound:
    """The error for a group that is not there: it names those that are, and says more."""
    there = ", ".join(names) or "none"

    return NotFound(f"stream {stream!r} has no group {group!r}; it has: {there}{more}")


def on_each(
    merge: Callable[[list[R]], R],
) -> Callable[
    [Callable[Concatenate[S, P], Awaitable[R]]],
    Callable[Concatenate[S, P], Awaitable[R]],
]:
    """Have a verb that is written for one partition done on each, and its answers merged.

    A partition on which there is nothing of the kind is passed over, unless it is so on
    all. If some are away the verb is done on the others, and what it raises
    (``PartlyAway``) names those that are missing and has the answer of the others;
    every verb may be repeated.
    """

    def decorate(
        verb: Callable[Concatenate[S, P], Awaitable[R]],
    ) -> Callable[Concatenate[S, P], Awaitable[R]]:
        @functools.wraps(verb)
        async def everywhere(self: S, /, *args: P.args, **named: P.kwargs) -> R:
            parts = await self._parts()
            if len(parts) == 1:
                return await verb(parts[0], *args, **named)

            answers, away = await ask_each(
                parts, lambda part: verb(part, *args, **named)
            )
            if away:
                raise partly(parts[0].stream, away, merge(answers) if answers else None)

            return merge(answers)

        return everywhere

    return decorate


class _Part(Protocol):
    @property
    def stream(self) -> str:
        """Its name."""


W = TypeVar("W", bound=_Part)


async def ask_each(
    parts: Sequence[W], ask: Callable[[W], Awaitable[R]]
) -> tuple[list[R], dict[str, BrokerUnavailable]]:
    """The answers of the partitions, and the errors of those that are away, by their names.

    Raises:
        NotFound: there is nothing of the kind on any of them.
    """
    answers: list[R] = []
    missing: NotFound | None = None
    away: dict[str, BrokerUnavailable] = {}

    for part in parts:
        try:
            answers.append(await ask(part))
        except NotFound as error:
            missing = missing or error
        except BrokerUnavailable as error:
            away[part.stream] = error

    if missing is not None and not answers and not away:
        raise missing

    return answers, away


async def of_all(parts: Sequence[W], ask: Callable[[W], Awaitable[R]]) -> list[R]:
    """The answers of the partitions that have something of the kind.

    Raises:
        NotFound: there is nothing of the kind on any of them.
        BrokerUnavailable: one of them is away.
    """
    answers, away = await ask_each(parts, ask)
    for error in away.values():
        raise error

    return answers


def partly(
    stream: str, away: Mapping[str, BrokerUnavailable], answer: Any
) -> BrokerUnavailable:
    """The error for partitions that are away, with the answer of the others."""
    cause = next(iter(away.values()))
    error = PartlyAway(
        f"the partitions {', '.join(away)} are away ({cause}); what was asked for is "
        f"done on the others of {stream!r}: "
        "do it again when these are back",
        answer,
        tuple(away),
        sent=any(error.sent for error in away.values()),
        server=cause.server,
    )

    error.__cause__ = cause

    return error


async def in_part(asked: Awaitable[T]) -> tuple[T, tuple[str, ...]]:
    """The answer as far as it is there, and the partitions that are missing in it."""
    try:
        return await asked, ()
    except PartlyAway as error:
        if error.answer is None:
            raise

        return error.answer, error.partitions


@dataclass(frozen=True, slots=True)
class Part:
    """A partition, by its name."""

    stream: str


async def tolerant(
    stream: str, source: AsyncIterator[T], away: dict[str, BrokerUnavailable]
) -> AsyncIterator[T]:
    """The items of a partition's source.

    If the partition is away, that is written down, and no more items come.
    """
    try:
        async for item in source:
            yield item
    except BrokerUnavailable as error:
        away[stream] = error


async def merged(
    sources: Sequence[AsyncIterator[T]], key: Callable[[T], Any]
) -> AsyncIterator[T]:
    """The items of several sorted sources, sorted; one item of each is held at a time."""
    heads: list[tuple[Any, int, T]] = []
    for at, source in enumerate(sources):
        await _next(heads, at, source, key)

    while heads:
        _, at, item = heapq.heappop(heads)
        yield item
        await _next(heads, at, sources[at], key)


async def _next(
    heads: list[tuple[Any, int, T]],
    at: int,
    source: AsyncIterator[T],
    key: Callable[[T], Any],
) -> None:
    async for item in source:
        heapq.heappush(heads, (key(item), at, item))
        return


def first(answers: list[R]) -> R:
    """The answer of the first partition that has one."""
    return answers[0]


def truest(answers: list[R]) -> R:
    """The first answer that says something; else the first."""
    return next(filter(None, answers), answers[0])


def joined(answers: list[list[T]]) -> list[T]:
    """All items of all answers."""
    return [item for answer in answers for item in answer]


def added(counts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    """The sum of several counts, by what is counted."""
    total: dict[K, int] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total.get(name, 0) + number

    return total
