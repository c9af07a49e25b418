"""Columns that fit a terminal: names are shortened in the middle, and what matters least is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

_GAP = " "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a list.

    Attributes:
        title: stands above it.
        cells: of every row, plain text in one line.
        is_number: it stands at the right edge.
        least: cells that it needs at least, if it can be shortened; 0: it cannot.
        rank: the highest is left out first where there is no room; 0: it never is.
        keeps_end: the end of a text that is shortened is kept, too.
    """

    title: str
    cells: Sequence[str]
    is_number: bool = False
    least: int = 0
    rank: int = 0
    keeps_end: bool = True

    @property
    def width(self) -> int:
        """Of its widest cell."""
        return max(map(cell_len, (self.title, *self.cells)))


def shortened(text: str, width: int, *, keeps_end: bool = True) -> str:
    """A text of at most so many cells; what is left out is a dot in the middle, or at the end."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, max(0, width))
    kept = (width - 1) // 2 if keeps_end else 0
    tail = text[len(text) - kept :]
    while cell_len(tail) > kept:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)) + "…" + tail


def lines_of(columns: Sequence[Column], width: int) -> list[str]:
    """The line of titles, and one for each row: none of them is wider than ``width``."""
    fitting = _fitting(list(columns), width)
    rows = zip(*((column.title, *column.cells) for column, _ in fitting), strict=True)
    lines = [
        _GAP.join(
            _padded(shortened(text, size, keeps_end=column.keeps_end), size, at_right=column.is_number)
            for text, (column, size) in zip(row, fitting, strict=True)
        )
        for row in rows
    ]
    return [line if cell_len(line) <= width else set_cell_size(line, width) for line in lines]


def _padded(text: str, width: int, *, at_right: bool) -> str:
    room = " " * (width - cell_len(text))
    return room + text if at_right else text + room


def _fitting(columns: list[Column], width: int) -> list[tuple[Column, int]]:
    """The columns that there is room for, with their widths."""
    while True:
        sizes = [column.width for column in columns]
        over = sum(sizes) + len(_GAP) * (len(sizes) - 1) - width
        while over > 0:
            # The one with the most to spare gives a cell.
            spare = [size - column.least if column.least else 0 for size, column in zip(sizes, columns, strict=True)]
            if max(spare) <= 0:
                break
            sizes[spare.index(max(spare))] -= 1
            over -= 1
        least = max(columns, key=lambda column: column.rank)
        if over <= 0 or least.rank == 0:
            return list(zip(columns, sizes, strict=True))
        columns = [column for column in columns if column is not least]
