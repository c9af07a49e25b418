"""LevelTurns: how places are divided among levels, without a server."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streams.policy.levels import LevelTurns

LEVELS = [10, 5, 1, 0]
weights = st.fixed_dictionaries({level: st.integers(1, 1000) for level in LEVELS})


def read(turns: LevelTurns, limit: int, stock: dict[int, float]) -> Counter[int]:
    """What a read takes: the places of each level, then what is left over, highest first."""
    places = turns.plan(LEVELS, limit)
    taken = Counter(
        {
            level: min(place, stock[level])
            for level, place in zip(LEVELS, places, strict=True)
        }
    )
    room = limit - taken.total()
    for level in LEVELS:
        more = min(room, stock[level] - taken[level])
        taken[level] += more
        room -= more
    turns.took(LEVELS, places, taken, 0)
    return taken


@given(weights=weights, limits=st.lists(st.integers(1, 200), min_size=1, max_size=30))
def test_places_are_never_negative_and_always_used_up(weights, limits):
    turns = LevelTurns(weights)
    for limit in limits:
        places = turns.plan(LEVELS, limit)
        assert sum(places) == limit
        assert min(places) >= 0
        read(turns, limit, dict.fromkeys(LEVELS, float("inf")))


@given(weights=weights, limit=st.integers(1, 100))
def test_shares_are_exact_to_a_few_places(weights, limit):
    turns = LevelTurns(weights)
    total, got = sum(weights.values()), Counter()
    for _ in range(300):
        got += read(turns, limit, dict.fromkeys(LEVELS, float("inf")))
    for level in LEVELS:
        assert abs(got[level] - 300 * limit * weights[level] / total) <= 4


@given(
    weights=weights,
    limit=st.integers(1, 50),
    idle=st.sets(st.sampled_from(LEVELS), max_size=3),
)
def test_idle_levels_save_nothing_up(weights, limit, idle):
    """Levels that were idle for long get their shares when they have work again, not more."""
    turns = LevelTurns(weights)
    for _ in range(200):
        read(
            turns,
            limit,
            {level: 0 if level in idle else float("inf") for level in LEVELS},
        )
    got = Counter()
    for _ in range(300):
        got += read(turns, limit, dict.fromkeys(LEVELS, float("inf")))
    total = sum(weights.values())
    for level in LEVELS:
        assert abs(got[level] - 300 * limit * weights[level] / total) <= 4 + 2 * limit


@given(
    weights=weights,
    reads=st.lists(
        st.tuples(
            st.sets(st.sampled_from(LEVELS), min_size=1),
            st.lists(st.integers(0, 3), min_size=4, max_size=4),
        ),
        max_size=30,
    ),
)
def test_places_are_used_up_whichever_levels_are_asked_and_whatever_was_taken(
    weights, reads
):
    """Levels that are paused are not asked, and due retries bring more than was planned of a level."""
    turns = LevelTurns(weights)
    for asked, taken in reads:
        levels = [level for level in LEVELS if level in asked]
        places = turns.plan(levels, 1)
        assert sum(places) == 1
        turns.took(
            levels,
            places,
            {level: count for level, count in zip(LEVELS, taken, strict=True) if count},
            0,
        )


def test_the_overdue_have_every_second_place():
    turns = LevelTurns(None, 1.0)
    given = []
    for _ in range(6):
        given.append(turns.overdue_places(1))
        turns.took(LEVELS, [0] * 4, {}, given[-1])
    assert given == [1, 0, 1, 0, 1, 0] or given == [1, 0, 1, 1, 0, 1]
    assert LevelTurns(None, 1.0).overdue_places(40) == 20
    assert LevelTurns(dict.fromkeys(LEVELS, 1)).overdue_places(40) == 0
