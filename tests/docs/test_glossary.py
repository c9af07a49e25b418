"""The glossary has the words of the pages, and the pages have no word that it calls gone."""

from __future__ import annotations

import re

import pytest

from tests.architecture import prose
from tests.docs.blocks import ROOT, pages

GLOSSARY = ROOT / "docs" / "glossary.md"
KEPT, GONE = GLOSSARY.read_text("utf-8").split("## Words that are gone")
ROW = re.compile(r"^\| (?P<first>[^|]+) \| (?P<means>[^|]+) \|", re.MULTILINE)
NOT_HELD = ("adr", "reference")
"""Decisions keep the words of their day; the reference is made of the code."""


def words(table: str) -> list[str]:
    cells = [row["first"] for row in ROW.finditer(table)]
    return [cell for cell in cells if cell not in ("word", "not", "---")]


def texts() -> str:
    """The prose of the pages, without code."""
    return "\n".join(
        prose.plain(passage.text)
        for path in pages()
        if path != GLOSSARY and path.parent.name not in NOT_HELD
        for passage in prose.markdown(path.read_text("utf-8"))
        if path.relative_to(ROOT).as_posix() not in prose.RULES["skipped"]
    )


TEXTS = texts()
GONE_WORDS = [word for cell in words(GONE) for word in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("word", words(KEPT))
def test_a_word_that_it_explains_is_used(word):
    assert re.search(rf"\b{word}(s|es|d|ed)?\b", TEXTS, re.IGNORECASE)


@pytest.mark.parametrize("word", GONE_WORDS)
def test_a_word_that_it_calls_gone_is_a_rule_of_the_linter_and_in_no_page(word):
    rules = [rule for rule in prose.PRIVATE if rule.fullmatch(word)]
    assert len(rules) == 1
    assert [found[0] for found in rules[0].finditer(TEXTS)] == []


def test_no_word_is_explained_twice_or_both_kept_and_gone():
    kept = words(KEPT)
    assert len(kept) == len(set(kept)) > 30
    assert not set(kept) & set(GONE_WORDS)
