"""Tests that play many seeds: in parts that run beside one another, or the one of ``STREAMS_TEST_SEED``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

ONE = os.environ.get("STREAMS_TEST_SEED")
"""The one seed that is played, and told about; None: all."""
PART = 50
"""How many a whole part has."""


def parts(count: int) -> list[range]:
    """The seeds from 0 on, as many as ``STREAMS_TEST_SEEDS`` says, else ``count``."""
    if ONE:
        return [range(int(ONE), int(ONE) + 1)]
    most = int(os.environ.get("STREAMS_TEST_SEEDS", count))
    return [range(at, min(at + PART, most)) for at in range(0, most, PART)]


def name_of(seeds: range) -> str:
    """What a part is called in the list of tests."""
    return f"{seeds.start}-{seeds.stop - 1}"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log: trouble is what a seed is made of."""
    logger = logging.getLogger("streams")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
