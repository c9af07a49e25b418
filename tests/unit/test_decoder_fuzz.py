"""A few seconds of fuzzing with every run; ``make fuzz`` goes on for longer."""

from __future__ import annotations

import random

from tests.fuzz import entry, run


def test_whatever_stands_in_an_entry_is_an_event_or_refused():
    seed = random.randrange(10**9)
    count, found = run(5.0, seed)
    assert not found, f"seed {seed}: {found[0][:2000]}"
    assert count > 5_000


def test_a_seed_repeats_what_it_found():
    assert [entry(random.Random(n)) for n in range(50)] == [
        entry(random.Random(n)) for n in range(50)
    ]
