"""Levels that nobody declared: another program added entries where no consumer looks for them.

What is listed knows of them nothing, so the likely keys are asked for by name; that costs one command, whatever is
stored on the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from streams.broker.keys import Keys
from streams.broker.server.scripts import Command

LIKELY = range(-10, 101)
"""Levels that are looked at: priorities that people count in."""

Ask = Callable[[list[Command]], Awaitable[Sequence[Any]]]


def probe(keys: Keys, levels: Sequence[int]) -> Command:
    """Ask how many of the likely levels that are not among ``levels`` there are."""
    return ("EXISTS", *(keys.level(level) for level in _others(levels)))


async def stored_there(
    ask: Ask, keys: Keys, levels: Sequence[int], answer: Any
) -> dict[int, int]:
    """Level to how many entries it has, where nobody looks.

    Args:
        ask: sends commands in one trip.
        keys: of the stream.
        levels: those that are declared.
        answer: of the server, to ``probe``; what is no number means that it could not be asked.
    """
    if not isinstance(answer, int) or answer <= 0:
        return {}
    others = _others(levels)
    lengths = await ask([("XLEN", keys.level(level)) for level in others])
    return {
        level: size
        for level, size in zip(others, lengths, strict=True)
        if isinstance(size, int) and size > 0
    }


def _others(levels: Sequence[int]) -> list[int]:
    known = set(levels)
    return [level for level in LIKELY if level not in known]
