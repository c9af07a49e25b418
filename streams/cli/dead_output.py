"""How dead letters are shown."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from streams.admin.dead_letter import DeadLetter
from streams.cli.common import cell, moment, shown_meta, span, table
from streams.cli.show import attempts, facts
from streams.policy.partitions import number_of
from streams.quantities import counted


def letters_table(letters: list[DeadLetter], now: float) -> Table:
    """One line per letter; of several partitions with its number."""
    is_spread = len({letter.stream for letter in letters}) > 1
    where = (">PARTITION",) if is_spread else ()
    made = table(
        "ID", *where, "AGE", "REASON", ">LEVEL", "TYPE", ">TRIES", "*LAST ERROR"
    )
    for letter in letters:
        made.add_row(
            letter.id,
            *([str(number_of(letter.stream))] if is_spread else []),
            span(now - letter.died_at),
            f"[red]{cell(letter.reason)}[/]",
            str(letter.level),
            cell(letter.type),
            str(letter.attempts),
            cell(brief_error(letter)),
        )
    return made


def brief_error(letter: DeadLetter) -> str:
    """The latest error without the module of its class; a rejection is its reason."""
    if not letter.errors:
        return ""
    kind = str(letter.errors[-1].get("type", "")).rpartition(".")[2]
    message = str(letter.errors[-1].get("message", ""))
    return (
        message if kind == "Reject" and message else f"{kind}: {message}".rstrip(": ")
    )


def letter_facts(letter: DeadLetter, stream: str, group: str) -> Table:
    """One letter, fact by fact."""
    found: list[tuple[str, object]] = [
        ("dead letter", letter.id),
        (
            "where",
            f"{letter.stream or stream}/{group}, level {letter.level}, entry "
            f"{letter.entry_id}",
        ),
        ("reason", letter.reason),
        ("died", moment(letter.died_at)),
        ("event id", letter.event_id),
        ("type", letter.type),
        (
            "attempts",
            attempts(letter.failures, letter.stalls) or "none: no handler saw it",
        ),
        ("replays", letter.replays or ""),
        ("moved by", letter.consumer),
        *shown_meta(letter.meta).items(),
        ("body", counted(letter.size, "byte", form=",")),
    ]
    return facts(found)


def plain_letter(letter: DeadLetter, *, body: bool = False) -> dict[str, Any]:
    """A letter as plain JSON types; masked, unless the body is asked for."""
    plain = letter.as_dict(body=body)
    if not body:
        plain["meta"] = shown_meta(letter.meta)
    return plain
