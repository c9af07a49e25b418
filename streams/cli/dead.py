"""``streams dead``: look at dead letters, replay, discard and export them."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TextIO

import orjson
import typer

from streams.admin.dead_letter import Filter
from streams.admin.letters import Replay
from streams.admin.outcomes import Outcomes
from streams.admin.partitioned import in_part
from streams.cli.common import (
    Yes,
    cell,
    check_group,
    confirm,
    examples,
    moment,
    option,
    refuse_unasked,
    remark,
    show_table,
    stdout,
    table,
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
    choice,
    letters_of,
)
from streams.cli.dead_output import letter_facts, letters_table, plain_letter
from streams.cli.encoding import as_written
from streams.cli.options import InPartition, OneGroup, OnPartition, with_options
from streams.cli.show import print_body, print_errors
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
    rate: Annotated[float | None, option("At most so many per second.", min=0.001)] = (
        None
    )
    limit: Annotated[int | None, option("At most so many.", min=1)] = None
    yes: Yes = False


@dataclass(frozen=True, kw_only=True)
class Exporting(InPartition):
    """Options of ``export``."""

    output: Annotated[
        Path | None,
        option("File to write.", dir_okay=False, show_default="standard output"),
    ] = None


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
async def ls(
    pipeline: Pipeline,
    of: OneGroup,
    filters: Filters,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="At most so many.")
    ] = 50,
    after: Annotated[str, option("Go on after this dead letter.")] = "",
    *,
    at: OnPartition,
) -> None:
    """List dead letters."""
    where = filters.filter()
    letters = await letters_of(pipeline, of, at, where)
    found, away = await in_part(letters.page(where, after=after, limit=limit))
    total, _ = await in_part(letters.count())
    more = found[-1].id if len(found) >= limit else None

    if at.as_json:
        rows = list(map(plain_letter, found))
        write_json({"total": total, "next": more, "dead_letters": rows, "away": away})
    else:
        if found:
            show_table(
                letters_table(found, pipeline.broker.clock.now()),
                names={"TYPE": 8, "LAST ERROR": 16},
                spare=("LEVEL", "TRIES"),
            )

        on = f"; go on with --after {more}" if more else ""
        remark(f"{len(found)} shown of {counted(total, 'dead letter')} of {of}{on}")

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
async def show(
    pipeline: Pipeline,
    of: OneGroup,
    ident: LetterId,
    *,
    body: Body = False,
    at: OnPartition,
) -> None:
    """Show a dead letter."""
    letter = await (await letters_of(pipeline, of, at)).show(ident)

    if at.as_json:
        write_json(plain_letter(letter, body=body))
        return

    console = stdout()
    console.print(letter_facts(letter, of.stream, of.group))
    print_errors(console, letter.errors)

    for name, value in letter.fields if body else ():
        print_body(console, name.decode(errors="replace"), value)


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
    which = _chosen(ids, filters, how)

    async def main(pipeline: Pipeline) -> Replay:
        letters = await letters_of(pipeline, of, how, where)
        planned = await letters.replay(which, dry_run=True, limit=how.limit)

        if how.dry_run or planned.matched == 0:
            return Replay(planned.matched)

        what = counted(planned.matched, "dead letter")
        confirm(f"Replay {what} of {of}?", yes=how.yes)

        return await letters.replay(which, rate=how.rate, limit=how.limit)

    done = how.ask(main)
    matched, moved = done.matched, len(done.moved)
    text = f"would replay {counted(matched, 'dead letter')} of {of}"

    if not how.dry_run:
        text = f"replayed {counted(moved, 'dead letter')} of {of}"

        if moved < matched:
            text += f"; {counted(matched - moved, 'was', 'were')} gone already"

    how.tell({"matched": matched, "replayed": moved, "dry_run": how.dry_run}, text)


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
    which = _chosen(ids, filters, how)

    async def main(pipeline: Pipeline) -> int:
        letters = await letters_of(pipeline, of, how, where)
        planned = await letters.discard(which, dry_run=True)

        if how.dry_run or planned == 0:
            return planned

        what = counted(planned, "dead letter")
        confirm(f"Delete {what} of {of} for good?", yes=how.yes)

        return await letters.discard(which)

    count = how.ask(main)
    gone = 0 if how.dry_run else count
    verb = "would discard" if how.dry_run else "discarded"
    how.tell(
        {"discarded": gone, "matched": count, "dry_run": how.dry_run},
        f"{verb} {counted(count, 'dead letter')} of {of}",
    )


def _chosen(
    ids: list[str] | None, filters: Filters, how: Discarding | Replaying
) -> Filter | list[str]:
    """Ids, or a filter, which is not acted upon without a question."""
    which = choice(ids or [], filters.filter(), all_of_them=how.all_of_them)

    if isinstance(which, Filter):
        yes = how.yes or how.dry_run
        refuse_unasked(yes=yes, instead=", or --dry-run to count first")

    return which


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

    async def main(pipeline: Pipeline, target: TextIO) -> int:
        count = 0
        where = filters.filter()
        letters = await letters_of(pipeline, of, to, where)

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


@app.command(
    "edit",
    help="Put one dead letter back with another body."
    "\n\nThe rest of the event stays, its id too. The body comes from --data, or from "
    "standard input; it has to be JSON"
    " unless the event's media type says otherwise. dead show --body prints the "
    "present one."
    + examples(
        "streams dead edit orders billing 1893456000000-0 --data '{\"id\": 1}'",
        "streams dead edit orders billing 1893456000000-0 < mended.json",
    ),
)
@with_options
def edit(
    of: OneGroup,
    ident: LetterId,
    *,
    data: Annotated[
        str | None,
        option("The body.", metavar="TEXT", show_default="standard input"),
    ] = None,
    at: OnPartition,
) -> None:
    """Edit and replay a dead letter."""
    text = sys.stdin.read() if data is None else data

    async def main(pipeline: Pipeline) -> str:
        letters = await letters_of(pipeline, of, at)
        letter = await letters.show(ident)

        try:
            body = orjson.loads(text) if letter.is_json else text
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(f"the body is no JSON: {error}") from None

        return await letters.replay_edited(ident, body)

    place = at.ask(main)
    at.tell(
        {"replayed": ident, "entry": place},
        f"replayed {ident} with another body: it is {place} of {of.stream}",
    )


@app.command(
    "replays",
    help="Show what became of the dead letters that were put back."
    "\n\nOne line for each replay, the latest first. What ended was handled or "
    "cancelled: nothing of it is kept."
    " Of one with more than 500 events, what became of the first 500 is told."
    + examples(
        "streams dead replays orders billing",
        "streams dead replays orders billing --json",
    ),
)
@with_options
async def replays(
    pipeline: Pipeline,
    of: OneGroup,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 10,
    at: OnPartition,
) -> None:
    """Show replays."""
    await check_group(pipeline, of.stream, of.group, at.partition)
    outcomes = Outcomes(pipeline, of.stream)
    found = await outcomes.replays(of.group, limit, at.partition)

    if at.as_json:
        write_json({"replays": [asdict(row) | {"now": dict(row.now)} for row in found]})
        return

    counted_now = {
        "ended": ">ENDED",
        "waiting": ">WAITING",
        "processing": ">PROCESSING",
        "retrying": ">RETRYING",
        "dead": ">DEAD AGAIN",
    }

    rows = (
        (
            moment(row.at),
            cell(row.by),
            str(row.count),
            *(str(row.now[name]) for name in counted_now),
        )
        for row in found
    )

    titles = counted_now.values()
    stdout().print(table("AT", "BY", ">PUT BACK", *titles, rows=rows))
