"""``streams why``: the reason for which events wait."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from streams.admin.reason import Reason
from streams.admin.why import Reasons
from streams.cli.common import (
    AsJson,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    cell,
    connected,
    examples,
    remark,
    run,
    say,
    stdout,
    write_json,
)
from streams.quantities import counted

HELP = (
    "Say why an event waits, or those of a key, a tenant or a level, in each group."
    "\n\nThe id is an event id, an entry id, or LEVEL|ENTRY-ID. Each unfinished event has one reason: its time, its"
    " turn, a pause, a limit, its key, its workers. The state 'none' says that nothing holds it, which is a defect."
    "\n\nOf a key, a tenant or a level the oldest 100 events are judged. Long numbers are masked."
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


def why(  # noqa: PLR0913 - each is an option of the command
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
    key: Annotated[
        str | None, typer.Option(help="Events with this key.", show_default=False)
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Events of this tenant.", show_default=False)
    ] = None,
    level: Annotated[
        int | None, typer.Option(help="Events of this level.", show_default=False)
    ] = None,
    group: Annotated[
        str, typer.Option(help="Only this group.", show_default=False)
    ] = "",
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Say why events wait; see HELP."""

    async def main() -> Reasons:
        async with connected(url, namespace) as pipeline:
            return await pipeline.why(
                stream,
                event,
                key=key,
                tenant=tenant,
                level=level,
                group=group,
                partition=partition,
            )

    found = run(main)
    if as_json:
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
