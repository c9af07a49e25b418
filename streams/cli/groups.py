"""``streams groups``: which groups a stream has, and giving one up."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from streams.admin.groups import Drop, GroupInfo
from streams.admin.partitioned import in_part
from streams.cli.common import (
    StreamName,
    Yes,
    cell,
    confirm,
    examples,
    moment,
    number,
    option,
    person,
    refuse_unasked,
    say,
    span,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.cli.options import OneGroup, OnPartition, with_options
from streams.pipeline import Pipeline
from streams.quantities import counted

app = typer.Typer(
    help="Show the groups of a stream, and give up one that nobody needs any more.",
    no_args_is_help=True,
)


@app.command(
    "ls",
    help="Show the groups of a stream: declared or not, there or not, and what each "
    "still has to do."
    "\n\nOn a stream with retention fanout, events wait for every declared group. "
    "'abandoned' has work, and no consumer"
    " that was heard of within the last minute; 'missing' is declared, and the server "
    "does not have it; 'dropped' was"
    " given up, and its dead letters are left."
    + examples("streams groups ls orders", "streams groups ls orders --json"),
)
@with_options
async def ls(pipeline: Pipeline, stream: StreamName, *, at: OnPartition) -> None:
    """Show the groups of a stream."""
    listing = pipeline.groups(stream, partition=at.partition).list()
    groups, away = await in_part(listing)
    retention = groups[0].retention if groups else ""
    if at.as_json:
        rows = [
            {**asdict(info), "abandoned": info.abandoned, "dropped": info.dropped}
            for info in groups
        ]
        head = {"stream": stream, "retention": retention or None}
        write_json({**head, "groups": rows, "away": away})
    else:
        say(f"{stream}: retention {retention or 'not declared'}")
        if groups:
            stdout().print(table(*_COLUMNS, rows=map(_row, groups)))

    tell_missing(stream, away)


_COUNTS = ("waiting", "processing", "retrying", "dead", "consumers")
_COLUMNS = (
    "GROUP",
    "STATE",
    "START",
    "SINCE",
    *(f">{name.upper()}" for name in _COUNTS),
    "HEARD",
)


def _row(info: GroupInfo) -> tuple[str, ...]:
    return (
        cell(info.group),
        _state(info),
        info.start,
        moment(info.since) if info.since is not None else "",
        *(number(getattr(info, name)) for name in _COUNTS),
        f"{span(info.silent)} ago" if info.silent is not None else "",
    )


@app.command(
    "drop",
    help="Give a group up: events no longer wait for it, and what only it still needed is deleted."
    "\n\nIts unfinished events, retries and pauses are gone for it; other groups keep "
    "theirs. Its dead letters stay."
    " Refused while a consumer was heard of within the last minute, unless forced. On "
    "a terminal it asks first;"
    " elsewhere it needs --yes. Can be repeated after an interruption."
    + examples(
        "streams groups drop orders shipping",
        "streams groups drop orders shipping --yes --json",
    ),
)
@with_options
def drop(
    of: OneGroup,
    *,
    force: Annotated[
        bool, option("Although consumers are alive; their workers end.", "--force")
    ] = False,
    yes: Yes = False,
    at: OnPartition,
) -> None:
    """Give a group up."""
    refuse_unasked(yes=yes)

    async def main(pipeline: Pipeline) -> Drop:
        groups = pipeline.groups(of.stream, by=person(), partition=at.partition)
        if not yes:
            unfinished = sum(
                info.waiting + info.processing + info.retrying
                for info in await groups.list()
                if info.group == of.group
            )
            confirm(
                f"Drop group {of.group} of {of.stream} "
                f"with {unfinished} unfinished events?",
                yes=yes,
            )

        return await groups.drop(of.group, force=force)

    outcome = at.ask(main)
    if at.as_json:
        write_json({"stream": of.stream, **asdict(outcome)})
        return

    what = (
        f"dropped {of.group} of {of.stream}"
        if outcome.dropped
        else f"{of.group} of {of.stream} was dropped before"
    )
    given_up = counted(outcome.given_up, "unfinished event")
    trimmed = counted(outcome.trimmed, "entry", "entries")
    say(f"{what}: {given_up} given up, {trimmed} deleted that no group needs")
    if outcome.dead:
        kept = counted(outcome.dead, "dead letter is", "dead letters are")
        say(f"{kept} kept: streams dead ls {of.stream} {of.group}")


def _state(info: GroupInfo) -> str:
    if info.dropped:
        return "[dim]dropped[/]"

    if not info.present:
        return "[red]missing[/]"

    if info.abandoned:
        return "[red]abandoned[/]"

    return "declared" if info.declared else "[yellow]not declared[/]"
