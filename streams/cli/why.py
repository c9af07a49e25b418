"""``streams why``: the reason for which events wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from streams.admin.reason import Reason
from streams.cli.common import (
    StreamName,
    cell,
    examples,
    remark,
    say,
    stdout,
    write_json,
)
from streams.cli.options import OnPartition, with_options
from streams.quantities import counted

HELP = (
    "Say why an event waits, or those of a key, a tenant or a level, in each group."
    "\n\nThe id is an event id, an entry id, or LEVEL|ENTRY-ID. Each unfinished event "
    "has one reason: its time, its"
    " turn, a pause, a limit, its key, its workers. The state 'none' says that "
    "nothing holds it, which is a defect."
    "\n\nOf a key, a tenant or a level the oldest 100 events are judged. Long numbers "
    "are masked."
    + examples(
        "streams why orders 7d3e5f0a1b2c3d4e-1",
        "streams why orders --tenant acme --group billing",
        "streams why orders --level 5 --json",
    )
)
_STYLES = {
    "none": "red",
    "unreadable": "red",
    "orphaned": "red",
    "no-worker": "red",
    "running": "green",
}


def _of(what: str) -> Any:
    return typer.Option(help=f"Events {what}.", show_default=False)


@dataclass(frozen=True, kw_only=True)
class Asked(OnPartition):
    """Options of ``why``: which events, in which group."""

    key: Annotated[str | None, _of("with this key")] = None
    tenant: Annotated[str | None, _of("of this tenant")] = None
    level: Annotated[int | None, _of("of this level")] = None
    group: Annotated[str, typer.Option(help="Only this group.", show_default=False)] = (
        ""
    )


@with_options
def why(
    stream: StreamName,
    event: Annotated[
        str | None,
        typer.Argument(
            metavar="EVENT",
            help="Event id, entry id, or LEVEL|ENTRY-ID.",
            show_default=False,
        ),
    ] = None,
    *,
    asked: Asked,
) -> None:
    """Say why events wait; see HELP."""
    found = asked.ask(
        lambda pipeline: pipeline.why(
            stream,
            event,
            key=asked.key,
            tenant=asked.tenant,
            level=asked.level,
            group=asked.group,
            partition=asked.partition,
        )
    )
    if asked.as_json:
        write_json(found.as_plain())
        return
    for reason in found.reasons:
        _print(stdout(), reason)
    if not found.reasons:
        say("no such event waits")
    if found.more or not found.is_complete:
        more = (
            f"{counted(found.more, 'more was', 'more were')} found"
            if found.more
            else "not all were looked through"
        )
        remark(
            f"{more}{'' if found.is_complete else ', of those that were looked through' if found.more else ''}"
        )


def _print(console: Console, reason: Reason) -> None:
    style = _STYLES.get(reason.state, "yellow")
    where = f"{reason.stream}/{reason.group}" if reason.group else reason.stream
    name = reason.event_id or (
        f"{reason.level}|{reason.entry_id}"
        if reason.level is not None
        else reason.entry_id
    )
    console.print(f"[bold]{cell(name)}[/] {cell(where)}  [{style}]{reason.state}[/]")
    console.print(f"  {cell(reason.sentence)}", soft_wrap=True)
    if reason.because is not None:
        console.print(
            f"  [dim]and that one:[/] {cell(reason.because.sentence)}", soft_wrap=True
        )
