"""``streams keys``: the ordered keys of a group, and how a held one goes on."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Literal

import typer

from streams.admin.ordered_keys import OrderedKey
from streams.admin.partitioned import in_part
from streams.cli.common import (
    argument,
    cell,
    examples,
    moment,
    option,
    say,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.cli.options import OneGroup, OnPartition, with_options
from streams.common.masking import masked
from streams.pipeline import Pipeline

app = typer.Typer(
    help="Show the keys whose order a group keeps, and let held ones go on.",
    no_args_is_help=True,
)

KeyName = Annotated[str, argument("KEY", "The key, its parts joined by commas.")]


@app.command(
    "ls",
    help="Show the keys that are held because an event of theirs died."
    "\n\nWith --all also those at work. The keys with the most behind them come "
    "first; long numbers in keys are masked."
    + examples(
        "streams keys ls orders billing",
        "streams keys ls orders billing --all --limit 20",
    ),
)
@with_options
async def ls(
    pipeline: Pipeline,
    of: OneGroup,
    *,
    everything: Annotated[bool, option("Keys at work too.", "--all")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Keys to show.")] = 100,
    at: OnPartition,
) -> None:
    """Show ordered keys."""
    state: Literal["held"] | None = "held"
    if everything:
        state = None

    asked = of.on(pipeline, at).ordered_keys()
    listing = asked.list(limit, state=state)
    keys, away = await in_part(listing)

    found = [replace(key, key=masked(key.key)) for key in keys]

    if at.as_json:
        plain = list(map(asdict, found))
        write_json({**asdict(of), "keys": plain, "away": away})
    elif not found:
        states = "at work or held" if everything else "held"
        say(f"no key of {of} is {states}")
    else:
        rows = map(_row, found)
        shown = table("KEY", "STATE", "BEHIND", "EVENT", "SINCE", rows=rows)
        stdout().print(shown)

    tell_missing(of.stream, away)


def _row(key: OrderedKey) -> tuple[str, ...]:
    return (
        cell(key.key),
        key.state,
        str(key.behind),
        cell(key.event_id or key.head),
        moment(key.since) if key.since else "",
    )


@app.command(
    "release",
    help="Try the dead event of a held key again; what waits behind it follows in order."
    + examples("streams keys release orders billing customer-7"),
)
@with_options
async def release(
    pipeline: Pipeline, of: OneGroup, key: KeyName, *, at: OnPartition
) -> None:
    """Replay the head of a held key."""
    keys = of.on(pipeline, at).ordered_keys()
    place = await keys.release(key)
    shown = masked(key)

    at.tell(
        {**asdict(of), "key": shown, "entry": place},
        f"released {shown} of {of}: its dead event is tried again as {place}",
    )


@app.command(
    "skip",
    help="Let a held key go on without its dead event, which stays among the dead letters."
    + examples("streams keys skip orders billing customer-7"),
)
@with_options
async def skip(
    pipeline: Pipeline, of: OneGroup, key: KeyName, *, at: OnPartition
) -> None:
    """Let a held key go on."""
    keys = of.on(pipeline, at).ordered_keys()
    await keys.skip(key)
    shown = masked(key)

    at.tell(
        {**asdict(of), "key": shown, "skipped": True},
        f"skipped the dead event of {shown} of {of}; it stays among the dead letters",
    )
