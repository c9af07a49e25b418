"""``streams ls``: every stream, its groups and levels, and where their events stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated

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
    argument,
    cell,
    examples,
    missing_folder,
    number,
    option,
    remark,
    settings_of,
    span,
    stdout,
    table,
    tell_away,
    write_json,
)
from streams.cli.options import OnPartition, with_options
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


@with_options
def ls(
    stream: Annotated[
        str | None,
        argument("[STREAM]", "One stream only.", autocompletion=completing.streams),
    ] = None,
    *,
    watch: Annotated[
        bool, option("Refresh every second until Ctrl-C.", "--watch")
    ] = False,
    at: OnPartition,
) -> None:
    """List streams; see HELP."""
    folder = missing_folder(settings_of(at.url, at.namespace))

    if folder is not None and stream is None and not watch:
        # To look is no reason to make it: mostly another working directory was meant.
        if at.as_json:
            write_json({"streams": [], "totals": [], "away": []})

        remark(
            f"no streams yet: the folder {folder} does not exist; a worker or "
            "publishing makes it"
        )
    elif watch and not at.as_json:
        at.ask(lambda pipeline: _watch(pipeline, stream, at.partition))
    else:
        at.ask(lambda pipeline: _list(pipeline, stream, at))


async def _list(pipeline: Pipeline, stream: str | None, at: OnPartition) -> None:
    rows, away = await _rows(pipeline, stream, at.partition)
    if at.as_json:
        totals = [
            asdict(row) | {"partitions": [part.stream for part in row.partitions]}
            for row in grouped(rows)
            if row.partitions
        ]

        plain = {"streams": list(map(asdict, rows)), "totals": totals}
        write_json(plain | {"away": [shard.as_plain() for shard in away]})
    elif rows:
        stdout().print(overview(rows, stdout().width))
    elif not away:
        remark(
            f"no streams yet on {pipeline.settings.namespace!r}: publish an event, "
            "or start a worker"
        )

    tell_away(away)


def overview(rows: list[StreamRow], width: int) -> Group:
    """The table; below it the pauses, and the levels that no worker reads."""
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
    """The events that another program put where no worker looks, and what to do."""
    there = ", ".join(
        f"{count:,} on level {level}" for level, count in row.undeclared.items()
    )

    levels = sorted({level.level for group in row.groups for level in group.levels})
    declared = ", ".join(map(str, levels)) or "a level that is declared"
    wanted = ",".join(map(str, sorted({*levels, *row.undeclared})))
    return (
        f"no worker reads: {row.stream}, {there}; publish on {declared}, "
        f"or start the workers with STREAMS_LEVELS={wanted}"
    )


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

        parts = row.partitions
        count = f" ({counted(len(parts), 'partition')})" if parts else ""
        _add(made, f"[bold]{cell(row.stream)}[/]{count}", row, _levels)

        for partition, part in enumerate(parts):
            _add(made, f"  [dim]partition {partition}[/]", part, _sum)

    return made


def _add(
    made: Table,
    name: str,
    row: StreamRow,
    lines: Callable[[GroupRow], Iterator[tuple[str, ...]]],
) -> None:
    """Add the lines of each group; the name and the scheduled events stand in the first one."""
    scheduled = number(row.scheduled)

    if not row.groups:
        nothing = ("[dim](no group)[/]", "all", number(row.stored), *[""] * 6)
        made.add_row(name, *nothing, scheduled)

    for group in row.groups:
        for line in lines(group):
            made.add_row(name, *line, scheduled)
            name = scheduled = ""


def _sum(group: GroupRow) -> Iterator[tuple[str, ...]]:
    """One line, of the levels of a partition in sum."""
    levels = group.levels
    ages = [level.oldest_age for level in levels if level.oldest_age is not None]
    is_paused = bool(levels) and all(level.paused for level in levels)
    yield (
        cell(group.group),
        "[yellow]paused[/]" if is_paused else "all",
        *(number(group.total(what)) for what in ("waiting", "processing", "retrying")),
        number(group.dead, style="red"),
        "",
        span(max(ages, default=None)) or "[dim]·[/]",
        number(group.consumers),
    )


def _levels(group: GroupRow) -> Iterator[tuple[str, ...]]:
    """One line for each level; the counts of the group stand in the first one."""
    name = cell(group.group)
    dead, consumers = number(group.dead, style="red"), number(group.consumers)

    for level in group.levels:
        yield (
            name,
            f"[yellow]paused[/] {level.level}" if level.paused else str(level.level),
            number(level.waiting),
            number(level.processing, style="green"),
            number(level.retrying, style="yellow"),
            dead,
            number(level.lag),
            span(level.oldest_age) or "[dim]·[/]",
            consumers,
        )

        name = dead = consumers = ""


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
            shown = Group(overview(rows, live.console.width), *missing)
            live.update(shown, refresh=True)
            await asyncio.sleep(_REFRESH)
