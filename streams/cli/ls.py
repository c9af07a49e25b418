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

from streams.admin.rows import grouped
from streams.admin.status import GroupRow, StreamRow
from streams.broker.server.shards import Away, each
from streams.cli import completing
from streams.cli.columns import fitted
from streams.cli.common import (
    AsJson,
    Namespace,
    PartitionNumber,
    Url,
    cell,
    connected,
    examples,
    missing_folder,
    number,
    remark,
    run,
    settings_of,
    span,
    stdout,
    table,
    tell_away,
    write_json,
)
from streams.cli.pause import named, story
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.quantities import counted

HELP = (
    "Show every stream: what waits, runs, is retried and died."
    "\n\nOne line per level of each group. OLDEST is the age of the oldest unfinished "
    "event; LAG is the server's own"
    " count of events that the group has not read. SCHEDULED belongs to the stream, "
    "DEAD and CONSUMERS to the group."
    " Levels that are paused say so, and below stands by whom, since when and why. "
    "Below stands, too, what another"
    " program put on a level that no worker reads."
    " The cost does not grow with what is stored."
    + examples(
        "streams ls",
        "streams ls orders --watch",
        "streams ls --json | jq '.streams[].groups[].dead'",
    )
)
_REFRESH = 1.0
_NAMES = {"STREAM": 8, "GROUP": 8}
_SPARE = ("LAG", "SCHEDULED", "CONSUMERS", "OLDEST")


def ls(
    stream: Annotated[
        str | None,
        typer.Argument(
            metavar="[STREAM]",
            help="One stream only.",
            show_default=False,
            autocompletion=completing.streams,
        ),
    ] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every second until Ctrl-C.")
    ] = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List streams; see HELP."""

    async def main() -> None:
        folder = missing_folder(settings_of(url, namespace))
        if folder is not None and stream is None and not watch:
            # To look is no reason to make it: it is mostly that of another working directory that was meant.
            if as_json:
                write_json({"streams": [], "totals": [], "away": []})
            remark(
                f"no streams yet: the folder {folder} does not exist; a worker or "
                "publishing makes it"
            )
            return
        async with connected(url, namespace) as pipeline:
            if watch and not as_json:
                await _watch(pipeline, stream, partition)
                return
            rows, away = await _rows(pipeline, stream, partition)
        if as_json:
            names = [
                (row, [part.stream for part in row.partitions])
                for row in grouped(rows)
                if row.partitions
            ]
            totals = [as_plain(row) | {"partitions": parts} for row, parts in names]
            plain = {"streams": [as_plain(row) for row in rows], "totals": totals}
            write_json(plain | {"away": [shard.as_plain() for shard in away]})
        elif rows:
            stdout().print(overview(rows, stdout().width))
        elif not away:
            remark(
                f"no streams yet on {pipeline.settings.namespace!r}: publish an event, "
                "or start a worker"
            )
        tell_away(away)

    run(main)


def as_plain(row: StreamRow) -> dict[str, Any]:
    """A stream as plain JSON types."""
    return asdict(row)


def overview(rows: list[StreamRow], width: int) -> Group:
    """The table, and below it what is paused, by whom, since when and why, and what nobody reads."""
    told = grouped(rows)
    lines = [
        Text(f"paused: {named(row.stream, pause)}, {story(pause)}", style="yellow")
        for row in told
        for pause in row.paused
    ]
    lines += [Text(nobody_reads(row), style="red") for row in told if row.undeclared]
    made = fitted(streams_table(told), width, names=_NAMES, spare=_SPARE)
    return Group(made, *([Text(), *lines] if lines else []))


def nobody_reads(row: StreamRow) -> str:
    """What another program put where no worker looks, and what to do."""
    there = ", ".join(
        f"{count:,} on level {level}" for level, count in row.undeclared.items()
    )
    levels = sorted({level.level for group in row.groups for level in group.levels})
    todo = (
        f"publish on {', '.join(map(str, levels))}"
        if levels
        else "publish on a level that is declared"
    )
    wanted = ",".join(map(str, sorted({*levels, *row.undeclared})))
    return f"no worker reads: {row.stream}, {there}; {todo}, or start the workers with STREAMS_LEVELS={wanted}"


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
    for at, row in enumerate(rows):
        if at:
            made.add_row()
        count = (
            f" ({counted(len(row.partitions), 'partition')})" if row.partitions else ""
        )
        first = (f"[bold]{cell(row.stream)}[/]{count}", number(row.scheduled))
        if not row.groups:
            made.add_row(
                first[0],
                "[dim](no group)[/]",
                "all",
                number(row.stored),
                *[""] * 6,
                first[1],
            )
        for group in row.groups:
            _add_group(made, group, *first)
            first = ("", "")
        for number_, part in enumerate(row.partitions):
            _add_partition(made, number_, part)
    return made


def _add_partition(made: Table, partition: int, row: StreamRow) -> None:
    """One line for each group of a partition, its levels in sum."""
    first = (f"  [dim]partition {partition}[/]", number(row.scheduled))
    for group in row.groups:
        ages = [
            level.oldest_age for level in group.levels if level.oldest_age is not None
        ]
        totals = [group.total(what) for what in ("waiting", "processing", "retrying")]
        held = (
            "[yellow]paused[/]"
            if group.levels and all(level.paused for level in group.levels)
            else "all"
        )
        made.add_row(
            first[0],
            cell(group.group),
            held,
            *map(number, totals),
            number(group.dead, style="red"),
            "",
            span(max(ages, default=None)) or "[dim]·[/]",
            number(group.consumers),
            first[1],
        )
        first = ("", "")
    if not row.groups:
        made.add_row(
            first[0],
            "[dim](no group)[/]",
            "all",
            number(row.stored),
            *[""] * 6,
            first[1],
        )


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


async def _rows(
    pipeline: Pipeline, stream: str | None, partition: int | None
) -> tuple[list[StreamRow], list[Away]]:
    """A row for each stream, and for each partition."""
    status = pipeline.status()
    if stream is not None:
        names = await status.streams_of(stream, partition)
        rows, away = await each(
            pipeline.broker, names, lambda name: status.stream(name, partition=0)
        )
        return rows, away
    if partition is not None:
        raise ConfigurationError("--partition is of one stream: name it, too")
    survey = await status.survey()
    return survey.rows, survey.away


async def _watch(pipeline: Pipeline, stream: str | None, partition: int | None) -> None:
    with Live(console=stdout(), auto_refresh=False) as live:
        while True:
            rows, away = await _rows(pipeline, stream, partition)
            missing = [Text(str(shard), style="red") for shard in away]
            live.update(
                Group(overview(rows, live.console.width), *missing), refresh=True
            )
            await asyncio.sleep(_REFRESH)
