"""The words of the pages, in English and in Brazilian Portuguese."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

PORTUGUESE: dict[str, str] = tomllib.loads(
    (Path(__file__).parent / "portuguese.toml").read_text("utf-8")
)


def language_of(header: str) -> str:
    """``pt`` or ``en``, by what the browser asks for first."""
    for part in header.lower().split(","):
        word = part.partition(";")[0].strip()
        if word.startswith(("pt", "en")):
            return word[:2]

    return "en"


def translated(
    text: str, language: str, portuguese: Mapping[str, str] = PORTUGUESE
) -> str:
    """A text of the pages in a language."""
    return portuguese.get(text, text) if language == "pt" else text
