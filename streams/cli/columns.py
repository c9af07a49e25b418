"""Columns that fit a terminal: names are shortened in the middle, and what matters least is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.table import Column as RichColumn
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
    return room + text if at_right else text + room


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
    """A table in a terminal of so many cells: numbers are never cut, names in the middle, and columns are left out.

    Args:
        made: the table, of cells with markup.
        width: of the terminal.
        names: titles of columns that may be shortened, to the cells that each keeps. What comes last in its row is
            shortened at its end, for it is a sentence.
        spare: titles of columns that may be left out, the first of them first.

    Returns:
        The table itself if it fits; else another one, whose caption says what is left out.
    """
    rows = {
        _title(column): [Text.from_markup(str(cell)) for cell in column.cells]
        for column in made.columns
    }
    sizes = {
        name: max(map(cell_len, (name, *(cell.plain for cell in cells))))
        for name, cells in rows.items()
    }
    if sum(sizes.values()) + 2 * (len(sizes) - 1) <= width:
        return made
    left_out: list[str] = []
    for name in (*spare, ""):
        kept = [title for title in sizes if title not in left_out]
        least = (
            sum(min(sizes[title], names.get(title, sizes[title])) for title in kept)
            + len(kept)
            - 1
        )
        if least <= width or not name:
            break
        left_out.append(name)
    over = sum(sizes[title] for title in kept) + len(kept) - 1 - width
    while over > 0 and (
        loose := [name for name in kept if name in names and sizes[name] > names[name]]
    ):
        widest = max(loose, key=lambda name: sizes[name] - names[name])
        sizes[widest] -= 1
        over -= 1
    narrow = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        title=made.title,
    )
    narrow.title_justify, narrow.title_style = made.title_justify, made.title_style
    for column in made.columns:
        if _title(column) in kept:
            narrow.add_column(_title(column), justify=column.justify, no_wrap=True)
    cells = [
        [_cut(cell, sizes[name], keeps_end=name != kept[-1]) for cell in rows[name]]
        for name in kept
    ]
    for row in zip(*cells, strict=True):
        narrow.add_row(*row)
    if left_out:
        narrow.caption = f"[dim]no room for: {', '.join(left_out)}[/]"
        narrow.caption_justify = "left"
    return narrow


def _title(column: RichColumn) -> str:
    return str(column.header)


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
