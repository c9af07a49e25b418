"""``streams why``: the reason for which events wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from streams.admin.reason import Reason
from streams.cli.common import (
    OnlyGroup,
    StreamName,
    argument,
    cell,
    examples,
    option,
    remark,
    say,
    stdout,
    write_json,
)
from streams.cli.options import OnPartition, with_options
from streams.cli.show import place_of
from streams.pipeline import Pipeline
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


@dataclass(frozen=True, kw_only=True)
class Asked(OnPartition):
    """Options of ``why``: which events, in which group."""

    key: Annotated[str | None, option("Events with this key.")] = None
    tenant: Annotated[str | None, option("Events of this tenant.")] = None
    level: Annotated[int | None, option("Events of this level.")] = None
    group: OnlyGroup = ""


@with_options
async def why(
    pipeline: Pipeline,
    stream: StreamName,
    event: Annotated[
        str | None, argument("EVENT", "Event id, entry id, or LEVEL|ENTRY-ID.")
    ] = None,
    *,
    asked: Asked,
) -> None:
    """Say why events wait; see HELP."""
    names = ("key", "tenant", "level", "group", "partition")
    chosen = {name: getattr(asked, name) for name in names}
    found = await pipeline.why(stream, event, **chosen)

    if asked.as_json:
        write_json(found.as_plain())
        return

    for reason in found.reasons:
        _print(stdout(), reason)

    if not found.reasons:
        say("no such event waits")

    if found.more:
        of = "" if found.is_complete else ", of those that were looked through"
        remark(f"{counted(found.more, 'more was', 'more were')} found{of}")
    elif not found.is_complete:
        remark("not all were looked through")


def _print(console: Console, reason: Reason) -> None:
    name = reason.event_id or reason.entry_id

    if reason.level is not None and not reason.event_id:
        name = f"{reason.level}|{name}"

    style = _STYLES.get(reason.state, "yellow")
    where = cell(place_of(reason))
    head = f"[bold]{cell(name)}[/] {where}"
    console.print(f"{head}  [{style}]{reason.state}[/]")

    sentence = cell(reason.sentence)
    console.print(f"  {sentence}", soft_wrap=True)

    because = reason.because

    if because is not None:
        sentence = cell(because.sentence)
        console.print(f"  [dim]and that one:[/] {sentence}", soft_wrap=True)
