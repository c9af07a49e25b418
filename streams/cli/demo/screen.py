"""What the demo shows: progress while it runs, and the books at the end."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streams.cli.common import cell, number, table
from streams.cli.demo.books import Books
from streams.cli.demo.play import DemoState
from streams.quantities import counted

_STATES = ("waiting", "processing", "retrying", "done", "dead")
_STYLES = {
    "processing": "green",
    "retrying": "yellow",
    "dead": "red",
    "done": "bold green",
}


class Screen:
    """Progress: a table that refreshes on a terminal, else a line per second."""

    def __init__(self, *, as_json: bool) -> None:
        self._console = Console(stderr=as_json, highlight=False, emoji=False)
        self._live = (
            Live(console=self._console, auto_refresh=False)
            if self._console.is_terminal
            else None
        )
        self._said = -1
        self._news = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, scene: DemoState) -> None:
        """Show a scene."""
        if self._live is not None:
            self._live.update(_view(scene), refresh=True)
            return
        target = self._console.file
        for news in scene.news[self._news :]:
            target.write(f"{news}\n")
        self._news = len(scene.news)
        if int(scene.seconds) != self._said:
            self._said = int(scene.seconds)
            states = "  ".join(f"{name} {scene.total(name):,}" for name in _STATES)
            target.write(
                f"{scene.seconds:4.1f} s  published {scene.published:,}  {states}\n"
            )
        target.flush()


def _view(scene: DemoState) -> Group:
    made = table(">LEVEL", *(f">{name.upper()}" for name in _STATES))
    for level, row in sorted(scene.levels.items(), reverse=True):
        made.add_row(
            str(level),
            *(number(row[name], style=_STYLES.get(name, "")) for name in _STATES),
        )
    if scene.levels:
        made.add_section()
        made.add_row(
            "all",
            *(
                number(scene.total(name), style=_STYLES.get(name, ""))
                for name in _STATES
            ),
        )
    head = f"[bold]{cell(scene.source)}[/]  {counted(scene.lines, 'line', form=',')}, {scene.published:,} published"
    head += f", {scene.scheduled} scheduled" if scene.scheduled else ""
    parts: list[object] = [
        Text.from_markup(f"{head}   [dim]{scene.seconds:.1f} s[/]"),
        Text(),
        made,
        Text(),
    ]
    parts += [Text(news, style="dim") for news in scene.news]
    return Group(*parts, "")  # type: ignore[arg-type]


def show_books(books: Books, scene: DemoState) -> None:
    """The end: every line accounted for."""
    console = Console(
        highlight=False, emoji=False, width=None if sys.stdout.isatty() else 100
    )
    console.print()
    _show_lines(console, books)
    _show_levels(console, books)
    _show_reasons(console, "Dead letters", books.dead, books.errors)
    _show_reasons(console, "Refused lines", books.refused, {})
    _show_verdict(console, books, scene)


def _show_lines(console: Console, books: Books) -> None:
    made = table("WHERE EVERY LINE ENDED", ">LINES", "")
    made.add_row(
        "handled", f"[green]{books.handled:,}[/]", "charged once or more, in the ledger"
    )
    made.add_row(
        "dead letters",
        f"[red]{books.dead_in_all:,}[/]",
        "failed for good, kept with their reasons",
    )
    made.add_row("[dim]= published[/]", f"[dim]{books.published:,}[/]", "")
    made.add_row(
        "duplicates",
        number(books.duplicates),
        "their dedup id was used before; not stored",
    )
    made.add_row(
        "malformed",
        number(books.refused_in_all),
        "refused by the producer with their line numbers",
    )
    if books.missing or books.ambiguous:
        made.add_row(
            "[bold red]without an end[/]",
            number(len(books.missing), style="bold red"),
            "",
        )
        made.add_row(
            "[bold red]with two ends[/]",
            number(len(books.ambiguous), style="bold red"),
            "",
        )
    made.add_row("[bold]= input lines[/]", f"[bold]{books.lines:,}[/]", "")
    console.print(made)
    console.print()


def _show_levels(console: Console, books: Books) -> None:
    made = table(
        ">LEVEL", ">PUBLISHED", ">HANDLED", ">DEAD", ">RETRIED", ">HANDLED TWICE"
    )
    for level, sums in books.levels.items():
        figures = (sums.handled, sums.dead, sums.retried, sums.again)
        made.add_row(str(level), f"{sums.published:,}", *map(number, figures))
    figures = (books.handled, books.dead_in_all, books.retried, books.again)
    made.add_row(
        "all", *(f"[bold]{figure:,}[/]" for figure in (books.published, *figures))
    )
    console.print(made)
    console.print()


def _show_reasons(
    console: Console, title: str, found: dict[str, list[int]], errors: dict[str, str]
) -> None:
    if not found:
        return
    made = table(title.upper(), ">COUNT", ">E.G. LINE", *(["*ERROR"] if errors else []))
    for reason, lines in sorted(found.items(), key=lambda item: -len(item[1])):
        made.add_row(
            cell(reason),
            f"{len(lines):,}",
            f"{lines[0]:,}",
            *([cell(errors.get(reason, ""))] if errors else []),
        )
    console.print(made)
    console.print()


def _show_verdict(console: Console, books: Books, scene: DemoState) -> None:
    for news in scene.news:
        console.print(f"[dim]{news}[/]")
    console.print()
    if books.again:
        console.print(
            f"{counted(books.again, 'order was', 'orders were')} handled more than once, because a worker was killed"
            " between its effect"
        )
        console.print(
            "and its acknowledgement: at-least-once delivery. Handlers use the event's id to notice.\n"
        )
    if books.balanced:
        ends = f"each of {counted(books.lines, 'line', form=',')} has exactly one end"
        console.print(
            f"[bold green]The books balance:[/] {ends}. {scene.seconds:.1f} s."
        )
        return
    console.print("[bold red]The books do not balance.[/]")
    for what, lines in (
        ("without an end", books.missing),
        ("with more than one end", books.ambiguous),
    ):
        if lines:
            shown = ", ".join(map(str, lines[:20])) + (
                " ..." if len(lines) > 20 else ""
            )
            console.print(f"{counted(len(lines), 'line')} {what}: {shown}")
    if books.strangers:
        console.print(
            f"{counted(len(books.strangers), 'event that belongs', 'events that belong')} to no line"
        )
