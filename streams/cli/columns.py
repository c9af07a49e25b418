"""Columns that fit a terminal: names are shortened, and the least columns left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

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
    """A text of at most so many cells; a dot in the middle, or at the end, stands for the rest."""
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
            _padded(
                shortened(text, size, keeps_end=column.keeps_end),
                size,
                at_right=column.is_number,
            )
            for text, (column, size) in zip(row, fitting, strict=True)
        )
        for row in rows
    ]

    return [
        line if cell_len(line) <= width else set_cell_size(line, width)
        for line in lines
    ]


def _padded(text: str, width: int, *, at_right: bool) -> str:
    room = " " * (width - cell_len(text))

    if at_right:
        return room + text

    return text + room


def _fitting(columns: list[Column], width: int) -> list[tuple[Column, int]]:
    """The columns that there is room for, with their widths."""
    while True:
        sizes = [column.width for column in columns]
        over = sum(sizes) + len(_GAP) * (len(sizes) - 1) - width

        while over > 0:
            # The one with the most to spare gives a cell.
            spare = [
                size - column.least if column.least else 0
                for size, column in zip(sizes, columns, strict=True)
            ]

            if max(spare) <= 0:
                break

            sizes[spare.index(max(spare))] -= 1
            over -= 1

        least = max(columns, key=lambda column: column.rank)

        if over <= 0 or least.rank == 0:
            return list(zip(columns, sizes, strict=True))

        columns = [column for column in columns if column is not least]


def fitted(
    made: Table, width: int, *, names: Mapping[str, int], spare: Sequence[str]
) -> Table:
    """A table in a terminal of so many cells.

    Numbers are never cut, names are cut in the middle, and columns are left out.

    Args:
        made: the table, of cells with markup.
        width: of the terminal.
        names: titles of columns that may be shortened, to the cells that each keeps.
            The last of a row is shortened at its end, for it is a sentence.
        spare: titles of columns that may be left out, the first of them first.

    Returns:
        The table itself if it fits; else another one, whose caption says what is left out.
    """
    rows = {
        str(column.header): [Text.from_markup(str(cell)) for cell in column.cells]
        for column in made.columns
    }

    ranks = {title: rank for rank, title in enumerate(reversed(spare), 1)}
    columns = [
        Column(
            title=title,
            cells=[cell.plain for cell in cells],
            least=names.get(title, 0),
            rank=ranks.get(title, 0),
        )
        for title, cells in rows.items()
    ]

    if sum(column.width + 2 for column in columns) - 2 <= width:
        return made

    kept = {column.title: size for column, size in _fitting(columns, width)}
    narrow = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")

    for column in made.columns:
        if column.header in kept:
            narrow.add_column(column.header, justify=column.justify, no_wrap=True)

    *_, last = kept
    cells = [
        [_cut(cell, size, keeps_end=title != last) for cell in rows[title]]
        for title, size in kept.items()
    ]

    for row in zip(*cells, strict=True):
        narrow.add_row(*row)

    if left_out := [title for title in spare if title in rows and title not in kept]:
        narrow.caption = f"[dim]no room for: {', '.join(left_out)}[/]"
        narrow.caption_justify = "left"

    return narrow


def _cut(text: Text, width: int, *, keeps_end: bool) -> Text:
    if cell_len(text.plain) <= width:
        return text

    # Of wide characters the style is worth less than the width.
    if cell_len(text.plain) != len(text.plain):
        return Text(shortened(text.plain, width, keeps_end=keeps_end))

    tail = (width - 1) // 2 if keeps_end else 0

    return Text.assemble(
        text[: width - 1 - tail], "…", text[len(text) - tail :] if tail else ""
    )
