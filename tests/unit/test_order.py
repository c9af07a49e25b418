"""The order in which several processes get the tests: nothing is lost, and nobody ends with the long ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.order import LONG, QUICK, dealt


def suite_of(suite: str, files: int, each: int) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(path=Path("tests", suite, f"test_{file}.py"), number=number)
        for file in range(files)
        for number in range(each)
    ]


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
def test_each_process_begins_with_long_tests_and_ends_with_quick_ones(processes):
    items = [
        *suite_of("unit", 9, 40),
        *suite_of("process", 21, 3),
        *suite_of("server", 30, 10),
    ]
    order = dealt(items, processes)
    assert Counter(map(id, order)) == Counter(map(id, items))
    rest, owners = order, {}
    for process in range(processes):
        length = len(rest) // (processes - process)
        piece, rest = rest[:length], rest[length:]
        suites = [item.path.parent.name for item in piece]
        assert suites == sorted(suites, key=("process", "server", "unit").index)
        assert suites[0] in LONG
        assert suites[-1] in QUICK
        for item in piece:
            if item.path.parent.name in LONG:
                assert owners.setdefault(item.path, process) == process


def test_a_single_suite_is_dealt_too():
    items = suite_of("process", 3, 5)
    assert Counter(map(id, dealt(items, 4))) == Counter(map(id, items))
    assert dealt([], 4) == []
