"""``streams publish``: one event, or JSON lines from a file or standard input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from streams.cli.common import (
    StreamName,
    examples,
    finish,
    remark,
    say,
    settings_of,
    stderr,
    write_json,
)
from streams.cli.exit_codes import Exit, exit_code
from streams.cli.lines import Line, LineRefused, Parser, line_limit, read_lines
from streams.cli.options import with_options
from streams.cli.publish_options import (
    Data,
    Kind,
    LineOptions,
    LinesFile,
    SharedAttributes,
)
from streams.cli.publishing import PublishedLines, Publisher, ranges
from streams.errors import (
    ConfigurationError,
    MalformedEvent,
    PublishUnknown,
    StreamFull,
)
from streams.events.codec import MAX_NESTING, parse_json
from streams.events.event import Event
from streams.events.receipt import Receipt
from streams.pipeline import Pipeline
from streams.quantities import counted, seconds_of

HELP = (
    "Publish one event, or a file of them."
    "\n\nOne event: --type and --data. Many: --file with JSON lines, - for standard "
    "input. A line is an object with"
    " type, data, and any of id, priority, key, tenant, instance, delay, dedup_id, "
    "expires, headers, subject ...; or a"
    " CloudEvents object; or, with --type, a line without type and data is a body as "
    "it stands. The other options"
    " apply to every line that does not say otherwise."
    "\n\nA malformed line is reported by its number, counted and skipped, and the "
    "command ends with 1. When the server"
    " ends it half-way, it says what is surely stored and with which --from-line to "
    "go on."
    + examples(
        "streams publish orders --type order.created --data '{\"id\": 1}' --priority "
        "10",
        "streams publish orders --file orders.jsonl",
        "jq -c '.orders[]' dump.json | streams publish orders --file - --type "
        "order.created --tenant acme",
    )
)


@with_options
def publish(
    stream: StreamName,
    *,
    kind: Kind = None,
    data: Data = None,
    file: LinesFile = None,
    attributes: SharedAttributes,
    how: LineOptions,
) -> None:
    """Publish; see HELP."""
    shared = attributes.attributes()
    if (file is None) == (data is None):
        raise ConfigurationError(
            "give either --data with one event's body, or --file with JSON lines"
        )
    parser = Parser(kind, shared, settings_of(how.url, how.namespace))
    if file is None:
        event = _event(parser, kind, data or "")
        receipt = how.ask(lambda pipeline: pipeline.publish(stream, event))
        _show_receipt(stream, event, receipt, as_json=how.as_json)
        return
    with contextlib.ExitStack() as stack:
        source = _open(file, stack)
        target = (
            cast(BinaryIO, stack.enter_context(how.receipts.open("wb")))
            if how.receipts is not None
            else None
        )
        batches = _cut(
            read_lines(source, line_limit(parser.settings)), how.from_line, how.to_line
        )
        progress = _progress(
            stack, file, source, shown=not how.as_json and sys.stderr.isatty()
        )

        async def main(pipeline: Pipeline) -> PublishedLines:
            producer = pipeline.producer(stream)
            publisher = Publisher(producer, parser, how.strict, target, progress)
            return await publisher.publish(batches)

        outcome = how.ask(main)
    _end(outcome, as_json=how.as_json)


def _event(parser: Parser, kind: str | None, data: str) -> Event[Any]:
    if kind is None:
        raise ConfigurationError("give the event's --type, e.g. --type order.created")
    try:
        body = parse_json(data.encode(), MAX_NESTING, "data")
        return parser.checked(Event(kind, body, **parser.shared))
    except (MalformedEvent, LineRefused) as error:
        raise ConfigurationError(
            f"--data: {error.detail}; quote it for the shell, e.g. --data "
            f"'{{\"id\": 1}}'"
        ) from None


def _open(file: str, stack: contextlib.ExitStack) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return cast(BinaryIO, stack.enter_context(Path(file).open("rb")))
    except OSError as error:
        raise ConfigurationError(f"--file {file}: {error.strerror}") from None


def _cut(
    batches: Iterator[list[Line]], first: int, last: int | None
) -> Iterator[list[Line]]:
    for batch in batches:
        kept = [
            line
            for line in batch
            if line.number >= first and (last is None or line.number <= last)
        ]
        if kept:
            yield kept
        if last is not None and batch[-1].number >= last:
            return


def _progress(
    stack: contextlib.ExitStack, file: str, source: BinaryIO, *, shown: bool
) -> Callable[[int], None]:
    if not shown:
        return lambda lines: None
    size = Path(file).stat().st_size if file != "-" else None
    columns = (
        TextColumn("publishing"),
        BarColumn(),
        TextColumn("{task.fields[lines]:,} lines"),
    )
    more = (TimeRemainingColumn(),) if size else (MofNCompleteColumn(),) * 0
    bar = stack.enter_context(
        Progress(*columns, *more, console=stderr(), transient=True)
    )
    task = bar.add_task("", total=size, lines=0)

    def show(lines: int) -> None:
        bar.update(task, completed=source.tell() if size else 0, lines=lines)

    return show


def _show_receipt(
    stream: str, event: Event[Any], receipt: Receipt, *, as_json: bool
) -> None:
    if as_json:
        write_json({"stream": stream, **receipt._asdict()})
    elif receipt.duplicate:
        say(f"duplicate: {receipt.event_id} is stored already, this one is not")
    elif not receipt.entry_id:
        say(
            f"scheduled {receipt.event_id} for {stream}, level {receipt.level}, in "
            f"{seconds_of(event.delay):g} s"
        )
    else:
        where = (
            f"{stream}, partition {receipt.partition}" if receipt.partition else stream
        )
        say(
            f"published {receipt.event_id} on {where}, level {receipt.level}, entry "
            f"{receipt.entry_id}"
        )


def _end(outcome: PublishedLines, *, as_json: bool) -> None:
    if as_json:
        write_json(outcome.as_dict())
    else:
        rate = outcome.published / outcome.seconds if outcome.seconds > 0 else 0
        say(
            f"published {outcome.published:,}   duplicates {outcome.duplicates:,}   "
            f"refused {outcome.refused:,}   "
            f"in {outcome.seconds:.1f} s ({rate:,.0f}/s)"
        )
    if outcome.error is not None:
        remark(f"streams: {' '.join(_advice(outcome).split())}")
        finish(exit_code(outcome.error))
    if outcome.resume_line is not None:
        remark(
            f"streams: ended at line {outcome.resume_line}: mend it and go on with "
            f"--from-line {outcome.resume_line}"
        )
    finish(Exit.FAILED if outcome.refused else Exit.OK)


def _advice(outcome: PublishedLines) -> str:
    facts = [
        f"{counted(outcome.published, 'event is', 'events are', form=',')} surely "
        "stored"
    ]
    if not outcome.unknown:
        facts.append(f"go on with --from-line {outcome.resume_line}")
    if outcome.not_stored:
        facts.append(f"surely not stored: {_lines(outcome.not_stored)}")
    if outcome.unknown and outcome.in_doubt is not None:
        facts.append(
            f"the answer for {_lines(outcome.unknown)} was lost: they may be stored or "
            "not. --from-line "
            f"{outcome.in_doubt[0]} publishes the doubtful lines again (safe if they "
            "have a dedup_id), --from-line "
            f"{outcome.in_doubt[1] + 1} leaves them out"
        )
    cause = str(outcome.error).rstrip(".")
    if isinstance(outcome.error, StreamFull):
        full = outcome.error
        cause = (
            f"stream {full.stream!r} is full (max_len {full.max_len}); "
            "nothing was dropped"
        )
    if isinstance(outcome.error, PublishUnknown):
        cause = "ended half-way"
    # With partitions, what is missing lies between what is stored.
    if outcome.is_mixed:
        facts.append(
            "lines behind that are stored, too: publish again what is missing, or "
            "give events a dedup_id"
        )
    return f"{cause}. {'; '.join(facts)}"


def _lines(numbers: list[int]) -> str:
    """``line 7``, ``lines 3 to 9, 12``; the first ten runs of them."""
    found = ranges(numbers)
    words = [
        str(first) if first == last else f"{first} to {last}"
        for first, last in found[:10]
    ]
    more = (
        ""
        if len(found) <= 10
        else f" and {counted(len(found) - 10, 'more run')} (see --receipts)"
    )
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(words)}{more}"
