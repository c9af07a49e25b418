"""``streams show``: where one event stands."""

from __future__ import annotations

from typing import Annotated, Any

from rich.console import Console
from rich.table import Table

from streams.admin.reason import Reason
from streams.admin.searching import Match
from streams.admin.status import EntryState
from streams.cli.common import (
    OnlyGroup,
    StreamName,
    argument,
    cell,
    examples,
    moment,
    option,
    shown_meta,
    span,
    stdout,
    table,
    write_json,
)
from streams.cli.options import OnPartition, with_options
from streams.pipeline import Pipeline
from streams.quantities import counted

HELP = (
    "Show where one event stands, in each group, and why it waits; streams why says "
    "more of that."
    "\n\nThe id is an event id, an entry id, or LEVEL|ENTRY-ID. States: scheduled, "
    "pending, processing, retrying, dead,"
    " done, orphaned (given to a worker, and with none any more: streams doctor "
    "--repair). Of an event that was handled"
    " nothing is kept: it is known to be done by its entry id only."
    "\n\nThe body is shown with --body only, and phone numbers and other long numbers "
    "are masked everywhere else."
    + examples(
        "streams show orders 1893456000000-0",
        "streams show orders '10|1893456000000-0' --group billing",
        "streams show orders 7d3e5f0a1b2c3d4e-1 --body",
    )
)


EventName = Annotated[str, argument("ID", "Event id, entry id, or LEVEL|ENTRY-ID.")]


@with_options
async def show(
    pipeline: Pipeline,
    stream: StreamName,
    ident: EventName,
    *,
    group: OnlyGroup = "",
    body: Annotated[bool, option("Show the body too, unmasked.", "--body")] = False,
    at: OnPartition,
) -> None:
    """Show an event; see HELP."""
    part = at.partition
    states = await pipeline.status().find(stream, ident, group, partition=part)
    told = {}

    if any(state.state != "dead" for state in states):
        found = await pipeline.why(stream, ident, group=group, partition=part)
        # Of an event that is done there is something to say if it was cancelled.
        told = {
            (reason.stream, reason.group): reason.sentence
            for reason in found.reasons
            if reason.state != "done" or reason.facts
        }

    whys = [told.get((state.stream, state.group), "") for state in states]

    if at.as_json:
        rows = [
            plain_state(state, body=body) | {"why": why}
            for state, why in zip(states, whys, strict=True)
        ]

        write_json({"states": rows})
        return

    console = stdout()

    for number, state in enumerate(states):
        if number:
            console.print()

        _print(console, state, whys[number])

        if body:
            print_body(console, "body", state.raw)


_PLAIN = (
    "stream group state level entry_id event_id type due consumer silent failures "
    "stalls errors size"
)


def plain_state(state: EntryState, *, body: bool) -> dict[str, Any]:
    """Where an event stands, as plain JSON types; masked, unless the body is asked for."""
    plain = {name: getattr(state, name) for name in _PLAIN.split()}
    plain["meta"] = state.meta if body else shown_meta(state.meta)

    dead = state.dead_letter
    plain["dead_letter"] = dead.id if dead else None

    if body:
        plain["body"] = state.raw.decode(errors="replace")

    return plain


_STYLES = {
    "processing": "green",
    "retrying": "yellow",
    "dead": "red",
    "done": "green",
    "orphaned": "red",
}


def _print(console: Console, state: EntryState, why: str) -> None:
    style = _STYLES.get(state.state, "bold")
    where = cell(place_of(state))
    console.print(f"[bold]{where}[/]  [{style}]{state.state}[/]")

    size = ""
    if state.size:
        size = counted(state.size, "byte", form=",")

    made = facts(_facts(state), state.meta, size)

    if state.state != "dead" and why:
        made.add_row("  why", cell(why))

    console.print(made)

    print_errors(console, state.errors)


def place_of(event: EntryState | Match | Reason) -> str:
    """The stream and the group of an event, as ``orders/billing``."""
    return f"{event.stream}/{event.group}".rstrip("/")


def _facts(state: EntryState) -> dict[str, object]:
    silence = f"{state.consumer}, silent for {span(state.silent)}"
    dead = state.dead_letter

    return {
        "event id": state.event_id,
        "type": state.type,
        "level": state.level,
        "entry id": state.entry_id if state.level is not None else "",
        "due": moment(state.due) if state.due is not None else "",
        "with": silence if state.consumer else "",
        "attempts": attempts(state.failures, state.stalls),
        "dead letter": f"{dead.id}, {dead.reason}" if dead else "",
    }


def attempts(failures: int, stalls: int) -> str:
    """How many attempts ended, and how."""
    if not failures and not stalls:
        return ""

    return f"{failures + stalls} ({failures} failed, {stalls} stalled)"


def facts(found: dict[str, object], meta: dict[str, Any], size: str) -> Table:
    """Names and values, those that have one: facts, metadata, and size of the body."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")

    rows = (
        *found.items(),
        *shown_meta(meta).items(),
        ("body", size),
    )
    for name, value in rows:
        if value not in ("", None):
            made.add_row(f"  {cell(name)}", cell(value))

    return made


def print_errors(console: Console, errors: list[dict[str, Any]]) -> None:
    """The latest errors of an event, oldest first; their messages are stored masked."""
    if not errors:
        return

    made = table("  ATTEMPT", "AT", "KIND", "ERROR", "WHERE")
    made.columns[3].no_wrap = False
    made.columns[3].overflow = "fold"

    for error in errors:
        text = f"{error.get('type', '')}: {error.get('message', '')}".rstrip(": ")
        made.add_row(
            f"  {cell(error.get('attempt', ''))}",
            moment(float(error.get("at", 0))),
            *map(cell, (error.get("kind", ""), text, error.get("where", ""))),
        )

    console.print()
    console.print(made)


def print_body(console: Console, title: str, body: bytes) -> None:
    """A body as it is, below its title."""
    console.print(f"\n[bold]{title}[/]")
    console.print(body.decode(errors="replace"), markup=False, soft_wrap=True)
