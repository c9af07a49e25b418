"""Reads the examples out of a page: every fenced block, with its language, title and place.

An HTML comment right above a block, ``<!-- not run: the reason -->``, takes it out of the run; it must give a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("python", "py")
COMMANDS = ("console", "bash", "sh", "shell")

_FENCE = re.compile(
    r"(?P<indent>\s*)(?P<ticks>`{3,}|~{3,})\s*(?P<language>[\w-]*)(?P<options>[^`]*)"
)
_TITLE = re.compile(r"""title=(["'])(?P<title>.*?)\1""")
_NOT_RUN = re.compile(r"\s*<!--\s*not run:\s*(?P<reason>.*?)\s*-->\s*")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. ``line`` is that of its first line of text, from 1.

    ``output`` is that of a program: a ``text`` block with nothing but blank lines between.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    not_run: str | None = None
    output: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that a reader may see: the README and what is below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    found: list[Block] = []
    for block in parse(str(path.relative_to(ROOT)), text):
        before = found[-1] if found else None
        if (
            block.language == "text"
            and before is not None
            and before.language in PROGRAMS
            and not before.title
        ):
            end = before.line + before.text.count("\n")
            if not "".join(lines[end : block.line - 2]).strip():
                found[-1] = replace(before, output=block.text)
        found.append(block)
    return found


def parse(page: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order.

    Raises:
        ValueError: a block is not closed, or a mark gives no reason.
    """
    lines = text.splitlines()
    at, reason = 0, None
    while at < len(lines):
        mark, fence = _NOT_RUN.fullmatch(lines[at]), _FENCE.fullmatch(lines[at])
        at += 1
        if mark is not None:
            reason = mark["reason"]
            if not reason:
                raise ValueError(f"{page}:{at}: 'not run' must give its reason")
        elif fence is not None:
            closing = re.compile(
                rf"\s*{fence['ticks'][0]}{{{len(fence['ticks'])},}}\s*"
            )
            end = next(
                (n for n in range(at, len(lines)) if closing.fullmatch(lines[n])), None
            )
            if end is None:
                raise ValueError(f"{page}:{at}: the block is not closed")
            body = [line.removeprefix(fence["indent"]) for line in lines[at:end]]
            title = _TITLE.search(fence["options"])
            yield Block(
                page,
                at + 1,
                fence["language"],
                title["title"] if title else "",
                "\n".join(body) + "\n",
                reason,
            )
            at, reason = end + 1, None
        elif lines[at - 1].strip():
            reason = None
