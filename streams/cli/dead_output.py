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
    """One line per dead letter; of several partitions with its number."""
    is_spread = len({letter.stream for letter in letters}) > 1
    where = (">PARTITION",) if is_spread else ()
    rows = (
        (
            letter.id,
            *(str(number_of(letter.stream)) for _ in where),
            span(now - letter.died_at),
            f"[red]{cell(letter.reason)}[/]",
            str(letter.level),
            cell(letter.type),
            str(letter.attempts),
            cell(brief_error(letter)),
        )
        for letter in letters
    )
    columns = ("AGE", "REASON", ">LEVEL", "TYPE", ">TRIES", "*LAST ERROR")
    return table("ID", *where, *columns, rows=rows)


def brief_error(letter: DeadLetter) -> str:
    """The latest error without the module of its class; a rejection is its reason."""
    if not letter.errors:
        return ""
    latest = letter.errors[-1]
    kind = str(latest.get("type", "")).rpartition(".")[2]
    message = str(latest.get("message", ""))
    if kind == "Reject" and message:
        return message
    return f"{kind}: {message}".rstrip(": ")


def letter_facts(letter: DeadLetter, stream: str, group: str) -> Table:
    """One dead letter, fact by fact."""
    where = f"{letter.stream or stream}/{group}"
    ended = attempts(letter.failures, letter.stalls)
    return facts(
        {
            "dead letter": letter.id,
            "where": f"{where}, level {letter.level}, entry {letter.entry_id}",
            "reason": letter.reason,
            "died": moment(letter.died_at),
            "event id": letter.event_id,
            "type": letter.type,
            "attempts": ended or "none: no handler saw it",
            "replays": letter.replays or "",
            "moved by": letter.consumer,
        },
        letter.meta,
        counted(letter.size, "byte", form=","),
    )


def plain_letter(letter: DeadLetter, *, body: bool = False) -> dict[str, Any]:
    """A dead letter as plain JSON types; masked, unless the body is asked for."""
    plain = letter.as_dict(body=body)
    if not body:
        plain["meta"] = shown_meta(letter.meta)
    return plain
