"""``streams show``: where one event stands."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streams.admin.status import EntryState
from streams.cli.common import (
    StreamName,
    cell,
    examples,
    moment,
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


@with_options
def show(
    stream: StreamName,
    ident: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Event id, entry id, or LEVEL|ENTRY-ID.",
            show_default=False,
        ),
    ],
    *,
    group: Annotated[
        str, typer.Option(help="Only this group.", show_default=False)
    ] = "",
    body: Annotated[
        bool, typer.Option("--body", help="Show the body too, unmasked.")
    ] = False,
    at: OnPartition,
) -> None:
    """Show an event; see HELP."""

    async def main(pipeline: Pipeline) -> list[tuple[EntryState, str]]:
        states = await pipeline.status().find(
            stream, ident, group, partition=at.partition
        )
        if all(state.state == "dead" for state in states):
            return [(state, "") for state in states]
        found = await pipeline.why(stream, ident, group=group, partition=at.partition)
        # Of an event that is done there is something to say if it was cancelled.
        told = {
            (reason.stream, reason.group): reason.sentence
            for reason in found.reasons
            if reason.state != "done" or reason.facts
        }
        return [(state, told.get((state.stream, state.group), "")) for state in states]

    found = at.ask(main)
    if at.as_json:
        rows = [plain_state(state, body=body) | {"why": why} for state, why in found]
        write_json({"states": rows})
        return
    console = stdout()
    for number, (state, why) in enumerate(found):
        if number:
            console.print()
        _print(console, state, why, body=body)


def plain_state(state: EntryState, *, body: bool) -> dict[str, Any]:
    """Where an event stands, as plain JSON types; masked, unless the body is asked for."""
    names = (
        "stream",
        "group",
        "state",
        "level",
        "entry_id",
        "event_id",
        "type",
        "due",
        "consumer",
        "silent",
        "failures",
        "stalls",
        "errors",
        "size",
    )
    plain = {name: getattr(state, name) for name in names}
    plain["meta"] = state.meta if body else shown_meta(state.meta)
    plain["dead_letter"] = state.dead_letter.id if state.dead_letter else None
    if body:
        plain["body"] = _body(state)
    return plain


def _body(state: EntryState) -> str:
    return state.raw.decode(errors="replace")


_STYLES = {
    "processing": "green",
    "retrying": "yellow",
    "dead": "red",
    "done": "green",
    "orphaned": "red",
}


def _print(console: Console, state: EntryState, why: str, *, body: bool) -> None:
    style = _STYLES.get(state.state, "bold")
    where = f"{state.stream}/{state.group}" if state.group else state.stream
    console.print(f"[bold]{cell(where)}[/]  [{style}]{state.state}[/]")
    console.print(
        facts([*_facts(state), ("why", "" if state.state == "dead" else why)])
    )
    if state.errors:
        console.print()
        console.print(errors_table(state.errors))
    if body:
        console.print("\n[bold]body[/]")
        console.print(_body(state), markup=False, soft_wrap=True)


def _facts(state: EntryState) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = [
        ("event id", state.event_id),
        ("type", state.type),
    ]
    if state.level is not None:
        found += [("level", state.level), ("entry id", state.entry_id)]
    found.append(("due", moment(state.due) if state.due is not None else ""))
    found.append(
        (
            "with",
            f"{state.consumer}, silent for {span(state.silent)}"
            if state.consumer
            else "",
        )
    )
    found.append(("attempts", attempts(state.failures, state.stalls)))
    found.append(
        (
            "dead letter",
            f"{state.dead_letter.id}, {state.dead_letter.reason}"
            if state.dead_letter
            else "",
        )
    )
    found += list(shown_meta(state.meta).items())
    found.append(("body", counted(state.size, "byte", form=",") if state.size else ""))
    return found


def attempts(failures: int, stalls: int) -> str:
    """How many attempts ended, and how."""
    if not failures and not stalls:
        return ""
    return f"{failures + stalls} ({failures} failed, {stalls} stalled)"


def facts(found: list[tuple[str, object]]) -> Table:
    """Names and values, those that have one."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in found:
        if value not in ("", None):
            made.add_row(f"  {cell(name)}", cell(value))
    return made


def errors_table(errors: list[dict[str, Any]]) -> Table:
    """The latest errors of an event, oldest first; their messages are stored masked."""
    made = table("  ATTEMPT", "AT", "KIND", "ERROR", "WHERE")
    made.columns[3].no_wrap = False
    made.columns[3].overflow = "fold"
    for error in errors:
        text = f"{error.get('type', '')}: {error.get('message', '')}".rstrip(": ")
        at = moment(float(error.get("at", 0)))
        made.add_row(
            f"  {cell(error.get('attempt', ''))}",
            at,
            *map(cell, (error.get("kind", ""), text, error.get("where", ""))),
        )
    return made
