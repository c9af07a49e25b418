"""Levels: every integer has one, by a rule that a model of three lines can check."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import ConfigurationError
from streams.policy.levels import DEFAULT_LEVELS, MAX_LEVELS, Levels

level_sets = st.sets(st.integers(-(2**40), 2**40), min_size=1, max_size=MAX_LEVELS).map(
    list
)
quick = settings(deadline=None, database=None, max_examples=100)


def model(levels: list[int], priority: int) -> int:
    """The rule as written: the highest level that is not above the priority, else the lowest one."""
    not_above = [level for level in levels if level <= priority]
    return max(not_above) if not_above else min(levels)


@quick
@given(level_sets, st.integers())
def test_any_integer_has_the_level_that_the_rule_says(levels, priority):
    assert Levels(levels).level_for(priority) == model(levels, priority)


@quick
@given(level_sets, st.data())
def test_near_a_level(levels, data):
    near = data.draw(st.sampled_from(levels)) + data.draw(st.integers(-1, 1))
    assert Levels(levels).level_for(near) == model(levels, near)


@quick
@given(level_sets)
def test_order_and_equality_do_not_depend_on_how_they_are_given(levels):
    one, other = Levels(levels), Levels(reversed(levels))
    assert one == other
    assert hash(one) == hash(other)
    assert list(one.ascending) == sorted(levels)
    assert list(one.descending) == sorted(levels, reverse=True)
    assert eval(repr(one).replace("Levels(", "Levels([").replace(")", "])")) == one


@pytest.mark.parametrize(
    ("priority", "level"),
    [
        (0, 0),
        (1, 1),
        (2, 1),
        (4, 1),
        (5, 5),
        (9, 5),
        (10, 10),
        (11, 10),
        (10**30, 10),
        (-1, 0),
        (-(10**30), 0),
    ],
)
def test_default_levels(priority, level):
    assert DEFAULT_LEVELS == (0, 1, 5, 10)
    assert Levels().level_for(priority) == level


@pytest.mark.parametrize(
    "levels",
    [[], [1, 1], [True, 2], ["1"], [1.0], [None], "12", range(MAX_LEVELS + 1), [[1]]],
)
def test_refused_levels(levels):
    with pytest.raises(ConfigurationError, match="levels"):
        Levels(levels)


def test_the_most_levels_are_allowed():
    assert len(Levels(range(MAX_LEVELS)).ascending) == MAX_LEVELS


@pytest.mark.parametrize("priority", [True, False, "5", 5.0, None, float("nan")])
def test_refused_priorities(priority):
    with pytest.raises(
        ConfigurationError,
        match=f"priority is an integer, not {type(priority).__name__}",
    ):
        Levels().level_for(priority)


def test_levels_differ_from_other_things():
    assert Levels([1]) != Levels([2])
    assert Levels([1]) != (1,)
