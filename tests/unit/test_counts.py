"""A number stands with its noun in the right number, in sentences of every part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.quantities import counted

ROOT = Path(__file__).parents[2]
NOUNS = (
    "events|entries|retries|letters|workers|consumers|groups|streams|levels|keys|rows|handlers|processes|replicas|attempts"
    "|messages|partitions|lines|orders|runs|seconds|minutes"
)
AMOUNT = (
    r"(?:len\(|count|total|number|moved|matched|dead\b|stored\b|pending|taken|published|accepted|online|given_up"
    r"|trimmed)"
)
WITHOUT_HELP = re.compile(
    rf"\{{(?!counted)[^{{}}]*{AMOUNT}[^{{}}]*\}} (?:[a-z-]+ )?(?:{NOUNS})\b"
)
ALWAYS_SEVERAL = {
    "{len(declared)} workers",  # Only several can differ.
    "{count} partitions",  # Of one it says so in words.
    "{self.total} dead letters",  # The same.
    "{len(members)} of",
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0, "event"), "0 events"),
        ((1, "event"), "1 event"),
        ((2, "event"), "2 events"),
        ((1, "entry", "entries"), "1 entry"),
        ((2, "event waits", "events wait"), "2 events wait"),
    ],
)
def test_a_number_and_its_noun(given, said):
    assert counted(*given) == said


def test_thousands():
    assert counted(12345, "line", form=",") == "12,345 lines"


def test_no_sentence_counts_by_itself():
    found = {
        (path.name, match[0])
        for path in (ROOT / "streams").rglob("*.py")
        for match in WITHOUT_HELP.finditer(path.read_text())
        if not any(match[0].startswith(known) for known in ALWAYS_SEVERAL)
    }
    assert found == set()
