"""``streams keys``: the ordered keys of a group, and how a held one goes on."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Literal

import typer

from streams.admin.partitioned import in_part
from streams.cli.common import (
    cell,
    examples,
    moment,
    say,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.cli.options import OneGroup, OnPartition, with_options
from streams.common.masking import masked

app = typer.Typer(
    help="Show the keys whose order a group keeps, and let held ones go on.",
    no_args_is_help=True,
)

KeyName = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The key, its parts joined by commas.", show_default=False
    ),
]


@app.command(
    "ls",
    help="Show the keys that are held because an event of theirs died."
    "\n\nWith --all also those at work. The keys with the most behind them come first; long numbers in keys are masked."
    + examples(
        "streams keys ls orders billing",
        "streams keys ls orders billing --all --limit 20",
    ),
)
@with_options
def ls(
    of: OneGroup,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Keys at work too.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Keys to show.")
    ] = 100,
    at: OnPartition,
) -> None:
    """Show ordered keys."""
    state: Literal["held"] | None = None if everything else "held"
    rows, away = at.ask(
        lambda pipeline: in_part(
            of.on(pipeline, at).ordered_keys().list(limit, state=state)
        )
    )
    found = [replace(key, key=masked(key.key)) for key in rows]
    if at.as_json:
        keys = [asdict(key) for key in found]
        write_json({**asdict(of), "keys": keys, "away": away})
    elif not found:
        say(f"no key of {of} is " + ("at work or held" if everything else "held"))
    else:
        shown = table("KEY", "STATE", "BEHIND", "EVENT", "SINCE")
        for key in found:
            shown.add_row(
                cell(key.key),
                key.state,
                str(key.behind),
                cell(key.event_id or key.head),
                moment(key.since) if key.since else "",
            )
        stdout().print(shown)
    tell_missing(of.stream, away)


@app.command(
    "release",
    help="Try the dead event of a held key again; what waits behind it follows in order."
    + examples("streams keys release orders billing customer-7"),
)
@with_options
def release(of: OneGroup, key: KeyName, *, at: OnPartition) -> None:
    """Replay the head of a held key."""
    place = at.ask(lambda pipeline: of.on(pipeline, at).ordered_keys().release(key))
    if at.as_json:
        write_json({**asdict(of), "key": masked(key), "entry": place})
    else:
        say(f"released {masked(key)} of {of}: its dead event is tried again as {place}")


@app.command(
    "skip",
    help="Let a held key go on without its dead event, which stays among the dead letters."
    + examples("streams keys skip orders billing customer-7"),
)
@with_options
def skip(of: OneGroup, key: KeyName, *, at: OnPartition) -> None:
    """Let a held key go on."""
    at.ask(lambda pipeline: of.on(pipeline, at).ordered_keys().skip(key))
    if at.as_json:
        write_json({**asdict(of), "key": masked(key), "skipped": True})
    else:
        say(
            f"skipped the dead event of {masked(key)} of {of}; "
            "it stays among the dead letters"
        )
