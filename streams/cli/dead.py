"""``streams dead``: look at dead letters, replay, discard and export them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TextIO

import orjson
import typer

from streams.admin.dead_letter import DeadLetter, Filter
from streams.admin.dead_letters import check_reason
from streams.admin.partitioned import in_part
from streams.cli.common import (
    AsJson,
    GroupName,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    check_group,
    connected,
    examples,
    finish,
    person,
    remark,
    run,
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
    Error,
    EventId,
    Ids,
    LetterId,
    Level,
    Reason,
    Since,
    Tenant,
    Text,
    Type,
    Until,
    Yes,
    choice,
    filter_of,
)
from streams.cli.dead_output import letter_facts, letters_table, plain_letter
from streams.cli.encoding import as_written
from streams.cli.exit_codes import Exit
from streams.cli.show import errors_table
from streams.errors import ConfigurationError
from streams.quantities import counted

app = typer.Typer(
    help="Look at dead letters, replay, discard and export them."
    "\n\nA dead letter is an event that used up its retries, or can never succeed. It waits here until somebody"
    " replays or discards it; both are written to the stream's audit record, with your name."
    + examples(
        "streams dead ls orders billing --since 2h",
        "streams dead replay orders billing --reason retries-used-up --rate 50",
        "streams dead export orders billing --output dead.jsonl",
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
)


@app.command(
    "ls",
    help="List dead letters, oldest first."
    "\n\nWhat is not given does not narrow. The bodies are not shown and long numbers are masked; go on with --after."
    + examples(
        "streams dead ls orders billing",
        "streams dead ls orders billing --reason rejected --tenant acme --since 24h",
        "streams dead ls orders billing --error timeout --json | jq -r '.dead_letters[].id'",
    ),
)
def ls(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    *,
    type: Type = None,
    reason: Reason = None,
    error: Error = None,
    event_id: EventId = None,
    tenant: Tenant = None,
    level: Level = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="At most so many.")
    ] = 50,
    after: Annotated[
        str, typer.Option(help="Go on after this dead letter.", show_default=False)
    ] = "",
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List dead letters."""
    where = filter_of(type, reason, error, event_id, tenant, level, since, until, text)

    async def main() -> tuple[list[DeadLetter], int, float, tuple[str, ...]]:
        async with connected(url, namespace) as pipeline:
            await check_group(pipeline, stream, group, partition)
            letters = pipeline.dead_letters(stream, group, partition=partition)
            await check_reason(letters, where)
            found, away = await in_part(letters.page(where, after=after, limit=limit))
            total, _ = await in_part(letters.count())
            return found, total, pipeline.broker.clock.now(), away

    found, total, now, away = run(main)
    more = found[-1].id if len(found) >= limit else None
    if as_json:
        rows = [plain_letter(letter) for letter in found]
        write_json({"total": total, "next": more, "dead_letters": rows, "away": away})
        tell_missing(stream, away)
        return
    if found:
        show_table(
            letters_table(found, now),
            names={"TYPE": 8, "LAST ERROR": 16},
            spare=("LEVEL", "TRIES"),
        )
    remark(
        f"{len(found)} shown of {counted(total, 'dead letter')} of {stream}/{group}"
        + (f"; go on with --after {more}" if more else "")
    )
    tell_missing(stream, away)


@app.command(
    "show",
    help="Show one dead letter: why it died, its attempts and errors."
    "\n\nThe body is shown with --body only."
    + examples(
        "streams dead show orders billing 1893456000000-0",
        "streams dead show orders billing 1893456000000-0 --body",
    ),
)
def show(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    ident: LetterId,
    *,
    body: Body = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show a dead letter."""

    async def main() -> DeadLetter:
        async with connected(url, namespace) as pipeline:
            await check_group(pipeline, stream, group, partition)
            return await pipeline.dead_letters(stream, group, partition=partition).show(
                ident
            )

    letter = run(main)
    if as_json:
        write_json(plain_letter(letter, body=body))
        return
    console = stdout()
    console.print(letter_facts(letter, stream, group))
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
    "\n\nNamed by id, by filters, or --all. An event keeps its id and its level, starts with a fresh count of attempts,"
    " and runs in this group only. On a terminal it asks first; elsewhere filters and --all need --yes."
    + examples(
        "streams dead replay orders billing 1893456000000-0",
        "streams dead replay orders billing --error timeout --since 2h --dry-run",
        "streams dead replay orders billing --all --rate 50 --yes",
    ),
)
def replay(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    ids: Ids = None,
    *,
    type: Type = None,
    reason: Reason = None,
    error: Error = None,
    event_id: EventId = None,
    tenant: Tenant = None,
    level: Level = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    all_of_them: All = False,
    dry_run: DryRun = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="At most so many per second.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", show_default=False)
    ] = None,
    yes: Yes = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Replay dead letters."""
    where = filter_of(type, reason, error, event_id, tenant, level, since, until, text)
    which = choice(ids or [], where, all_of_them=all_of_them)
    _refuse_unasked(which, yes=yes or dry_run)

    async def main() -> tuple[int, int]:
        async with connected(url, namespace) as pipeline:
            await check_group(pipeline, stream, group, partition)
            letters = pipeline.dead_letters(
                stream, group, by=person(), partition=partition
            )
            await check_reason(letters, where)
            planned = await letters.replay(which, dry_run=True, limit=limit)
            if dry_run or planned.matched == 0:
                return planned.matched, 0
            _confirm(
                f"replay {counted(planned.matched, 'dead letter')} of {stream}/{group}",
                yes=yes,
            )
            done = await letters.replay(which, rate=rate, limit=limit)
            return done.matched, len(done.moved)

    matched, moved = run(main)
    if as_json:
        write_json({"matched": matched, "replayed": moved, "dry_run": dry_run})
    elif dry_run:
        say(f"would replay {counted(matched, 'dead letter')} of {stream}/{group}")
    else:
        gone = (
            f"; {counted(matched - moved, 'was', 'were')} gone already"
            if moved < matched
            else ""
        )
        say(f"replayed {counted(moved, 'dead letter')} of {stream}/{group}{gone}")


@app.command(
    "discard",
    help="Delete dead letters for good."
    "\n\nNamed by id, by filters, or --all. Export them first if in doubt: nothing of a discarded event is kept but a"
    " line in the audit record."
    + examples(
        "streams dead discard orders billing 1893456000000-0",
        "streams dead discard orders billing --reason expired --until 7d --dry-run",
        "streams dead discard orders billing --all --yes",
    ),
)
def discard(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    ids: Ids = None,
    *,
    type: Type = None,
    reason: Reason = None,
    error: Error = None,
    event_id: EventId = None,
    tenant: Tenant = None,
    level: Level = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    all_of_them: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Discard dead letters."""
    where = filter_of(type, reason, error, event_id, tenant, level, since, until, text)
    which = choice(ids or [], where, all_of_them=all_of_them)
    _refuse_unasked(which, yes=yes or dry_run)

    async def main() -> int:
        async with connected(url, namespace) as pipeline:
            await check_group(pipeline, stream, group, partition)
            letters = pipeline.dead_letters(
                stream, group, by=person(), partition=partition
            )
            await check_reason(letters, where)
            planned = await letters.discard(which, dry_run=True)
            if dry_run or planned == 0:
                return planned
            _confirm(
                f"delete {counted(planned, 'dead letter')} of {stream}/{group} for good",
                yes=yes,
            )
            return await letters.discard(which)

    count = run(main)
    if as_json:
        write_json(
            {"discarded": 0 if dry_run else count, "matched": count, "dry_run": dry_run}
        )
    else:
        say(
            f"{'would discard' if dry_run else 'discarded'} {counted(count, 'dead letter')} of {stream}/{group}"
        )


@app.command(
    "export",
    help="Write dead letters as JSON lines, bodies included and unmasked."
    "\n\nOne object per line: what dead show --json --body gives. To standard output, or with --output to a file that"
    " only you can read."
    + examples(
        "streams dead export orders billing --output dead.jsonl",
        "streams dead export orders billing --reason rejected | jq .errors",
    ),
)
def export(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    *,
    type: Type = None,
    reason: Reason = None,
    error: Error = None,
    event_id: EventId = None,
    tenant: Tenant = None,
    level: Level = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    output: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="File to write.", show_default="standard output"
        ),
    ] = None,
    partition: PartitionNumber = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Export dead letters."""
    where = filter_of(type, reason, error, event_id, tenant, level, since, until, text)

    async def main(target: TextIO) -> int:
        count = 0
        async with connected(url, namespace) as pipeline:
            await check_group(pipeline, stream, group, partition)
            letters = pipeline.dead_letters(stream, group, partition=partition)
            await check_reason(letters, where)
            async for letter in letters.export(where):
                target.write(as_written(orjson.dumps(letter).decode(), target) + "\n")
                count += 1
        return count

    if output is None:
        run(lambda: main(sys.stdout))
        return
    try:
        # Bodies are personal: readable by their exporter only.
        output.touch(0o600)
        with output.open("w", encoding="utf-8") as target:
            count = run(lambda: main(target))
    except OSError as failure:
        raise ConfigurationError(f"--output {output}: {failure.strerror}") from None
    remark(f"exported {counted(count, 'dead letter')} to {output}")


def _refuse_unasked(which: Filter | list[str], *, yes: bool) -> None:
    if isinstance(which, Filter) and not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "there is no terminal to ask at: give --yes, or --dry-run to count first"
        )


def _confirm(what: str, *, yes: bool) -> None:
    if yes or not sys.stdin.isatty():
        return
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        remark("nothing was changed")
        finish(Exit.FAILED)
