"""Hundreds of seeds of everything at once, on a real server, time travelled.

``STREAMS_TEST_SEED=17`` plays one, with its story. Thousands: ``make composition SEEDS=5000``, which says as well how
often each feature, reason and end was reached, and fails where one never was.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import seeds as seeds_of
from tests.composition import clock, workers
from tests.composition.books import Books
from tests.composition.reached import OFTEN
from tests.composition.run import Run

pytestmark = pytest.mark.one_server


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with seeds_of.quiet():
        yield


def told(seed: int, url: str) -> Books:
    return asyncio.run(Run(seed, url, f"c{os.getpid()}-{seed}").play())


def play(seed: int, url: str) -> Counter[str]:
    """Play one seed; fails with its story where anything was wrong."""
    books = told(seed, url)
    if seeds_of.ONE:
        print(*books.story, sep="\n")
    story = "\n".join(books.story[-80:])
    replay = f"STREAMS_TEST_SEED={seed} pytest -n0 -s tests/composition"
    assert not books.wrong, "\n".join(
        [f"seed {seed}:", *books.wrong[:5], f"replay: {replay}", "its end:", story]
    )
    return books.seen


@pytest.mark.timeout(600)  # Fifty stories: a minute where nothing else runs.
@pytest.mark.parametrize("seeds", seeds_of.parts(100), ids=seeds_of.name_of)
def test_whatever_has_no_reason_to_wait_starts(
    seeds: range, server, monkeypatch: pytest.MonkeyPatch
):
    clock.install(monkeypatch)
    workers.install(monkeypatch)
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen += play(seed, server.url)
    if len(seeds) == seeds_of.PART:
        assert [name for name in OFTEN if not seen[name]] == [], "no seed came to these"


def test_a_seed_is_a_story_that_can_be_told_again(
    server, monkeypatch: pytest.MonkeyPatch
):
    clock.install(monkeypatch)
    workers.install(monkeypatch)
    for seed in (4, 5):
        stories = [
            [line for line in told(seed, server.url).story if " look " in line]
            for _ in range(2)
        ]
        assert stories[0] == stories[1]
