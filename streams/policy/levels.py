"""Priority levels of a stream, and the division of reads among them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from streams.common.arguments import (
    checked_items,
    checked_kind,
    checked_mapping,
    checked_number,
    checked_seconds,
    is_integer,
)
from streams.errors import ConfigurationError
from streams.quantities import Seconds

DEFAULT_LEVELS = (0, 1, 5, 10)
MAX_LEVELS = 32


class Levels:
    """The levels of a stream. A larger number is read first.

    Args:
        levels: 1 to 32 different integers in any order.

    Attributes:
        ascending, descending: the levels as tuples, in that order.

    Raises:
        ConfigurationError: there are no levels or too many, a level occurs twice, or a
            level is not an integer.
    """

    __slots__ = ("ascending", "descending")

    def __init__(self, levels: Iterable[int] = DEFAULT_LEVELS) -> None:
        given = checked_items("levels", levels, "Levels([0, 1, 5, 10])")
        if not all(is_integer(level, -math.inf, math.inf) for level in given):
            raise ConfigurationError(f"levels are integers, not {given!r}")

        if len(set(given)) != len(given) or not 1 <= len(given) <= MAX_LEVELS:
            raise ConfigurationError(
                f"levels: give 1 to {MAX_LEVELS} different integers, not {given!r}"
            )

        self.ascending: tuple[int, ...] = tuple(sorted(given))
        self.descending = self.ascending[::-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Levels) and other.ascending == self.ascending

    def __hash__(self) -> int:
        return hash(self.ascending)

    def __repr__(self) -> str:
        return f"Levels({', '.join(map(str, self.ascending))})"

    def level_for(self, priority: int) -> int:
        """The highest level that is not above ``priority``, else the lowest level.

        Raises:
            ConfigurationError: ``priority`` is not an integer.
        """
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise ConfigurationError(
                f"priority is an integer, not {type(priority).__name__}"
            )

        position = bisect_right(self.ascending, priority) - 1
        return self.ascending[max(0, position)]


def checked_levels(levels: Levels | None, what: str = "levels") -> Levels:
    """The levels, or the default ones for None.

    Raises:
        ConfigurationError: the value is of another class.
    """
    if levels is not None:
        checked_kind(what, levels, Levels, "a Levels, e.g. Levels([0, 10])")

    return levels or Levels()


def checked_weights(weights: Mapping[int, int], levels: Levels) -> dict[int, int]:
    """The weight of every level.

    Raises:
        ConfigurationError: a level is missing or unknown, or a weight is not an integer
            from 1 to 1000.
    """
    given = checked_mapping("weights", weights, "weights={10: 8, 0: 1}")
    if given.keys() != set(levels.ascending):
        named = ", ".join(map(str, levels.descending))
        raise ConfigurationError(f"weights: give one for each of the levels {named}")

    for level, weight in given.items():
        checked_number(f"weights: that of level {level}", weight, 1, 1000)

    return given


def checked_wait(seconds: Seconds) -> float:
    """The longest wait, in seconds.

    Raises:
        ConfigurationError: the value is not a span from 0.01 seconds to a year.
    """
    return float(checked_seconds("max_wait", seconds, 0.01, 31_536_000))


class _OfLevel(Protocol):
    """An object with a level."""

    @property
    def level(self) -> int: ...


class LevelTurns:
    """Divides the slots of one consumer's reads among the levels.

    With weights, every level with work gets its share of the slots (smooth weighted round
    robin). Credit is kept between reads, so that the shares are right for single slots,
    too. Unused slots of a level go to the others, highest first. Without weights the
    highest level comes first. Overdue events get every second slot. Within a level, due
    retries and new events take turns.

    Args:
        weights: the weight of every level, see ``checked_weights``; None: strictly the
            highest level first.
        max_wait: seconds after which a waiting event is overdue; None: never.
    """

    def __init__(
        self, weights: Mapping[int, int] | None = None, max_wait: float | None = None
    ) -> None:
        self._weights = weights
        self.max_wait = max_wait
        self.retries = 1
        """The owner of the odd slot of a level: 1 is its due retries, 0 its new events."""
        self._credits: dict[int, float] = {}
        self._turn = 1

    def overdue_places(self, limit: int) -> int:
        """The slots for overdue events: every second of all reads' slots."""
        if self.max_wait is None:
            return 0
        return (limit + self._turn) // 2

    def plan(self, levels: Sequence[int], limit: int) -> list[int]:
        """The slots of each level. Their sum is ``limit``; without weights all are 0."""
        if self._weights is None:
            return [0] * len(levels)

        weights = [float(self._weights[level]) for level in levels]
        total = sum(weights)
        wanted = []
        for level, weight in zip(levels, weights, strict=True):
            share = self._credits.get(level, 0.0) + limit * weight / total
            wanted.append(max(0.0, share))

        # All of them had more than their share before, and other levels less.
        if not any(wanted):
            wanted = weights

        scale = limit / sum(wanted)
        places = [int(share * scale + 1e-9) for share in wanted]

        def rest(position: int) -> float:
            return wanted[position] * scale - places[position]

        free = limit - sum(places)
        for position in sorted(range(len(levels)), key=rest, reverse=True)[:free]:
            places[position] += 1

        return places

    def took_these(
        self, planned: Mapping[int, int], taken: Iterable[_OfLevel], late: int
    ) -> None:
        """Call ``took`` for the slots of each level and the taken events, without overdue."""
        counts = Counter(one.level for one in taken)
        self.took(tuple(planned), tuple(planned.values()), counts, late)

    def took(
        self,
        levels: Sequence[int],
        places: Sequence[int],
        taken: Mapping[int, int],
        late: int,
    ) -> None:
        """Keep the credits after a read.

        Args:
            levels: the planned levels.
            places: the planned slots of each level.
            taken: the number of events of each level, without overdue ones.
            late: the number of overdue events.
        """
        self._turn = 1 - self._turn if late else 1
        if self._weights is None:
            return

        count = sum(taken.values())
        active: list[int] = []
        short: list[int] = []
        for level, place in zip(levels, places, strict=True):
            is_short = taken.get(level, 0) < place
            (short if is_short else active).append(level)

        total = sum(self._weights[level] for level in active)
        credits = {}
        for level in active:
            share = count * self._weights[level] / total
            credits[level] = self._credits.get(level, 0.0) + share - taken.get(level, 0)

        # A level without work saves no credit: it gets the lowest one.
        back = min(credits.values(), default=0.0)
        credits |= dict.fromkeys(short, back)
        middle = sum(credits.values()) / len(credits) if credits else 0.0
        self._credits = {level: credit - middle for level, credit in credits.items()}
