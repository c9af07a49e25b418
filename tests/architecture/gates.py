"""Numbers about the shape of the package: ``python -m tests.architecture.gates``.

It prints each number with its bound and its target, and ends with 1 if one is above its
bound. ``gates.toml`` has the bounds, which only go down: ``--lower`` writes the smaller
numbers, ``--files`` lists the files behind them.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUNDS = Path(__file__).parent / "gates.toml"
LONGEST_LINE = 100
DENSEST = 8.0
"""Nodes of the syntax tree per line of function bodies: more reads as compressed."""
LARGE_FILE = 500
MIRRORS = "streams/sync/"
"""Its classes have the names of those that they mirror, on purpose."""


@dataclass(frozen=True)
class Gate:
    """One number, where it comes from, and the number that it should become."""

    title: str
    value: float
    target: float
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def bodies(self) -> tuple[int, int]:
        """Nodes and lines of the bodies of its functions, without their docstrings."""
        nodes = lines = 0
        for function in ast.walk(self.tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = function.body[1:] if _has_docstring(function) else function.body
            if body:
                nodes += sum(1 for part in body for _ in ast.walk(part))
                lines += (body[-1].end_lineno or 0) - body[0].lineno + 1
        return nodes, lines


def _has_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = function.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)


def modules(root: Path = ROOT) -> list[Module]:
    """The files of the package."""
    found = []
    for path in sorted((root / "streams").rglob("*.py")):
        text = path.read_text("utf-8")
        name = path.relative_to(root).as_posix()
        found.append(Module(name, text, ast.parse(text)))
    return found


def gates(package: list[Module]) -> dict[str, Gate]:
    """Every number, by the name of its bound."""
    return {
        "long_lines": _lines(
            f"lines over {LONGEST_LINE} characters",
            package,
            lambda line: len(line) > LONGEST_LINE,
        ),
        "many_arguments": _lines(
            "functions with too many arguments (noqa: PLR0913)",
            package,
            re.compile(r"#\s*noqa:.*PLR0913").search,
        ),
        "unformatted": _lines(
            "fmt: skip and fmt: off",
            package,
            re.compile(r"#\s*fmt:\s*(skip|off)").search,
        ),
        "same_class_names": _same_names(package),
        **_density(package),
    }


def _lines(title: str, package: list[Module], wrong) -> Gate:
    places = []
    for module in package:
        number = sum(1 for line in module.lines if wrong(line))
        if number:
            places.append((number, f"{number:5} {module.name}"))
    ordered = tuple(text for _, text in sorted(places, reverse=True))
    return Gate(title, sum(number for number, _ in places), 0, ordered)


def _same_names(package: list[Module]) -> Gate:
    files: dict[str, list[str]] = defaultdict(list)
    for module in package:
        if not module.name.startswith(MIRRORS):
            for statement in module.tree.body:
                if isinstance(statement, ast.ClassDef):
                    files[statement.name].append(module.name)
    twice = {name: places for name, places in files.items() if len(places) > 1}
    places = tuple(f"{name}: {', '.join(twice[name])}" for name in sorted(twice))
    return Gate("class names used twice or more", len(twice), 0, places)


def _density(package: list[Module]) -> dict[str, Gate]:
    dense, all_nodes, all_lines = [], 0, 0
    for module in package:
        nodes, lines = module.bodies()
        all_nodes, all_lines = all_nodes + nodes, all_lines + lines
        if lines and nodes / lines > DENSEST:
            dense.append((nodes / lines, f"{nodes / lines:5.1f} {module.name}"))
    ordered = tuple(text for _, text in sorted(dense, reverse=True))
    mean = round(all_nodes / max(all_lines, 1), 2)
    return {
        "dense_files": Gate(
            f"files over {DENSEST:g} syntax nodes a body line", len(dense), 0, ordered
        ),
        "density": Gate("syntax nodes a body line, package", mean, DENSEST),
    }


def large(package: list[Module]) -> Iterator[str]:
    """Warnings: files that may be two concepts."""
    for module in package:
        if len(module.lines) > LARGE_FILE:
            yield f"{module.name} has {len(module.lines)} lines"


def above(found: dict[str, Gate], bounds: dict[str, float]) -> list[str]:
    """The names of the numbers that are above their bounds."""
    return [name for name, gate in found.items() if gate.value > bounds[name]]


def read() -> dict[str, float]:
    """The bounds of today."""
    return tomllib.loads(BOUNDS.read_text("utf-8"))["bounds"]


def write(bounds: dict[str, float]) -> None:
    """Write the bounds."""
    head = "# Bounds of the shape of the package. Numbers only go down:\n"
    head += "# python -m tests.architecture.gates --lower\n\n[bounds]\n"
    rows = [f"{name} = {bounds[name]:g}\n" for name in sorted(bounds)]
    BOUNDS.write_text(head + "".join(rows), "utf-8")


def main() -> int:
    """Print every number; 1 if one is above its bound."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", action="store_true", help="list the files")
    options.add_argument("--lower", action="store_true", help="lower the bounds")
    chosen = options.parse_args()
    package = modules()
    found, bounds = gates(package), read()
    wrong = above(found, bounds)
    out = sys.stdout.write
    out(f"{'NOW':>8} {'BOUND':>8} {'TARGET':>8}\n")
    for name, gate in found.items():
        mark = "  <- above its bound" if name in wrong else ""
        numbers = f"{gate.value:8g} {bounds[name]:8g} {gate.target:8g}"
        out(f"{numbers}  {gate.title}{mark}\n")
        if chosen.files:
            out("".join(f"{'':28}{place}\n" for place in gate.places))
    nodes = sum(1 for module in package for _ in ast.walk(module.tree))
    out(f"{nodes:8}                    syntax nodes in all\n")
    for warning in large(package):
        out(f"warning: {warning}; over {LARGE_FILE}, a file may be two concepts\n")
    if chosen.lower:
        write({name: min(found[name].value, bounds[name]) for name in found})
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
