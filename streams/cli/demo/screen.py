"""The books of the demo, as tables."""

from __future__ import annotations

from dataclasses import astuple

from streams.cli.common import cell, number, stdout, table
from streams.cli.demo.books import Books, Kind
from streams.quantities import counted

_SHOWN_LINES = 20


def show_books(books: Books) -> None:
    """Show the end of every line, and the sums of levels and reasons."""
    _show_lines(books)
    _show_levels(books)
    _show_reasons(books, "dead", "DEAD LETTERS", ["*ERROR"])
    _show_reasons(books, "refused", "REFUSED LINES", [])


def _show_lines(books: Books) -> None:
    sums = books.sums()
    rows = [
        ("handled", sums.handled, "charged once or more, in the ledger"),
        ("dead letters", sums.dead, "failed for good, kept with their reasons"),
        ("= published", sums.published, ""),
        (
            "duplicates",
            len(books.lines("duplicate")),
            "their dedup id was used before; not stored",
        ),
        (
            "malformed",
            len(books.lines("refused")),
            "refused by the producer with their line numbers",
        ),
        ("= input lines", len(books.ends), ""),
    ]
    made = table("WHERE EVERY LINE ENDED", ">LINES", "")
    for name, count, meaning in rows:
        made.add_row(name, number(count), meaning)
    stdout().print("", made, "", sep="\n")


def _show_levels(books: Books) -> None:
    made = table(
        ">LEVEL", ">PUBLISHED", ">HANDLED", ">DEAD", ">RETRIED", ">HANDLED TWICE"
    )
    for level, sums in books.levels.items():
        made.add_row(str(level), *map(number, astuple(sums)))
    made.add_row("all", *(f"[bold]{count:,}[/]" for count in astuple(books.sums())))
    stdout().print(made, "", sep="\n")


def _show_reasons(books: Books, kind: Kind, title: str, more: list[str]) -> None:
    made = table(title, ">COUNT", ">E.G. LINE", *more)
    for reason, ends in books.by_reason(kind).items():
        example = min(ends, key=lambda end: end.line)
        cells = [reason, f"{len(ends):,}", f"{example.line:,}", example.error]
        made.add_row(*map(cell, cells[: len(made.columns)]))
    if made.rows:
        stdout().print(made, "", sep="\n")


def verdict(books: Books, seconds: float) -> str:
    """Whether the books balance, and which lines are not accounted for."""
    lines = []
    if again := books.sums().again:
        lines = [
            f"{counted(again, 'order was', 'orders were')} handled more than once, "
            "because a worker was killed between its effect",
            "and its acknowledgement: at-least-once delivery. Handlers use the event's "
            "id to notice.",
            "",
        ]
    if books.balanced:
        ends = counted(len(books.ends), "line", form=",")
        balance = f"The books balance: each of {ends} has exactly one end."
        return "\n".join([*lines, f"{balance} {seconds:.1f} s."])

    lines.append("The books do not balance.")
    kinds: dict[Kind, str] = {
        "missing": "without an end",
        "ambiguous": "with more than one end",
    }
    for kind, what in kinds.items():
        if found := books.lines(kind):
            some = ", ".join(map(str, found[:_SHOWN_LINES]))
            rest = " ..." if len(found) > _SHOWN_LINES else ""
            lines.append(f"{counted(len(found), 'line')} {what}: {some}{rest}")
    if books.strangers:
        strangers = counted(
            len(books.strangers), "event that belongs", "events that belong"
        )
        lines.append(f"{strangers} to no line")
    return "\n".join(lines)
