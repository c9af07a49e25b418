"""The order of the tests where several processes run them: the longest first, those that take no time last.

Each process gets one piece of the list, and when it is done, it takes over what another has at its end. With a long
test at the end of a piece, one process works for minutes while the others have nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

LONG = ("browser", "composition", "deploy", "docs", "process", "virtual")
"""Suites with tests of several seconds."""

QUICK = ("architecture", "unit")
"""Suites whose tests take milliseconds."""


def dealt(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """The list of which each process gets one piece of equal length.

    Within a piece tests keep their order, in which those with the same server follow each other. Files of long tests
    stay together, for what their tests share.
    """
    files = dict.fromkeys(item.path for item in items if _is_of(item, LONG))
    dealt_to = {file: number % processes for number, file in enumerate(files)}
    quick = [item for item in items if _is_of(item, QUICK)]
    others = [
        item for item in items if item.path not in dealt_to and not _is_of(item, QUICK)
    ]
    long = [
        [item for item in items if dealt_to.get(item.path) == process]
        for process in range(processes)
    ]
    made: list[pytest.Item] = []
    for process, first in enumerate(long):
        left = processes - process
        # The pieces are of equal length, so who has more of the long ones has fewer others.
        length = sum(map(len, (quick, others, *long[process:]))) // left
        last = len(quick) // left
        middle = max(0, length - len(first) - last)
        made += [*first, *others[:middle], *quick[:last]]
        del others[:middle], quick[:last]
    return [*made, *others, *quick]


def _is_of(item: pytest.Item, suites: tuple[str, ...]) -> bool:
    return item.path.parent.name in suites
