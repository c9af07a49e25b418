"""``streams dead``: look at dead letters, replay, discard and export them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import orjson
import typer

from streams.admin.dead_letter import DeadLetter
from streams.admin.partitioned import in_part
from streams.cli.common import (
    PartitionNumber,
    examples,
    remark,
    say,
    show_table,
    stdout,
    tell_missing,
    write_json,
)
from streams.cli.dead_options import (
    All,
    Body,
    DryRun,
    Filters,
    Ids,
    LetterId,
    Yes,
    choice,
    confirm,
    letters_of,
    refuse_unasked,
)
from streams.cli.dead_output import letter_facts, letters_table, plain_letter
from streams.cli.encoding import as_written
from streams.cli.options import OneGroup, OnPartition, Server, with_options
from streams.cli.show import errors_table
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.quantities import counted

app = typer.Typer(
    help="Look at dead letters, replay, discard and export them."
    "\n\nA dead letter is an event that used up its retries, or can never succeed. It "
    "waits here until somebody"
    " replays or discards it; both are written to the stream's audit record, with "
    "your name."
    + examples(
        "streams dead ls orders billing --since 2h",
        "streams dead replay orders billing --reason retries-used-up --rate 50",
        "streams dead export orders billing --output dead.jsonl",
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
)


@dataclass(frozen=True, kw_only=True)
class Discarding(OnPartition):
    """Options of ``discard``."""

    all_of_them: All = False
    dry_run: DryRun = False
    yes: Yes = False


@dataclass(frozen=True, kw_only=True)
class Replaying(OnPartition):
    """Options of ``replay``."""

    all_of_them: All = False
    dry_run: DryRun = False
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="At most so many per second.", show_default=False),
    ] = None
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None
    yes: Yes = False


@dataclass(frozen=True, kw_only=True)
class Exporting(Server):
    """Options of ``export``."""

    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="File to write.", show_default="standard output"
        ),
    ] = None
    partition: PartitionNumber = None


@app.command(
    "ls",
    help="List dead letters, oldest first."
    "\n\nWhat is not given does not narrow. The bodies are not shown and long numbers "
    "are masked; go on with --after."
    + examples(
        "streams dead ls orders billing",
        "streams dead ls orders billing --reason rejected --tenant acme --since 24h",
        "streams dead ls orders billing --error timeout --json | jq -r "
        "'.dead_letters[].id'",
    ),
)
@with_options
def ls(
    of: OneGroup,
    filters: Filters,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="At most so many.")
    ] = 50,
    after: Annotated[
        str, typer.Option(help="Go on after this dead letter.", show_default=False)
    ] = "",
    *,
    at: OnPartition,
) -> None:
    """List dead letters."""
    where = filters.filter()

    async def main(
        pipeline: Pipeline,
    ) -> tuple[list[DeadLetter], int, float, tuple[str, ...]]:
        letters = await letters_of(pipeline, of, at.partition, where)
        found, away = await in_part(letters.page(where, after=after, limit=limit))
        total, _ = await in_part(letters.count())
        return found, total, pipeline.broker.clock.now(), away

    found, total, now, away = at.ask(main)
    more = found[-1].id if len(found) >= limit else None
    if at.as_json:
        rows = [plain_letter(letter) for letter in found]
        write_json({"total": total, "next": more, "dead_letters": rows, "away": away})
        tell_missing(of.stream, away)
        return
    if found:
        show_table(
            letters_table(found, now),
            names={"TYPE": 8, "LAST ERROR": 16},
            spare=("LEVEL", "TRIES"),
        )
    remark(
        f"{len(found)} shown of {counted(total, 'dead letter')} of {of}"
        + (f"; go on with --after {more}" if more else "")
    )
    tell_missing(of.stream, away)


@app.command(
    "show",
    help="Show one dead letter: why it died, its attempts and errors."
    "\n\nThe body is shown with --body only."
    + examples(
        "streams dead show orders billing 1893456000000-0",
        "streams dead show orders billing 1893456000000-0 --body",
    ),
)
@with_options
def show(of: OneGroup, ident: LetterId, *, body: Body = False, at: OnPartition) -> None:
    """Show a dead letter."""

    async def main(pipeline: Pipeline) -> DeadLetter:
        return await (await letters_of(pipeline, of, at.partition)).show(ident)

    letter = at.ask(main)
    if at.as_json:
        write_json(plain_letter(letter, body=body))
        return
    console = stdout()
    console.print(letter_facts(letter, of.stream, of.group))
    if letter.errors:
        console.print()
        console.print(errors_table(letter.errors))
    if body:
        for name, value in letter.fields:
            console.print(f"\n[bold]{name.decode(errors='replace')}[/]")
            console.print(value.decode(errors="replace"), markup=False, soft_wrap=True)


@app.command(
    "replay",
    help="Put dead letters back on their stream."
    "\n\nNamed by id, by filters, or --all. An event keeps its id and its level, "
    "starts with a fresh count of attempts,"
    " and runs in this group only. On a terminal it asks first; elsewhere filters and "
    "--all need --yes."
    + examples(
        "streams dead replay orders billing 1893456000000-0",
        "streams dead replay orders billing --error timeout --since 2h --dry-run",
        "streams dead replay orders billing --all --rate 50 --yes",
    ),
)
@with_options
def replay(of: OneGroup, ids: Ids = None, *, filters: Filters, how: Replaying) -> None:
    """Replay dead letters."""
    where = filters.filter()
    which = choice(ids or [], where, all_of_them=how.all_of_them)
    refuse_unasked(which, yes=how.yes or how.dry_run)

    async def main(pipeline: Pipeline) -> tuple[int, int]:
        letters = await letters_of(pipeline, of, how.partition, where)
        planned = await letters.replay(which, dry_run=True, limit=how.limit)
        if how.dry_run or planned.matched == 0:
            return planned.matched, 0
        confirm(
            f"replay {counted(planned.matched, 'dead letter')} of {of}", yes=how.yes
        )
        done = await letters.replay(which, rate=how.rate, limit=how.limit)
        return done.matched, len(done.moved)

    matched, moved = how.ask(main)
    if how.as_json:
        write_json({"matched": matched, "replayed": moved, "dry_run": how.dry_run})
    elif how.dry_run:
        say(f"would replay {counted(matched, 'dead letter')} of {of}")
    else:
        gone = (
            f"; {counted(matched - moved, 'was', 'were')} gone already"
            if moved < matched
            else ""
        )
        say(f"replayed {counted(moved, 'dead letter')} of {of}{gone}")


@app.command(
    "discard",
    help="Delete dead letters for good."
    "\n\nNamed by id, by filters, or --all. Export them first if in doubt: nothing of "
    "a discarded event is kept but a"
    " line in the audit record."
    + examples(
        "streams dead discard orders billing 1893456000000-0",
        "streams dead discard orders billing --reason expired --until 7d --dry-run",
        "streams dead discard orders billing --all --yes",
    ),
)
@with_options
def discard(
    of: OneGroup, ids: Ids = None, *, filters: Filters, how: Discarding
) -> None:
    """Discard dead letters."""
    where = filters.filter()
    which = choice(ids or [], where, all_of_them=how.all_of_them)
    refuse_unasked(which, yes=how.yes or how.dry_run)

    async def main(pipeline: Pipeline) -> int:
        letters = await letters_of(pipeline, of, how.partition, where)
        planned = await letters.discard(which, dry_run=True)
        if how.dry_run or planned == 0:
            return planned
        what = counted(planned, "dead letter")
        confirm(f"delete {what} of {of} for good", yes=how.yes)
        return await letters.discard(which)

    count = how.ask(main)
    if how.as_json:
        gone = 0 if how.dry_run else count
        write_json({"discarded": gone, "matched": count, "dry_run": how.dry_run})
    else:
        verb = "would discard" if how.dry_run else "discarded"
        say(f"{verb} {counted(count, 'dead letter')} of {of}")


@app.command(
    "export",
    help="Write dead letters as JSON lines, bodies included and unmasked."
    "\n\nOne object per line: what dead show --json --body gives. To standard output, "
    "or with --output to a file that"
    " only you can read."
    + examples(
        "streams dead export orders billing --output dead.jsonl",
        "streams dead export orders billing --reason rejected | jq .errors",
    ),
)
@with_options
def export(of: OneGroup, filters: Filters, to: Exporting) -> None:
    """Export dead letters."""
    where = filters.filter()

    async def main(pipeline: Pipeline, target: TextIO) -> int:
        count = 0
        letters = await letters_of(pipeline, of, to.partition, where)
        async for letter in letters.export(where):
            target.write(as_written(orjson.dumps(letter).decode(), target) + "\n")
            count += 1
        return count

    output = to.output
    if output is None:
        to.ask(lambda pipeline: main(pipeline, sys.stdout))
        return
    try:
        # Bodies are personal: readable by their exporter only.
        output.touch(0o600)
        with output.open("w", encoding="utf-8") as target:
            count = to.ask(lambda pipeline: main(pipeline, target))
    except OSError as failure:
        raise ConfigurationError(f"--output {output}: {failure.strerror}") from None
    remark(f"exported {counted(count, 'dead letter')} to {output}")
