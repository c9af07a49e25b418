"""``streams ls``: every stream, its groups and levels, and where their events stand."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.broker.shards import Away
from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    cell,
    connected,
    examples,
    number,
    remark,
    run,
    span,
    stdout,
    table,
    tell_away,
    write_json,
)
from streams.cli.pause import named, story
from streams.pipeline import Pipeline
from streams.status import GroupRow, StreamRow

HELP = (
    "Show every stream: what waits, runs, is retried and died."
    "\n\nOne line per level of each group. OLDEST is the age of the oldest unfinished event; LAG is the server's own"
    " count of events that the group has not read. SCHEDULED belongs to the stream, DEAD and CONSUMERS to the group."
    " Levels that are paused say so, and below stands by whom, since when and why."
    " The cost does not grow with what is stored."
    + examples("streams ls", "streams ls orders --watch", "streams ls --json | jq '.streams[].groups[].dead'")
)
_REFRESH = 1.0


def ls(
    stream: Annotated[
        str | None, typer.Argument(metavar="[STREAM]", help="One stream only.", show_default=False)
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until Ctrl-C.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List streams; see HELP."""

    async def main() -> None:
        async with connected(url, namespace) as pipeline:
            if watch and not as_json:
                await _watch(pipeline, stream)
                return
            rows, away = await _rows(pipeline, stream)
        if as_json:
            write_json({"streams": [as_plain(row) for row in rows], "away": [shard.as_plain() for shard in away]})
        elif rows:
            stdout().print(overview(rows))
        elif not away:
            remark(f"no streams yet on {pipeline.settings.namespace!r}: publish an event, or start a worker")
        tell_away(away)

    run(main)


def as_plain(row: StreamRow) -> dict[str, Any]:
    """A stream as plain JSON types."""
    return asdict(row)


def overview(rows: list[StreamRow]) -> Group:
    """The table, and below it what is paused, by whom, since when and why."""
    lines = [
        Text(f"paused: {named(row.stream, pause)}, {story(pause)}", style="yellow")
        for row in rows
        for pause in row.paused
    ]
    return Group(streams_table(rows), *([Text(), *lines] if lines else []))


def streams_table(rows: list[StreamRow]) -> Table:
    """Streams, groups and levels as one table."""
    made = table(
        "STREAM",
        "GROUP",
        ">LEVEL",
        ">WAITING",
        ">PROCESSING",
        ">RETRYING",
        ">DEAD",
        ">LAG",
        ">OLDEST",
        ">CONSUMERS",
        ">SCHEDULED",
    )
    for name, most in ((0, 22), (1, 18)):
        made.columns[name].max_width = most
    for at, row in enumerate(rows):
        if at:
            made.add_row()
        first = (f"[bold]{cell(row.stream)}[/]", number(row.scheduled))
        if not row.groups:
            made.add_row(first[0], "[dim](no group)[/]", "all", number(row.stored), *[""] * 6, first[1])
        for group in row.groups:
            _add_group(made, group, *first)
            first = ("", "")
    return made


def _add_group(made: Table, group: GroupRow, stream: str, scheduled: str) -> None:
    for at, level in enumerate(group.levels):
        made.add_row(
            stream if at == 0 else "",
            cell(group.group) if at == 0 else "",
            f"[yellow]paused[/] {level.level}" if level.paused else str(level.level),
            number(level.waiting),
            number(level.processing, style="green"),
            number(level.retrying, style="yellow"),
            number(group.dead, style="red") if at == 0 else "",
            number(level.lag),
            span(level.oldest_age) or "[dim]·[/]",
            number(group.consumers) if at == 0 else "",
            scheduled if at == 0 else "",
        )


async def _rows(pipeline: Pipeline, stream: str | None) -> tuple[list[StreamRow], list[Away]]:
    status = pipeline.status()
    if stream is not None:
        return [await status.stream(stream)], []
    survey = await status.survey()
    return survey.rows, survey.away


async def _watch(pipeline: Pipeline, stream: str | None) -> None:
    with Live(console=stdout(), auto_refresh=False) as live:
        while True:
            rows, away = await _rows(pipeline, stream)
            missing = [Text(str(shard), style="red") for shard in away]
            live.update(Group(overview(rows), *missing), refresh=True)
            await asyncio.sleep(_REFRESH)
