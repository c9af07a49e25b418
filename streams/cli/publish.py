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
    AsJson,
    Namespace,
    StreamName,
    Url,
    connected,
    examples,
    finish,
    remark,
    run,
    say,
    settings_of,
    stderr,
    write_json,
)
from streams.cli.exit_codes import Exit, exit_code
from streams.cli.lines import Line, LineRefused, Parser, line_limit, read_lines
from streams.cli.publish_options import (
    Data,
    DedupId,
    Delay,
    Expires,
    FromLine,
    Headers,
    Instance,
    Key,
    Kind,
    LinesFile,
    Priority,
    Receipts,
    Strict,
    Tenant,
    ToLine,
)
from streams.cli.publishing import PublishedLines, Publisher, ranges
from streams.errors import (
    ConfigurationError,
    MalformedEvent,
    PublishUnknown,
    StreamFull,
)
from streams.events.codec import MAX_NESTING, parse_json
from streams.events.event import Event, EventAttributes, meta_of
from streams.events.receipt import Receipt
from streams.quantities import counted, seconds_of

HELP = (
    "Publish one event, or a file of them."
    "\n\nOne event: --type and --data. Many: --file with JSON lines, - for standard input. A line is an object with"
    " type, data, and any of id, priority, key, tenant, instance, delay, dedup_id, expires, headers, subject ...; or a"
    " CloudEvents object; or, with --type, a line without type and data is a body as it stands. The other options"
    " apply to every line that does not say otherwise."
    "\n\nA malformed line is reported by its number, counted and skipped, and the command ends with 1. When the server"
    " ends it half-way, it says what is surely stored and with which --from-line to go on."
    + examples(
        "streams publish orders --type order.created --data '{\"id\": 1}' --priority 10",
        "streams publish orders --file orders.jsonl",
        "jq -c '.orders[]' dump.json | streams publish orders --file - --type order.created --tenant acme",
    )
)


def publish(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    *,
    kind: Kind = None,
    data: Data = None,
    file: LinesFile = None,
    priority: Priority = None,
    key: Key = None,
    tenant: Tenant = None,
    instance: Instance = None,
    delay: Delay = None,
    dedup_id: DedupId = None,
    expires: Expires = None,
    header: Headers = None,
    from_line: FromLine = 1,
    to_line: ToLine = None,
    strict: Strict = False,
    receipts: Receipts = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Publish; see HELP."""
    given = {
        "priority": priority,
        "key": key,
        "tenant": tenant,
        "instance": instance,
        "delay": delay,
        "dedup_id": dedup_id,
        "expires": expires,
        "headers": _headers(header or []) or None,
    }
    shared = cast(
        EventAttributes,
        {name: value for name, value in given.items() if value is not None},
    )
    meta_of(shared)  # What is wrong with an option is no fault of each line.
    if (file is None) == (data is None):
        raise ConfigurationError(
            "give either --data with one event's body, or --file with JSON lines"
        )
    parser = Parser(kind, shared, settings_of(url, namespace))
    if file is None:
        event = _event(parser, kind, data or "")
        receipt = run(lambda: _publish_one(stream, event, url, namespace))
        _show_receipt(stream, event, receipt, as_json=as_json)
        return
    with contextlib.ExitStack() as stack:
        source = _open(file, stack)
        target = (
            cast(BinaryIO, stack.enter_context(receipts.open("wb")))
            if receipts is not None
            else None
        )
        batches = _cut(
            read_lines(source, line_limit(parser.settings)), from_line, to_line
        )
        progress = _progress(
            stack, file, source, shown=not as_json and sys.stderr.isatty()
        )
        outcome = run(
            lambda: _publish_lines(
                stream, parser, batches, (target, progress), strict, url, namespace
            )
        )
    _end(outcome, as_json=as_json)


async def _publish_one(
    stream: str, event: Event[Any], url: str | None, namespace: str | None
) -> Receipt:
    async with connected(url, namespace) as pipeline:
        return await pipeline.publish(stream, event)


async def _publish_lines(  # noqa: PLR0913 - the options, handed on
    stream: str,
    parser: Parser,
    batches: Iterator[list[Line]],
    outputs: tuple[BinaryIO | None, Callable[[int], None]],
    strict: bool,  # noqa: FBT001
    url: str | None,
    namespace: str | None,
) -> PublishedLines:
    async with connected(url, namespace) as pipeline:
        target, progress = outputs
        publisher = Publisher(
            pipeline.producer(stream), parser, strict, target, progress
        )
        return await publisher.publish(batches)


def _headers(pairs: list[str]) -> dict[str, str]:
    headers = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                "--header takes NAME=VALUE, e.g. --header region=eu"
            )
        headers[name] = value
    return headers


def _event(parser: Parser, kind: str | None, data: str) -> Event[Any]:
    if kind is None:
        raise ConfigurationError("give the event's --type, e.g. --type order.created")
    try:
        body = parse_json(data.encode(), MAX_NESTING, "data")
        return parser.checked(Event(kind, body, **parser.shared))
    except (MalformedEvent, LineRefused) as error:
        raise ConfigurationError(
            f"--data: {error.detail}; quote it for the shell, e.g. --data '{{\"id\": 1}}'"
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
            f"scheduled {receipt.event_id} for {stream}, level {receipt.level}, in {seconds_of(event.delay):g} s"
        )
    else:
        where = (
            f"{stream}, partition {receipt.partition}" if receipt.partition else stream
        )
        say(
            f"published {receipt.event_id} on {where}, level {receipt.level}, entry {receipt.entry_id}"
        )


def _end(outcome: PublishedLines, *, as_json: bool) -> None:
    if as_json:
        write_json(outcome.as_dict())
    else:
        rate = outcome.published / outcome.seconds if outcome.seconds > 0 else 0
        say(
            f"published {outcome.published:,}   duplicates {outcome.duplicates:,}   refused {outcome.refused:,}   "
            f"in {outcome.seconds:.1f} s ({rate:,.0f}/s)"
        )
    if outcome.error is not None:
        remark(f"streams: {' '.join(_advice(outcome).split())}")
        finish(exit_code(outcome.error))
    if outcome.resume_line is not None:
        remark(
            f"streams: ended at line {outcome.resume_line}: mend it and go on with --from-line {outcome.resume_line}"
        )
    finish(Exit.FAILED if outcome.refused else Exit.OK)


def _advice(outcome: PublishedLines) -> str:
    facts = [
        f"{counted(outcome.published, 'event is', 'events are', form=',')} surely stored"
    ]
    if not outcome.unknown:
        facts.append(f"go on with --from-line {outcome.resume_line}")
    if outcome.not_stored:
        facts.append(f"surely not stored: {_lines(outcome.not_stored)}")
    if outcome.unknown and outcome.in_doubt is not None:
        facts.append(
            f"the answer for {_lines(outcome.unknown)} was lost: they may be stored or not. --from-line "
            f"{outcome.in_doubt[0]} publishes the doubtful lines again (safe if they have a dedup_id), --from-line "
            f"{outcome.in_doubt[1] + 1} leaves them out"
        )
    cause = str(outcome.error).rstrip(".")
    if isinstance(outcome.error, StreamFull):
        cause = f"stream {outcome.error.stream!r} is full (max_len {outcome.error.max_len}); nothing was dropped"
    if isinstance(outcome.error, PublishUnknown):
        cause = "ended half-way"
    # With partitions, what is missing lies between what is stored.
    if outcome.is_mixed:
        facts.append(
            "lines behind that are stored, too: publish again what is missing, or give events a dedup_id"
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
