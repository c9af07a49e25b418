"""What a seeded bug is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A seeded bug.

    Attributes:
        name: of the bug.
        place: a function, method, class or constant by its qualified name, or the name of a Lua file; wherever it is.
        old: text that occurs there once.
        new: what it is replaced by.
        tests: arguments for pytest; one failure kills the mutant.
        harm: what the bug would do to a user.
    """

    name: str
    place: str
    old: str
    new: str
    tests: tuple[str, ...]
    harm: str
