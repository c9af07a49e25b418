"""``streams groups``: which groups a stream has, and giving one up."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from streams.admin.groups import Drop, GroupInfo
from streams.admin.partitioned import in_part
from streams.cli.common import (
    AsJson,
    GroupName,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    cell,
    connected,
    examples,
    finish,
    moment,
    number,
    person,
    remark,
    run,
    say,
    span,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.errors import ConfigurationError
from streams.quantities import counted

app = typer.Typer(
    help="Show the groups of a stream, and give up one that nobody needs any more.",
    no_args_is_help=True,
)


@app.command(
    "ls",
    help="Show the groups of a stream: declared or not, there or not, and what each still has to do."
    "\n\nOn a stream with retention fanout, events wait for every declared group. 'abandoned' has work, and no consumer"
    " that was heard of within the last minute; 'missing' is declared, and the server does not have it; 'dropped' was"
    " given up, and its dead letters are left."
    + examples("streams groups ls orders", "streams groups ls orders --json"),
)
def ls(
    stream: StreamName,
    *,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show the groups of a stream."""

    async def main() -> tuple[list[GroupInfo], tuple[str, ...]]:
        async with connected(url, namespace) as pipeline:
            return await in_part(pipeline.groups(stream, partition=partition).list())

    groups, away = run(main)
    retention = groups[0].retention if groups else ""
    if as_json:
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
    "\n\nIts unfinished events, retries and pauses are gone for it; other groups keep theirs. Its dead letters stay."
    " Refused while a consumer was heard of within the last minute, unless forced. On a terminal it asks first;"
    " elsewhere it needs --yes. Can be repeated after an interruption."
    + examples(
        "streams groups drop orders shipping",
        "streams groups drop orders shipping --yes --json",
    ),
)
def drop(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Although consumers are alive; their workers end."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Give a group up."""
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask at: give --yes")

    async def look() -> GroupInfo | None:
        async with connected(url, namespace) as pipeline:
            return next(
                (
                    info
                    for info in await pipeline.groups(
                        stream, partition=partition
                    ).list()
                    if info.group == group
                ),
                None,
            )

    async def main() -> Drop:
        async with connected(url, namespace) as pipeline:
            return await pipeline.groups(stream, by=person(), partition=partition).drop(
                group, force=force
            )

    if not yes and not _confirmed(stream, group, run(look)):
        remark("nothing was changed")
        finish(Exit.FAILED)
    outcome = run(main)
    if as_json:
        write_json({"stream": stream, **asdict(outcome)})
        return
    what = (
        f"dropped {group} of {stream}"
        if outcome.dropped
        else f"{group} of {stream} was dropped before"
    )
    given_up = counted(outcome.given_up, "unfinished event")
    trimmed = counted(outcome.trimmed, "entry", "entries")
    say(f"{what}: {given_up} given up, {trimmed} deleted that no group needs")
    if outcome.dead:
        say(
            f"{counted(outcome.dead, 'dead letter is', 'dead letters are')} kept: streams dead ls {stream} {group}"
        )


def _confirmed(stream: str, group: str, info: GroupInfo | None) -> bool:
    unfinished = info.waiting + info.processing + info.retrying if info else 0
    return typer.confirm(
        f"Drop group {group} of {stream} with {unfinished} unfinished events?", err=True
    )


def _state(info: GroupInfo) -> str:
    if info.dropped:
        return "[dim]dropped[/]"
    if not info.present:
        return "[red]missing[/]"
    if info.abandoned:
        return "[red]abandoned[/]"
    return "declared" if info.declared else "[yellow]not declared[/]"
