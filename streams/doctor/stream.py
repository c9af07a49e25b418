"""Judge one stream. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from shlex import quote

from streams.admin.pauses import Pause
from streams.broker.admin.diagnose import (
    HOUR,
    LETTERS,
    DeadFacts,
    GroupFacts,
    StreamFacts,
)
from streams.broker.keys import RECLAIMER_SUFFIX
from streams.common.masking import masked
from streams.doctor.finding import Bounds, Finding, Severity
from streams.doctor.leftovers import judge_strays, judge_weights
from streams.quantities import counted


def _resuming(stream: str, pause: Pause) -> str:
    """The command that ends a pause."""
    options = []
    if pause.group:
        options.append(f"--group {quote(pause.group)}")
    if pause.level is not None:
        options.append(f"--level {pause.level}")
    # The value may be a telephone number, which no page shows; ``streams pause --list`` does.
    if pause.attribute:
        options.append(f"--{pause.attribute} {quote(masked(pause.value))}")

    return " ".join(["streams resume", quote(stream), *options])


def judge_stream(
    facts: StreamFacts, pauses: Sequence[Pause], now: float, bounds: Bounds
) -> Iterator[Finding]:
    """All findings about one stream; ``now`` is the server's Unix time."""
    name = facts.stream
    for key, kind, wanted in facts.types:
        what = f"{key} holds a {kind} and should hold a {wanted}"
        todo = "find out what writes it, and rename or delete the key"
        yield Finding("key-type", "critical", name, what, todo)

    yield from _levels(facts)
    for pause in pauses:
        age = now - pause.at
        reason = f": {pause.reason}" if pause.reason else ""
        todo = f"{_resuming(name, pause)}, when it may go on"
        severity: Severity = "warning" if age > bounds.paused else "info"
        what = f"{pause.scope} is paused for {_span(age)}{reason}"
        yield Finding("paused", severity, name, what, todo)

    def held(group: str, level: int) -> bool:
        return any(pause.covers(group, level) for pause in pauses)

    whole = any(pause.scope == "stream" for pause in pauses)
    due = facts.scheduled_due

    if due is not None and now - due > bounds.late and not whole:
        what = f"a scheduled event should have been put on the stream {_span(now - due)} ago"
        todo = "start a worker for this stream: it brings the scheduler"
        yield Finding("scheduled-late", "warning", name, what, todo)

    for group in facts.missing:
        what = (
            "the group is declared and gone: what others finish stays until it has read"
            " everything"
        )
        todo = (
            f"start its worker, or, if nobody needs it any more, streams groups drop {name}"
            f" {group}"
        )
        yield Finding("group-missing", "critical", f"{name}/{group}", what, todo)

    for group in sorted({row.group for row in facts.groups}):
        rows = [row for row in facts.groups if row.group == group]
        yield from _group(facts, rows, held, now, bounds)

    yield from judge_strays(facts)
    yield from judge_weights(facts, bounds)


def _levels(facts: StreamFacts) -> Iterator[Finding]:
    served = {row.level for row in facts.groups}
    for level, stored in sorted(facts.stored.items(), reverse=True):
        if stored is None:
            what = f"level {level} is listed, and its stream is not there"
            todo = "nothing, if nobody uses it any more; a worker that serves it creates it"
            yield Finding("level-gone", "info", facts.stream, what, todo)
        elif stored and level not in served:
            what = (
                f"{counted(stored, 'event waits', 'events wait')} on level {level}, and no"
                " group reads it"
            )
            todo = (
                "give workers and producers the same STREAMS_LEVELS, or start a worker"
            )
            yield Finding("level-unserved", "critical", facts.stream, what, todo)

    for level, count in sorted(facts.undeclared.items(), reverse=True):
        what = (
            f"{counted(count, 'event was', 'events were')} put on level {level}, which no"
            " producer or worker of this package declared"
        )
        wanted = ",".join(map(str, sorted({*facts.stored, level})))
        declared = ", ".join(map(str, sorted(facts.stored)))
        todo = (
            f"let that program use one of {declared}; workers started with"
            f" STREAMS_LEVELS={wanted} handle what is there"
        )
        yield Finding("level-undeclared", "critical", facts.stream, what, todo)


def _group(
    facts: StreamFacts,
    rows: list[GroupFacts],
    held: Callable[[str, int], bool],
    now: float,
    bounds: Bounds,
) -> Iterator[Finding]:
    group = rows[0].group
    where = f"{facts.stream}/{group}"
    silence: dict[str, float] = {}
    in_hand: dict[str, int] = {}

    for row in rows:
        for name, (count, silent) in row.consumers.items():
            silence[name] = min(silent, silence.get(name, silent))
            in_hand[name] = in_hand.get(name, 0) + count

    alive = [
        name
        for name, silent in silence.items()
        if silent <= bounds.silence and not _sweeps(name)
    ]
    paused = all(held(group, row.level) for row in rows)
    unread = [
        row.unread_since
        for row in rows
        if row.unread_since is not None and not held(group, row.level)
    ]
    waits = now - min(unread) if unread else 0.0
    pending = sum(row.pending for row in rows)

    if not alive and (unread or pending):
        begun = counted(pending, "was begun", "were begun")
        what = f"no consumer is alive; the oldest unread event waits for {_span(waits)}, {begun}"
        todo = (
            "start a worker; if nobody needs the group any more, streams groups drop"
            f" {facts.stream} {group}"
        )
        yield Finding("abandoned", "critical", where, what, todo)
    elif alive and waits > bounds.waiting:
        what = (
            f"the oldest unread event waits for {_span(waits)}, with"
            f" {counted(len(alive), 'consumer')} alive"
        )
        todo = "look for slow handlers in the log, raise concurrency, or start more workers"
        yield Finding("stuck", "warning", where, what, todo)

    for name, silent in silence.items():
        if alive and silent > bounds.silence and in_hand[name]:
            what = (
                f"{name} holds {counted(in_hand[name], 'entry', 'entries')} and has been"
                f" silent for {_span(silent)}"
            )
            todo = (
                "a worker's reclaimer takes them over after a lease; if that is no longer"
                " than this, look at its log"
            )
            yield Finding("dead-consumer", "warning", where, what, todo)

    due = facts.retry_due.get(group)
    if alive and due is not None and now - due > bounds.late and not paused:
        what = f"a retry is due for {_span(now - due)} and nobody takes it"
        todo = "look for blocked handlers, or start more workers"
        yield Finding("retry-late", "warning", where, what, todo)

    if group in facts.dead:
        yield _dead(facts.dead[group], facts.stream, group, now, bounds)


def _dead(
    dead: DeadFacts, stream: str, group: str, now: float, bounds: Bounds
) -> Finding:
    severity: Severity = "warning" if now - dead.newest < bounds.dead else "info"
    what = (
        f"{counted(dead.count, 'dead letter')}, the oldest {_span(now - dead.oldest)} old,"
        f" the newest {_span(now - dead.newest)}"
    )

    if dead.recent:
        # Of many letters only the newest were counted, and their rate is that of the hour.
        rate = float(dead.recent)
        if dead.recent == LETTERS:
            rate = dead.recent * HOUR / max(1.0, now - dead.since)
            what += f"; they come at {round(rate)} an hour"
        else:
            what += f"; {dead.recent} in the last hour"

        if rate >= bounds.dead_rate:
            severity = "critical"

    todo = f"streams dead ls {stream} {group}"
    return Finding("dead-letters", severity, f"{stream}/{group}", what, todo)


def _sweeps(name: str) -> bool:
    return name.endswith(RECLAIMER_SUFFIX)


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"

    return f"{whole // 3600} h" if whole < 172_800 else f"{whole // 86_400} days"
