"""Tables that fit a terminal: long names lose their middle, and columns are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.table import Column, Table
from rich.text import Text


def shortened(text: str, width: int, *, keeps_end: bool = True) -> str:
    """A text of at most so many cells; a dot stands for its middle, or its end."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, max(0, width))
    kept = (width - 1) // 2 if keeps_end else 0
    tail = text[len(text) - kept :]
    while cell_len(tail) > kept:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)) + "…" + tail


def fitted(
    made: Table, width: int, *, names: Mapping[str, int], spare: Sequence[str]
) -> Table:
    """A table in a terminal of so many cells.

    Numbers are never cut, names lose their middle, and columns are left out.

    Args:
        made: the table, of cells with markup.
        width: of the terminal.
        names: titles of columns that may be shortened, to the cells that each keeps.
            The last column loses its end, for it is a sentence.
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
    for row, was in zip(zip(*cells, strict=True), made.rows, strict=True):
        narrow.add_row(*row, style=was.style)
    if left_out:
        narrow.caption = f"[dim]no room for: {', '.join(left_out)}[/]"
        narrow.caption_justify = "left"
    return narrow


def _title(column: Column) -> str:
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
