"""Draws the packages and their imports, from the imports themselves: ``python docs/tooling/architecture.py``.

A package stands above everything that it imports. A line that follows from others is left out.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "assets" / "architecture.svg"
_BOX, _HIGH, _GAP, _ROW = 92, 26, 16, 58
_QUIET = ("__init__", "__main__", "version")
"""Left out of the picture: they import everything, or nothing."""

Graph = dict[str, set[str]]


def imports(root: Path = ROOT) -> Graph:
    """Package or top-level module to those that it imports when it runs; imports for types alone do not count."""
    graph: Graph = {}
    for path in sorted((root / "streams").rglob("*.py")):
        own = _room(path.relative_to(root / "streams").with_suffix("").parts)
        if own not in _QUIET:
            found = {_room(name.split(".")[1:]) for name in _imported(path)}
            graph.setdefault(own, set()).update(found - {own, *_QUIET})
    return graph


def levels(graph: Graph) -> dict[str, int]:
    """How high each stands: one more than the highest that it imports.

    Raises:
        ValueError: packages import one another in a circle; the message names it.
    """
    found: dict[str, int] = {}

    def level(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError(
                f"a circle of imports: {' -> '.join((*above[above.index(name) :], name))}"
            )
        if name not in found:
            found[name] = 1 + max(
                (level(other, (*above, name)) for other in graph[name]), default=-1
            )
        return found[name]

    for name in sorted(graph):
        level(name, ())
    return found


def reduced(graph: Graph) -> list[tuple[str, str]]:
    """The imports that do not follow from others."""
    below: dict[str, set[str]] = {}

    def reach(name: str) -> set[str]:
        if name not in below:
            below[name] = set(graph[name]).union(
                *(reach(other) for other in graph[name])
            )
        return below[name]

    return [
        (name, other)
        for name in sorted(graph)
        for other in sorted(graph[name])
        if not any(other in reach(between) for between in graph[name] - {other})
    ]


def draw(graph: Graph) -> str:
    """The picture, as SVG; it has the colours of the page around it."""
    heights = levels(graph)
    rows = [
        sorted(name for name in heights if heights[name] == at)
        for at in range(max(heights.values()), -1, -1)
    ]
    width = max(len(row) for row in rows) * (_BOX + _GAP) + _GAP
    place = {
        name: (
            (width - len(row) * (_BOX + _GAP) + _GAP) / 2 + at * (_BOX + _GAP),
            10 + line * _ROW,
        )
        for line, row in enumerate(rows)
        for at, name in enumerate(row)
    }
    lines = [
        f'<line x1="{place[a][0] + _BOX / 2:g}" y1="{place[a][1] + _HIGH}" '
        f'x2="{place[b][0] + _BOX / 2:g}" y2="{place[b][1]}"/>'
        for a, b in reduced(graph)
    ]
    boxes = [
        f'<rect x="{x:g}" y="{y}" width="{_BOX}" height="{_HIGH}" rx="4"/>'
        f'<text x="{x + _BOX / 2:g}" y="{y + 17}">{name}</text>'
        for name, (x, y) in sorted(place.items())
    ]
    style = (
        "line{stroke:#8888;stroke-width:1}rect{fill:#3f51b5;opacity:.9}"
        "text{fill:#fff;font:12px sans-serif;text-anchor:middle}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {10 + len(rows) * _ROW}" role="img" '
            'aria-label="Packages, each above those that it imports">',
            f"<style>{style}</style>",
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _room(parts: tuple[str, ...] | list[str]) -> str:
    return parts[0] if parts else "__init__"


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "streams"
        ):
            outer = node.module or ""
            found |= {
                f"{outer}.{alias.name}" if outer == "streams" else outer
                for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {
                alias.name
                for alias in node.names
                if alias.name.split(".")[0] == "streams"
            }
    return {name for name in found if _is_module(name)}


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split(".")[:2])
    return path.is_dir() or path.with_suffix(".py").exists()


if __name__ == "__main__":
    PICTURE.write_text(draw(imports()), "utf-8")
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}\n")
