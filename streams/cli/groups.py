"""``streams groups``: which groups a stream has, and giving one up."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from streams.admin.groups import Drop, GroupInfo
from streams.admin.partitioned import in_part
from streams.cli.common import (
    StreamName,
    cell,
    examples,
    finish,
    moment,
    number,
    person,
    remark,
    say,
    span,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.cli.options import OneGroup, OnPartition, with_options
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.quantities import counted

app = typer.Typer(
    help="Show the groups of a stream, and give up one that nobody needs any more.",
    no_args_is_help=True,
)


@app.command(
    "ls",
    help="Show the groups of a stream: declared or not, there or not, and what each still has to do."
    "\n\nOn a stream with retention fanout, events wait for every declared group. "
    "'abandoned' has work, and no consumer"
    " that was heard of within the last minute; 'missing' is declared, and the server "
    "does not have it; 'dropped' was"
    " given up, and its dead letters are left."
    + examples("streams groups ls orders", "streams groups ls orders --json"),
)
@with_options
def ls(stream: StreamName, *, at: OnPartition) -> None:
    """Show the groups of a stream."""

    async def main(pipeline: Pipeline) -> tuple[list[GroupInfo], tuple[str, ...]]:
        groups = pipeline.groups(stream, partition=at.partition)
        return await in_part(groups.list())

    groups, away = at.ask(main)
    retention = groups[0].retention if groups else ""
    if at.as_json:
        rows = [
            {**asdict(info), "abandoned": info.abandoned, "dropped": info.dropped}
            for info in groups
        ]
        write_json(
            {
                "stream": stream,
                "retention": retention or None,
                "groups": rows,
                "away": away,
            }
        )
        tell_missing(stream, away)
        return
    say(f"{stream}: retention {retention or 'not declared'}")
    if not groups:
        tell_missing(stream, away)
        return
    shown = table(
        "GROUP",
        "STATE",
        "START",
        "SINCE",
        ">WAITING",
        ">PROCESSING",
        ">RETRYING",
        ">DEAD",
        ">CONSUMERS",
        "HEARD",
    )
    for info in groups:
        shown.add_row(
            cell(info.group),
            _state(info),
            info.start,
            moment(info.since) if info.since is not None else "",
            *map(
                number,
                (
                    info.waiting,
                    info.processing,
                    info.retrying,
                    info.dead,
                    info.consumers,
                ),
            ),
            f"{span(info.silent)} ago" if info.silent is not None else "",
        )
    stdout().print(shown)
    tell_missing(stream, away)


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
        bool,
        typer.Option(
            "--force", help="Although consumers are alive; their workers end."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    at: OnPartition,
) -> None:
    """Give a group up."""
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask at: give --yes")

    async def look(pipeline: Pipeline) -> GroupInfo | None:
        groups = pipeline.groups(of.stream, partition=at.partition)
        found = {info.group: info for info in await groups.list()}
        return found.get(of.group)

    async def main(pipeline: Pipeline) -> Drop:
        groups = pipeline.groups(of.stream, by=person(), partition=at.partition)
        return await groups.drop(of.group, force=force)

    if not yes and not _confirmed(of, at.ask(look)):
        remark("nothing was changed")
        finish(Exit.FAILED)
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


def _confirmed(of: OneGroup, info: GroupInfo | None) -> bool:
    unfinished = info.waiting + info.processing + info.retrying if info else 0
    return typer.confirm(
        f"Drop group {of.group} of {of.stream} with {unfinished} unfinished events?",
        err=True,
    )


def _state(info: GroupInfo) -> str:
    if info.dropped:
        return "[dim]dropped[/]"
    if not info.present:
        return "[red]missing[/]"
    if info.abandoned:
        return "[red]abandoned[/]"
    return "declared" if info.declared else "[yellow]not declared[/]"
