"""Priority levels: which integers a stream serves, and to which level any other integer goes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from streams.errors import ConfigurationError

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
        given = list(levels)
        if any(isinstance(level, bool) or not isinstance(level, int) for level in given):
            raise ConfigurationError(f"levels are integers, not {given!r}")
        if not given or len(set(given)) != len(given) or len(given) > MAX_LEVELS:
            raise ConfigurationError(f"levels: give 1 to {MAX_LEVELS} different integers, not {given!r}")
        self.ascending = tuple(sorted(given))
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
            raise ConfigurationError(f"priority is an integer, not {type(priority).__name__}")
        return self.ascending[max(0, bisect_right(self.ascending, priority) - 1)]
