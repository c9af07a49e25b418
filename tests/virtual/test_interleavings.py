"""Hundreds of seeds of the consumer against the model, in virtual time.

``STREAMS_TEST_SEEDS=5000`` tries more of them, ``STREAMS_TEST_SEED=17`` one, with its story.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import seeds as seeds_of
from tests.virtual.stories import play


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with seeds_of.quiet():
        yield


@pytest.mark.parametrize("seeds", seeds_of.parts(300), ids=seeds_of.name_of)
def test_whatever_the_order_nothing_is_lost_and_nothing_runs_twice(
    seeds: range, monkeypatch: pytest.MonkeyPatch
):
    for seed in seeds:
        world = play(seed, monkeypatch)
        if seeds_of.ONE:
            print(*world.history, sep="\n")
        story = "\n".join(world.history[-60:])
        replay = (
            f"STREAMS_TEST_SEED={seed} pytest -s tests/virtual/test_interleavings.py"
        )
        assert not world.wrong, (
            f"seed {seed}: {world.wrong}\nreplay: {replay}\nits end:\n{story}"
        )


def test_a_seed_is_a_story_that_can_be_told_again(monkeypatch: pytest.MonkeyPatch):
    for seed in (3, 11):
        stories = [play(seed, monkeypatch).history for _ in range(2)]
        assert stories[0] == stories[1]
        assert len(stories[0]) > 30
