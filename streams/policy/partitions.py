"""Partitions of a stream: their names, their events and their workers. Pure.

Partition 0 of ``orders`` is ``orders`` itself. The others are ``orders.p1``,
``orders.p2`` and so on: ordinary streams, each with its own hash tag. Therefore a stream
gets partitions without moving an event, and every tool can handle a partition.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from streams.common.arguments import checked_number
from streams.errors import ConfigurationError
from streams.policy.limit import ATTRIBUTES

MOST = 1000
_NAME = re.compile(r"(?P<base>.+)\.p[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Partitions:
    """The number of partitions of a stream, and the attribute that chooses one.

    Attributes:
        count: from 1 to 1000.
        by: an attribute of the events. Events with the same value are on the same
            partition; events without a value go to all of them in turn.

    Raises:
        ConfigurationError: a value is invalid.
    """

    count: int = 1
    by: str = "key"

    def __post_init__(self) -> None:
        checked_number("partitions", self.count, 1, MOST)
        if self.by not in ATTRIBUTES:
            raise ConfigurationError(
                f"partitions are by one of {', '.join(ATTRIBUTES)}, not {self.by!r}"
            )

    @classmethod
    def parse(cls, stored: bytes | None) -> Partitions:
        """Read the stored form ``count attribute``; None is a stream without partitions."""
        count, _, by = (stored or b"1 key").decode().partition(" ")
        return cls(int(count), by)


ONE = Partitions()


def partition_name(stream: str, number: int) -> str:
    """The name of a partition of a stream."""
    return f"{stream}.p{number}" if number else stream


def base_of(stream: str) -> str:
    """The stream of a partition; the name itself if it is not a partition."""
    found = _NAME.fullmatch(stream)
    return found["base"] if found else stream


def number_of(stream: str) -> int:
    """The number in the name of a partition; 0 if it is not a partition."""
    return int(stream.rpartition(".p")[2]) if _NAME.fullmatch(stream) else 0


def partition_of(value: str, count: int) -> int:
    """The partition of events with this value: CRC-32 of its UTF-8, modulo the count."""
    return zlib.crc32(value.encode("utf-8", "surrogatepass")) % count


def assigned(members: Sequence[str], me: str, count: int) -> set[int]:
    """The partitions that ``me`` serves. Every member computes the same division.

    Every partition has a member, and every member a partition. The numbers differ by one
    at most. With rendezvous hashing, most partitions keep their member when another one
    comes or goes.
    """
    names = sorted({*members, me})
    numbers = [str(number) for number in range(count)]
    if len(names) > count:
        own = _deal(names, numbers)[names.index(me)]
        return {int(own)}

    owners = _deal(numbers, names)
    return {number for number, owner in enumerate(owners) if owner == me}


def _deal(items: Sequence[str], owners: Sequence[str]) -> list[str]:
    """The owner of each item. All owners have the same number of items, or one more."""
    share = len(items) // len(owners)
    load = dict.fromkeys(owners, 0)
    dealt = []
    for item in items:
        most = share if min(load.values()) < share else share + 1
        free = [owner for owner in owners if load[owner] < most]
        owner = min(free, key=functools.partial(_score, item))
        load[owner] += 1
        dealt.append(owner)

    return dealt


def _score(item: str, owner: str) -> bytes:
    return hashlib.blake2b(f"{item}|{owner}".encode(), digest_size=8).digest()
