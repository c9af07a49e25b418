"""Priority levels: which integers a stream serves, and to which level any other integer goes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from streams.common.arguments import (
    checked_items,
    checked_kind,
    checked_mapping,
    checked_seconds,
)
from streams.errors import ConfigurationError
from streams.quantities import Seconds

DEFAULT_LEVELS = (0, 1, 5, 10)
MAX_LEVELS = 32


class Levels:
    """The levels of a stream. A larger number is read first.

    Args:
        levels: the integers, in any order, each once; 1 to 32 of them.

    Attributes:
        ascending, descending: the levels as tuples, in that order.

    Raises:
        ConfigurationError: no level, too many, one twice, or something that is not an integer.
    """

    __slots__ = ("ascending", "descending")

    def __init__(self, levels: Iterable[int] = DEFAULT_LEVELS) -> None:
        given = checked_items("levels", levels, "Levels([0, 1, 5, 10])")
        if any(
            isinstance(level, bool) or not isinstance(level, int) for level in given
        ):
            raise ConfigurationError(f"levels are integers, not {given!r}")
        if not given or len(set(given)) != len(given) or len(given) > MAX_LEVELS:
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
        """The highest level that is not above ``priority``; the lowest level for what is below them all.

        Raises:
            ConfigurationError: ``priority`` is not an integer.
        """
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise ConfigurationError(
                f"priority is an integer, not {type(priority).__name__}"
            )
        return self.ascending[max(0, bisect_right(self.ascending, priority) - 1)]


def checked_levels(levels: Levels | None, what: str = "levels") -> Levels:
    """The levels, or the usual ones for None.

    Raises:
        ConfigurationError: they are something else.
    """
    if levels is not None:
        checked_kind(what, levels, Levels, "a Levels, e.g. Levels([0, 10])")
    return levels or Levels()


def checked_weights(weights: Mapping[int, int], levels: Levels) -> dict[int, int]:
    """The weight of every level.

    Raises:
        ConfigurationError: a level is missing or unknown, or a weight is not an integer from 1 to 1000.
    """
    if set(checked_mapping("weights", weights, "weights={10: 8, 0: 1}")) != set(
        levels.ascending
    ):
        raise ConfigurationError(
            f"weights: give one for each of the levels {', '.join(map(str, levels.descending))}"
        )
    for level, weight in weights.items():
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int)
            or not 1 <= weight <= 1000
        ):
            raise ConfigurationError(
                f"weights: that of level {level} is an integer from 1 to 1000, not {weight!r}"
            )
    return dict(weights)


def checked_wait(seconds: Seconds) -> float:
    """The longest wait, in seconds.

    Raises:
        ConfigurationError: it is no span from 0.01 seconds to a year.
    """
    return float(checked_seconds("max_wait", seconds, 0.01, 31_536_000))


class _OfLevel(Protocol):
    """Something that belongs to a level."""

    @property
    def level(self) -> int: ...


class Turns:
    """Whose turn it is, for one consumer of a stream with weighted levels or a longest wait.

    With weights, every level with work gets its share of the places: credit is kept from read to read, so shares are
    right for single places, too (smooth weighted round robin). What a level leaves goes to the others, highest first.
    Without weights the highest level takes all that the overdue leave. Overdue events get every second place.
    Due retries count in their levels: within a level, they and new events take turns.

    Args:
        weights: of every level, see ``checked_weights``; None: strictly the highest first.
        max_wait: seconds after which a waiting event is overdue; None: never.
    """

    def __init__(
        self, weights: Mapping[int, int] | None = None, max_wait: float | None = None
    ) -> None:
        self._weights = weights
        self.max_wait = max_wait
        self.retries = 1
        """Whose is an odd place of a level with due retries and new events: 1 the retries', 0 the new ones'."""
        self._credits: dict[int, float] = {}
        self._turn = 1

    def overdue_places(self, limit: int) -> int:
        """How many of ``limit`` places the overdue may take: every second, over the reads."""
        return (limit + self._turn) // 2 if self.max_wait is not None else 0

    def plan(self, levels: Sequence[int], limit: int) -> list[int]:
        """The places of each level; they sum up to ``limit``, or are all 0 without weights."""
        if self._weights is None:
            return [0] * len(levels)
        total = sum(self._weights[level] for level in levels)
        wanted = [
            max(
                0.0,
                self._credits.get(level, 0.0) + limit * self._weights[level] / total,
            )
            for level in levels
        ]
        # Each had more than its share before, as the levels that are not asked had less.
        if not any(wanted):
            wanted = [float(self._weights[level]) for level in levels]
        scale = limit / sum(wanted)
        places = [int(share * scale + 1e-9) for share in wanted]
        rest = [
            share * scale - place for share, place in zip(wanted, places, strict=True)
        ]
        for at in sorted(range(len(levels)), key=lambda at: -rest[at])[
            : limit - sum(places)
        ]:
            places[at] += 1
        return places

    def took_these(
        self, planned: Mapping[int, int], taken: Iterable[_OfLevel], late: int
    ) -> None:
        """As ``took``, from what was planned for each level and what was taken without the overdue."""
        counts = dict.fromkeys(planned, 0)
        for one in taken:
            counts[one.level] = counts.get(one.level, 0) + 1
        self.took(tuple(planned), tuple(planned.values()), counts, late)

    def took(
        self,
        levels: Sequence[int],
        places: Sequence[int],
        taken: Mapping[int, int],
        late: int,
    ) -> None:
        """Keep the books of a read.

        Args:
            levels: as planned.
            places: as planned.
            taken: events of each level, without the overdue.
            late: how many overdue events were taken.
        """
        if late:
            self._turn = 1 - self._turn
        else:
            self._turn = 1
        if self._weights is None:
            return
        count = sum(taken.values())
        short = {
            level
            for level, place in zip(levels, places, strict=True)
            if taken.get(level, 0) < place
        }
        active = [level for level in levels if level not in short]
        total = sum(self._weights[level] for level in active)
        credits = {
            level: self._credits.get(level, 0.0)
            + count * self._weights[level] / total
            - taken.get(level, 0)
            for level in active
        }
        # A level without work saves nothing up: it stands at the back, and is asked again when its turn comes.
        back = min(credits.values(), default=0.0)
        credits |= dict.fromkeys(short, back)
        middle = sum(credits.values()) / len(credits) if credits else 0.0
        self._credits = {level: credit - middle for level, credit in credits.items()}
