"""Undeclared levels: another program added entries to a level that no consumer reads.

The index does not list such levels, so likely keys are asked for by name. That costs one
command, however much the server stores.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streams.broker.keys import Keys
from streams.broker.server.scripts import Command

LIKELY = range(-10, 101)
"""Levels that are asked for: the numbers that people use as priorities."""

Ask = Callable[[list[Command]], Awaitable[Sequence[Any]]]


def probe(keys: Keys, levels: Sequence[int]) -> Command:
    """Ask how many likely levels exist besides the declared ``levels``."""
    return ("EXISTS", *map(keys.level, _others(levels)))


async def stored_there(
    ask: Ask, keys: Keys, levels: Sequence[int], answer: Any
) -> dict[int, int]:
    """Entries per undeclared level.

    Args:
        ask: sends commands in one round trip.
        keys: of the stream.
        levels: those that are declared.
        answer: the reply to ``probe``; a refusal counts as none.
    """
    if not isinstance(answer, int) or answer <= 0:
        return {}

    others = _others(levels)
    lengths = await ask([("XLEN", keys.level(level)) for level in others])
    found = {}

    for level, length in zip(others, lengths, strict=True):
        if isinstance(length, int) and length > 0:
            found[level] = length

    return found


def _others(levels: Sequence[int]) -> list[int]:
    return [level for level in LIKELY if level not in levels]
