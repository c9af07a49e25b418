"""The rules of prose find the sentences that they are for, and leave others alone."""

from __future__ import annotations

import pytest

from tests.architecture import prose


def found(text: str, read=prose.markdown) -> str:
    return "\n".join(fault for passage in read(text) for fault in prose.faults(passage))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Who comes second is refused.", '"Who" as the subject'),
        ("It stops. What runs ends first.", '"What" as the subject'),
        ("It stops; what runs ends first.", '"; what" begins a clause'),
        ("Workers stop, and what runs ends.", '"and what" begins a clause'),
        ("It matters to who reads it.", '"to who" begins a clause'),
        ("It waits until somebody replays it.", '"somebody"'),
        ("It is shown to whoever\nlooks at it.", '"whoever"'),
        ("The letter is replayed.", 'say "dead letter"'),
        ("word " * 41 + ".", "a sentence of 41 words"),
        ("* first\n* nobody reads it\n", '"nobody"'),
        ("| a | b |\n| --- | --- |\n| x | Nobody reads it. |\n", '"Nobody"'),
    ],
)
def test_a_sentence_against_the_rules_is_found(text, fault):
    assert fault in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "## What is skipped\n",
        "**What to do.** Stop the worker.\n",
        "| What | Who |\n| --- | --- |\n| What is kept | the worker |\n",
        "What happens to an event whose worker is killed?",
        "It says what it did, and what it left.",
        "A caller who waits is told.",
        "A dead letter is kept; a name has letters and digits.",
        "`who` is a field, and `nobody` a user.",
        "```python\nnobody = 1  # What is it\n```\n",
        "<!-- nobody reads this -->\nA page.\n",
        ("Word " + "word " * 38 + "end. ") * 2,
    ],
)
def test_a_sentence_within_the_rules_is_left_alone(text):
    assert found(text) == ""


def test_code_is_read_where_it_holds_prose():
    text = '''"""What it does."""
# Nobody calls it.
def f(x):
    """Whoever calls.

    Args:
        x: What is given.
    """
    log.warning("who waits is told", extra={})
    raise ValueError(f"{x} is in a twin of nobody")
y = "nobody is prose here"
'''
    lines = [
        passage.line for passage in prose.python(text) for _ in prose.faults(passage)
    ]
    assert sorted(lines) == [1, 2, 4, 7, 9, 10, 10]


def test_comments_of_scripts_are_read():
    assert found("-- does it\n--\n-- KEYS[1]  what nobody reads\n", prose.lua)
    assert not found("-- does it\nlocal nobody = 1\n", prose.lua)
