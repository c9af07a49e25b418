"""A number with its noun, as sentences have it."""

from __future__ import annotations


def counted(number: int, one: str, several: str = "", *, form: str = "") -> str:
    """``1 event``, ``2 events``: a number and what it counts, which may be a verb, too.

    Args:
        number: how many.
        one: what stands behind a single one.
        several: what stands behind all other numbers; ``one`` with an s if empty.
        form: how the number is written, e.g. ``,`` for thousands.
    """
    return f"{number:{form}} {one if number == 1 else several or one + 's'}"
