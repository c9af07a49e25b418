"""Where a mutant's text is: found by the name of a function, a class, a constant or a Lua file, in whatever module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.mutants.catalogue import Mutant


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
    places = _lua(root) if mutant.place.endswith(".lua") else _python(root)
    fitting = [place for name, place in places if name == mutant.place and _text(place).count(mutant.old)]
    if len(fitting) != 1:
        raise ValueError(f"mutant {mutant.name}: {len(fitting)} places named {mutant.place} have its text, not one")
    count = _text(fitting[0]).count(mutant.old)
    if count != 1:
        raise ValueError(f"mutant {mutant.name}: its text occurs {count} times in {mutant.place}, not once")
    return fitting[0]


def _text(place: Found) -> str:
    return place.path.read_text("utf-8")[place.start : place.end]


@cache
def _lua(root: Path) -> list[tuple[str, Found]]:
    return [
        (path.name, Found(path, 0, len(path.read_text("utf-8")))) for path in sorted((root / "streams").rglob("*.lua"))
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
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            yield ".".join((*outer, child.name)), first, child.end_lineno or first
            yield from _named(child, (*outer, child.name))
        elif isinstance(child, (ast.Assign, ast.AnnAssign)):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            if isinstance(target, ast.Name):
                yield ".".join((*outer, target.id)), child.lineno, child.end_lineno or child.lineno
        else:
            yield from _named(child, outer)
