"""Where a mutant's text is: found by the name of a function, a class, a constant or a Lua file, in whatever module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.mutants.mutant import Mutant


class Found(NamedTuple):
    """A file, and the part of its text that is meant: from ``start`` to ``end``."""

    path: Path
    start: int
    end: int


def find(mutant: Mutant, root: Path) -> Found:
    """The one place below ``root/streams`` that has the name and the text of a mutant.

    Raises:
        ValueError: there is none, or more than one.
    """
    is_lua = mutant.place.endswith(".lua")
    places = _lua(root) if is_lua else _python(root)
    wanted = re.compile(re.escape(mutant.old)) if is_lua else _layout_aside(mutant.old)
    spans = {
        place: list(wanted.finditer(_text(place)))
        for name, place in places
        if name == mutant.place
    }
    fitting = [place for place, found in spans.items() if found]
    if len(fitting) != 1:
        raise ValueError(
            f"mutant {mutant.name}: {len(fitting)} places named {mutant.place} have its text, not one"
        )
    place = fitting[0]
    if len(spans[place]) != 1:
        raise ValueError(
            f"mutant {mutant.name}: its text occurs {len(spans[place])} times in {mutant.place}, not once"
        )
    start, end = spans[place][0].span()
    return Found(place.path, place.start + start, place.start + end)


@cache
def _layout_aside(text: str) -> re.Pattern[str]:
    """Finds a text however it is wrapped, so that a formatter costs no mutant its place.

    Between two words or signs stands any white space, and before a closing bracket a comma may stand.
    """
    tokens = re.findall(r"\w+|[^\w\s]", text)
    parts = [re.escape(tokens[0])]
    for before, token in pairwise(tokens):
        between = r"\s+" if _is_word(before) and _is_word(token) else r"\s*"
        if token in ")]}" and before != ",":
            between += r"(?:,\s*)?"
        parts.append(between + re.escape(token))
    indent = r"[ \t]*" if text[0].isspace() else ""
    rest = r"[ \t]*\n" if text.endswith("\n") else ""
    return re.compile(indent + "".join(parts) + rest)


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"


def _text(place: Found) -> str:
    return place.path.read_text("utf-8")[place.start : place.end]


@cache
def _lua(root: Path) -> list[tuple[str, Found]]:
    return [
        (path.name, Found(path, 0, len(path.read_text("utf-8"))))
        for path in sorted((root / "streams").rglob("*.lua"))
    ]


@cache
def _python(root: Path) -> list[tuple[str, Found]]:
    found = []
    for path in sorted((root / "streams").rglob("*.py")):
        text = path.read_text("utf-8")
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for name, first, last in _named(ast.parse(text), ()):
            found.append((name, Found(path, starts[first - 1], starts[last])))
    return found


def _named(node: ast.AST, outer: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Qualified names with their first and last lines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min(
                [
                    child.lineno,
                    *(decorator.lineno for decorator in child.decorator_list),
                ]
            )
            yield ".".join((*outer, child.name)), first, child.end_lineno or first
            yield from _named(child, (*outer, child.name))
        elif isinstance(child, (ast.Assign, ast.AnnAssign)):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            if isinstance(target, ast.Name):
                yield (
                    ".".join((*outer, target.id)),
                    child.lineno,
                    child.end_lineno or child.lineno,
                )
        else:
            yield from _named(child, outer)
