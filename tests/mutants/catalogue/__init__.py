"""Seeded bugs. Each replaces a piece of text that occurs exactly once at its place, however it is
wrapped; the tests named must then fail.

To add one to the part that it is about: name the function or the Lua file, copy the exact text from
it, write the bug, name the tests that should notice, say what would go wrong for a user, and run
``make mutants ONLY=name``.
"""

from tests.mutants.catalogue import (
    bodies,
    compositions,
    consuming,
    edges,
    groups,
    limits,
    operating,
    ordering,
    publishing,
    servers,
)

MUTANTS = (
    *consuming.MUTANTS,
    *publishing.MUTANTS,
    *limits.MUTANTS,
    *ordering.MUTANTS,
    *operating.MUTANTS,
    *groups.MUTANTS,
    *servers.MUTANTS,
    *compositions.MUTANTS,
    *bodies.MUTANTS,
    *edges.MUTANTS,
)
"""Every seeded bug, part by part."""
