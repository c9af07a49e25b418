"""One stream over several places: how partitions are named, which one an event belongs to, and who serves which. Pure.

Partition 0 of ``orders`` is ``orders`` itself, the others are ``orders.p1``, ``orders.p2`` and so on: ordinary streams,
each with a hash tag of its own. So a stream is spread without moving anything, and every tool knows its partitions.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from streams.errors import ConfigurationError
from streams.policy.limit import ATTRIBUTES

MOST = 1000
_NAME = re.compile(r"(?P<base>.+)\.p[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Partitions:
    """Over how many places a stream is spread, and by which attribute of its events.

    Attributes:
        count: from 1 to 1000.
        by: events with the same value are on the same partition; those without one go in turns.

    Raises:
        ConfigurationError: a value is refused.
    """

    count: int = 1
    by: str = "key"

    def __post_init__(self) -> None:
        if (
            isinstance(self.count, bool)
            or not isinstance(self.count, int)
            or not 1 <= self.count <= MOST
        ):
            raise ConfigurationError(
                f"partitions is an integer from 1 to {MOST}, not {self.count!r}"
            )
        if self.by not in ATTRIBUTES:
            raise ConfigurationError(
                f"partitions are by one of {', '.join(ATTRIBUTES)}, not {self.by!r}"
            )

    @classmethod
    def parse(cls, stored: bytes | None) -> Partitions:
        """What is stored of a stream: ``count attribute``; nothing where it is not spread."""
        count, _, by = (stored or b"1 key").decode().partition(" ")
        return cls(int(count), by)


ONE = Partitions()


def partition_name(stream: str, number: int) -> str:
    """The stream that is a partition of another one."""
    return f"{stream}.p{number}" if number else stream


def base_of(stream: str) -> str:
    """The stream that a name is a partition of; the name itself if it is none."""
    found = _NAME.fullmatch(stream)
    return found["base"] if found else stream


def number_of(stream: str) -> int:
    """The number of the partition that a name is; 0 if it is none."""
    return int(stream.rpartition(".p")[2]) if _NAME.fullmatch(stream) else 0


def partition_of(value: str, count: int) -> int:
    """The partition of events with this value: CRC-32 of its UTF-8, modulo the count."""
    return zlib.crc32(value.encode("utf-8", "surrogatepass")) % count


def assigned(members: Sequence[str], me: str, count: int) -> set[int]:
    """The partitions that ``me`` serves. Every member comes to the same division by itself.

    No partition is left out, no member idle, and the numbers differ by one at most. Rendezvous hashing: when a member
    comes or goes, most partitions stay where they are.
    """
    names = sorted({*members, me})
    if len(names) <= count:
        owners = _deal([str(number) for number in range(count)], names)
        return {number for number, owner in enumerate(owners) if owner == me}
    numbers = [str(number) for number in range(count)]
    return {int(_deal(names, numbers)[names.index(me)])}


def _deal(items: Sequence[str], hands: Sequence[str]) -> list[str]:
    """Give each item to a hand, all hands the same number or one more."""
    share, load, dealt = len(items) // len(hands), dict.fromkeys(hands, 0), []
    for item in items:
        ranked = sorted(hands, key=lambda hand: _score(item, hand))
        most = share if min(load.values()) < share else share + 1
        hand = next(hand for hand in ranked if load[hand] < most)
        load[hand] += 1
        dealt.append(hand)
    return dealt


def _score(item: str, hand: str) -> bytes:
    return hashlib.blake2b(f"{item}|{hand}".encode(), digest_size=8).digest()
