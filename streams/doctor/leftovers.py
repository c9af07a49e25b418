"""Judge strays, losses, and memory that holds little content. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from streams.broker.admin.diagnose import StreamFacts
from streams.broker.admin.strays import Strays, Unreadable
from streams.broker.admin.watermarks import Losses, told
from streams.common.masking import masked
from streams.doctor.finding import Bounds, Finding
from streams.quantities import counted

_PER_ENTRY = 100
"""Bytes that the server takes, roughly, for an entry beside its content, and for a pending row."""


def judge_strays(facts: StreamFacts) -> Iterator[Finding]:
    """Entries that lost a row that they need, and rows that lost their entry."""
    mend = f"streams doctor --repair --stream {facts.stream}"
    for group, strays in sorted(facts.strays.items()):
        where = f"{facts.stream}/{group}" if group else facts.stream
        yield from _of_entries(strays, where, mend)
        if rows := facts.unreadable.get(group):
            yield _of_unreadable(rows, where, mend)

        if strays.orphaned:
            example = facts.orphans.get(group, "")
            yield _of_orphans(strays.orphaned, example, where, mend)

        if strays.scheduled_empty:
            what = (
                f"{counted(strays.scheduled_empty, 'scheduled event')}: the due time is"
                " there and the event is gone"
            )
            yield Finding(
                "scheduled-empty",
                "warning",
                where,
                what,
                f"{mend} removes the due times; publish again",
            )

        if strays.scheduled_stranded:
            what = (
                f"{counted(strays.scheduled_stranded, 'scheduled event')} without a due"
                " time: never published"
            )
            todo = (
                "decide: ZADD the field of …:scheduled-fields to …:scheduled with a due"
                " time in ms, or HDEL it"
            )
            yield Finding("scheduled-stranded", "warning", where, what, todo)

    for permission in sorted(facts.denied):
        what = "looked at in part: the server does not let this user ask"
        yield Finding(
            "part",
            "unknown",
            facts.stream,
            what,
            f"give the user the permission {permission} to know",
        )


def judge_losses(stream: str, losses: Losses) -> Iterator[Finding]:
    """Entries that the server had acknowledged and lost, until an operator dismisses the loss."""
    if losses:
        noticed = max(loss.at for loss in losses.values())
        when = (
            f", noticed {datetime.fromtimestamp(noticed, UTC):%Y-%m-%d %H:%M:%S} UTC"
            if noticed
            else ""
        )
        what = f"the server has lost what it had acknowledged{when}: {told(losses)}"
        todo = (
            "look at the server's log and files (docs/operations.md); publish again what"
            " is missing;"
            f" streams doctor --repair --stream {stream} then takes this off"
        )
        yield Finding("lost", "critical", stream, what, todo)


def _of_unreadable(rows: list[Unreadable], where: str, mend: str) -> Finding:
    """Rows that another program wrote."""
    said = (
        f"{row.count} in {row.what} ({masked(row.example.decode(errors='replace'), 40)!r})"
        for row in rows
    )
    number = sum(row.count for row in rows)
    what = f"{counted(number, 'row')} that cannot be read: {', '.join(said)}"
    todo = (
        f"find out what writes there; {mend} drops them, and no entry is lost with one; the"
        " others go on meanwhile"
    )

    return Finding("unreadable-rows", "warning", where, what, todo)


def _of_orphans(number: int, example: str, where: str, mend: str) -> Finding:
    """Entries that are pending with no consumer."""
    what = (
        f"{counted(number, 'event')} delivered and stored, and with no consumer ({example} is one):"
        " somebody deleted a consumer, acknowledged by hand, or moved the group on"
    )
    todo = f"{mend} makes them due now, as long as nobody has handled them elsewhere"
    return Finding("orphaned", "warning", where, what, todo)


def _of_entries(strays: Strays, where: str, mend: str) -> Iterator[Finding]:
    if strays.payloads_gone:
        what = (
            f"{counted(strays.payloads_gone, 'entry', 'entries')} pending, but deleted from"
            " the stream: lost"
        )
        todo = f"find out who deletes (XDEL, XTRIM, MAXLEN); {mend} takes them off the pending list"
        yield Finding("payload-gone", "warning", where, what, todo)

    if strays.due_times_lost:
        what = (
            f"{counted(strays.due_times_lost, 'retry', 'retries')} without a due time: no"
            " worker takes them"
        )
        yield Finding(
            "retry-lost",
            "warning",
            where,
            what,
            f"{mend} makes them due now; a running reclaimer does too",
        )

    if strays.due_times_stray or strays.records_stray:
        rows = counted(strays.due_times_stray, "due time")
        records = counted(strays.records_stray, "attempt record")
        what = f"{rows} and {records} of entries that are not pending"
        yield Finding("stray-rows", "info", where, what, f"{mend} removes them")


def judge_weights(facts: StreamFacts, bounds: Bounds) -> Iterator[Finding]:
    """Levels that take many times their content.

    The server frees a node of entries only when all of them are gone.
    """
    for level, weight in sorted(facts.weights.items(), reverse=True):
        stored = facts.stored.get(level) or 0
        pending = sum(row.pending for row in facts.groups if row.level == level)
        due = stored * (weight.content + _PER_ENTRY) + pending * _PER_ENTRY

        if weight.bytes > bounds.small and weight.bytes > bounds.waste * due:
            what = (
                f"level {level} takes {weight.bytes / 2**20:.1f} MiB for"
                f" {counted(stored, 'entry', 'entries')},"
                f" {weight.bytes / due:.0f} times their content: few old entries keep"
                " half-empty nodes"
            )
            todo = (
                "finish what is oldest: look for retries that wait long and for a group"
                " that is behind (streams ls"
                f" {facts.stream})"
            )
            yield Finding("half-empty", "info", facts.stream, what, todo)
