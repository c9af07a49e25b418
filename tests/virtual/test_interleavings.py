"""Hundreds of seeds of the consumer against the model, in virtual time.

``STREAMS_TEST_SEEDS=5000`` tries more of them, ``STREAMS_TEST_SEED=17`` one, with its story.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.virtual.world import play

_ONE = os.environ.get("STREAMS_TEST_SEED")
_COUNT = int(os.environ.get("STREAMS_TEST_SEEDS", "300"))
_PART = 50


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("streams")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def parts() -> list[range]:
    if _ONE:
        return [range(int(_ONE), int(_ONE) + 1)]
    return [range(at, min(at + _PART, _COUNT)) for at in range(0, _COUNT, _PART)]


@pytest.mark.parametrize("seeds", parts(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_whatever_the_order_nothing_is_lost_and_nothing_runs_twice(seeds: range, monkeypatch: pytest.MonkeyPatch):
    for seed in seeds:
        world = play(seed, monkeypatch)
        if _ONE:
            print(*world.history, sep="\n")
        story = "\n".join(world.history[-60:])
        replay = f"STREAMS_TEST_SEED={seed} pytest -s tests/virtual/test_interleavings.py"
        assert not world.wrong, f"seed {seed}: {world.wrong}\nreplay: {replay}\nits end:\n{story}"


def test_a_seed_is_a_story_that_can_be_told_again(monkeypatch: pytest.MonkeyPatch):
    for seed in (3, 11):
        stories = [play(seed, monkeypatch).history for _ in range(2)]
        assert stories[0] == stories[1]
        assert len(stories[0]) > 30
