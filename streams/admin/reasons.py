"""Judging why an event waits. Pure: what is known goes in, one reason comes out.

Each kind of reason is one small function, and they are asked in order: what holds an
entry back whatever workers do comes before what workers have not come to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from streams.admin.pauses import Pause, read_pause
from streams.admin.reason import Case, Reason, event_id, ident, moment, most
from streams.broker.admin.pauses import StoredPause
from streams.broker.admin.wait_facts import Queue, attributes
from streams.broker.admin.workers import HEARD, LEASE, WorkerFacts
from streams.broker.keys import RECLAIMER_SUFFIX
from streams.broker.server.stored import entry_place, json_object, real
from streams.common.masking import masked
from streams.errors import EventError
from streams.events.codec import decode
from streams.policy.admission import Kind
from streams.quantities import counted

_DEFECT = "this is a defect of the pipeline; please report it with this output"
_OVER: Mapping[str, str] = {
    "done": "this group is done with it",
    "dead": "it is a dead letter: it waits for an operator, who replays or discards it",
    "unknown": "there is no trace of it: it was never published here, or it was handled",
}
_GONE = "somebody deleted its entry from the stream: streams doctor --repair ends it"
_LATER_GONE = (
    "its due time is there, its fields are gone or cannot be read: "
    "streams doctor --repair removes it"
)


def judge(case: Case) -> Reason:
    """The first reason that applies."""
    return next(filter(None, (ask(case) for ask in _JUDGES[case.found.state])))


def head_of(case: Case) -> str:
    """``level|entry id`` of the living event that an entry waits for; '' for none."""
    head = case.wait.head or ""
    is_other = head != case.wait.member and entry_place(head.encode())

    return head if is_other and case.found.state in ("pending", "retrying") else ""


# --- what is over, or cannot go on


def _orphaned(case: Case) -> Reason | None:
    return case.say(
        "orphaned",
        "it was given to a worker, is stored, and is with none any more: a consumer "
        "was deleted, or the entry acknowledged, by hand. A worker that still runs it "
        "puts it back within a lease; else this makes it due, once "
        "it is older than 90 s: {repair}",
        repair=f"streams doctor --repair --stream {case.scene.stream}",
    )


def _over(case: Case) -> Reason | None:
    return case.say(case.found.state, _OVER[case.found.state])


def _unreadable(case: Case) -> Reason | None:
    if not case.found.fields:
        what = _LATER_GONE if case.found.state == "scheduled" else _GONE
        return case.say("unreadable", what, error="payload-gone")

    try:
        decode(case.found.fields)
    except EventError as error:
        return case.say(
            "unreadable",
            "it cannot be read as an event: a worker makes it a dead letter when it "
            "comes to it ({why})",
            {"why": masked(str(error))},
            error=str(getattr(error, "reason", type(error).__name__)),
        )

    return None


# --- what is with a worker


def _lost_lease(case: Case) -> Reason | None:
    name, workers = case.found.consumer, case.scene.workers
    longest = max((worker.lease for worker in workers), default=LEASE)
    lease = case.holder.lease if case.holder else longest
    silent = case.found.silent or 0.0
    if silent <= lease * 2 / 3:  # It is renewed every third of a lease.
        return None

    left = max(0.0, lease - silent)
    state, then = "lost-lease", ": another worker takes it over at any moment"
    if not any(worker.name != name for worker in case.alive):
        state = "no-worker"
        then = ", and no worker of the group is there to take it over"
    elif left:
        then = ": another worker takes it over in {left:span}"

    return case.say(
        state,
        "it is with {worker}, which has not renewed its lease for {silent:span}" + then,
        {"left": left},
        worker=name,
        silent=round(silent, 1),
        until=round(case.scene.now + left, 3),
    )


def _in_hand(case: Case) -> Reason | None:
    worker, silent = case.holder, round(case.found.silent or 0.0, 1)
    facts: dict[str, Any] = {"worker": case.found.consumer, "silent": silent}
    state = "running"
    what = "it is running with {worker} (nothing was heard of that for {silent:span})"

    if case.found.consumer.endswith(RECLAIMER_SUFFIX):
        state = "reserved"
        what = (
            "{worker} took it over from a silent worker and decides whether it is tried "
            "again"
        )
    elif worker and case.wait.member in worker.runs:
        facts["since"] = worker.runs[case.wait.member]
        what = (
            "it has been running with {worker} since {since:moment} at the latest "
            "(its lease was renewed {silent:span} ago)"
        )
    elif worker and worker.runs_all and worker.said_at > case.scene.now - silent:
        # The later note of the worker tells that no handler has it.
        state, what = "reserved", "it is with {worker} and about to start"

    return case.say(state, what, **facts)


def _handed_a_slot(case: Case) -> Reason | None:
    # Where no worker comes for it in time, it is judged as any other.
    is_early = case.scene.now - case.since <= case.patience
    if not case.wait.has_slot or not case.is_due or not is_early:
        return None

    return case.say(
        "reserved", "a slot was handed to it, and the next worker that looks starts it"
    )


# --- what waits for another event of its key


def _key_held(case: Case) -> Reason | None:
    head = case.wait.head or ""
    if not head.startswith("held "):
        return None

    _, at, place, dead, *_ = [*head.split(" ", 3), "", "", ""]
    if dead == (event_id(case.found) or case.wait.member) and not case.found.deliveries:
        # Its own replay goes before all that waits. An entry that was queued before the
        # death does not.
        return None

    return case.say(
        "key-held",
        "its key {key} is held since {since:moment}, because the event {by} died; "
        "release or skip it: streams keys ls {stream} {group}",
        key=masked(case.wait.order_key or ""),
        by=ident(dead),
        entry=place,
        since=real(at) / 1000,
        behind=case.wait.behind,
    )


def _key_busy(case: Case) -> Reason | None:
    head, behind = head_of(case), case.wait.behind + 1
    if not head:
        return None

    return case.say(
        "key-busy",
        "events of its key {key} run one after the other, and {count} before it; "
        "{by} is first",
        {"count": counted(behind, "is", "are")},
        key=masked(case.wait.order_key or ""),
        by=head,
        behind=behind,
    )


# --- what waits for its time, a pause or a limit


def _put_aside(case: Case) -> Reason | None:
    """Deferred for a pause of an attribute, or of a circuit breaker, that goes on."""
    scope = case.found.admission.scope if case.found.admission else ""
    for stored in case.scene.pauses:
        if scope and read_pause(stored).scope == scope:
            return _of_pause(case, stored)

    return None


def _paused(case: Case) -> Reason | None:
    is_queued = case.wait.queue is not None and case.found.state != "scheduled"
    if not case.is_due and not is_queued:
        return None

    for stored in case.scene.pauses:
        if _covers(case, read_pause(stored)):
            return _of_pause(case, stored)

    return None


def _slot(case: Case) -> Reason | None:
    queue = case.wait.queue
    # One that waits for a slot no more is judged as any other.
    if queue is None or (queue.taken < queue.concurrency and not queue.rank):
        return None

    limit, _, key = queue.name.partition("=")
    taken = "{taken} run"
    if queue.concurrency == 1:
        taken = f"{counted(queue.taken, 'has', 'have')} its slot"

    return case.say(
        "limit",
        "the limit {limit} runs {concurrency} at a time for {key}, "
        + taken
        + "{names}, and {behind} wait before it",
        {"taken": queue.taken, "names": _of_holders(queue)},
        limit=masked(limit),
        key=masked(key),
        concurrency=queue.concurrency,
        behind=queue.rank,
        holders=[asdict(holder) for holder in queue.holders],
    )


def _throttled(case: Case) -> Reason | None:
    if case.is_due or case.found.admission is None:
        return None

    reserved = case.found.admission.limits
    throttled = case.wait.throttled
    under = [name for name in throttled if name.partition("=")[0] in reserved]
    if not under:
        return None

    name = max(under, key=throttled.__getitem__)
    limit, _, key = name.partition("=")

    return case.say(
        "throttled",
        "the limit {limit} is throttled for {key} until {until:moment}; "
        "its own place is at {next:moment}",
        limit=masked(limit),
        key=masked(key),
        until=throttled[name],
        next=case.found.due,
    )


def _rate(case: Case) -> Reason | None:
    said = case.found.admission
    if case.is_due or said is None or said.kind is not Kind.RATE:
        return None

    return case.say(
        "rate",
        "the rate of the limit {limit} lets it start at {until:moment}",
        limit=masked(said.by.partition("=")[0]),
        until=case.found.due,
    )


def _not_due(case: Case) -> Reason | None:
    due, record = case.found.due, case.record
    if case.is_due or case.wait.queue is not None:
        return None
    if case.found.state == "scheduled":
        return case.say("scheduled", "it is scheduled for {until:moment}", until=due)
    if not record.attempts:
        return case.say("snoozed", "it was put off until {until:moment}", until=due)

    last = record.errors[-1] if record.errors else {}
    error = masked(f"{last.get('type', '')}: {last.get('message', '')}".strip(": "))

    return case.say(
        "retry",
        "it is tried again at {until:moment}, after {count}"
        + ("; the last error: {error}" if error else ""),
        {"count": counted(record.attempts, "attempt")},
        until=due,
        attempts=record.attempts,
        error=error,
    )


# --- what waits for a worker


def _no_worker(case: Case) -> Reason | None:
    if case.alive:
        return None

    what = f"no worker serves the {'group' if case.scene.group else 'stream'}"
    last = max(case.scene.workers, key=lambda worker: worker.said_at, default=None)
    if last is None or not last.said_at:
        return case.say("no-worker", what + ": start one")

    return case.say(
        "no-worker",
        what + "; the last one, {worker}, was heard of at {since:moment}: start one",
        worker=last.name,
        since=last.said_at,
    )


def _level_unserved(case: Case) -> Reason | None:
    if case.serving:
        return None

    levels = {level for worker in case.alive for level in worker.levels}
    served = sorted(levels, reverse=True)

    return case.say(
        "level-unserved",
        "no worker of the group reads level {level}; they read {read}: "
        "give a worker this level (STREAMS_LEVELS, or --levels)",
        {
            "level": case.found.level,
            "read": ", ".join(map(str, served)) or "none",
        },
        levels=served,
        workers=_names(case.alive),
    )


def _suspect(case: Case) -> Reason | None:
    stalls = case.record.stalls
    if not case.record.suspect:
        return None

    return case.say(
        "suspect",
        "{count} died or went silent while it was there, and one more is its last: "
        "a worker runs it when nothing else of its process runs, and it waits for "
        "that since {since:moment}",
        {"count": counted(stalls, "worker")},
        since=case.since,
        stalls=stalls,
        workers=_names(case.serving),
    )


def _turn(case: Case) -> Reason | None:
    ahead, above, turns = case.wait.ahead, _above(case), case.wait.turns
    if not ahead + above:
        return None

    before = [f"{most(ahead)} of its level"] if ahead else []
    before += [f"{most(above)} of higher levels"] if above else []
    more = []
    if turns:
        keys = counted(turns, "other key takes", "other keys take")
        more.append(f"; {keys} turns with its own")

    is_full = all(worker.is_full for worker in case.serving)
    if is_full:
        more.append(f"; {_why_full(case)}")

    return case.say(
        "turn",
        "it waits for its turn behind {before}{more}",
        {"before": " and ".join(before), "more": "".join(more)},
        behind=ahead + above,
        level=ahead,
        above=above,
        keys=turns,
        busy=is_full,
    )


def _isolated(case: Case) -> Reason | None:
    """Workers that could take it are kept free for a suspect, and the others are full."""
    kept = _kept(case)
    if not kept or not case.is_full:
        return None

    return case.say(
        "isolated",
        "it waits: {why}",
        {"why": _why_full(case)},
        by=ident(kept[0].kept_for),
        workers=_names(case.serving),
    )


def _busy(case: Case) -> Reason | None:
    if not case.is_full:
        return None

    words = {"why": _why_full(case)}
    names = _names(case.serving)
    starts = [at for worker in case.serving for at in worker.runs.values()]
    if not starts:
        return case.say("busy", "{why}", words, workers=names)

    return case.say(
        "busy",
        "{why}; the longest runs since {since:moment} at the latest",
        words,
        workers=names,
        since=min(starts),
    )


def _next_in_queue(case: Case) -> Reason | None:
    """First of its queue, with a slot that is free: a sweep hands it over, if there are sweeps."""
    queue = case.wait.queue
    if queue is None or case.is_due:
        return None  # Due, it asks by itself.

    looked = max(case.scene.swept_at, queue.joined)
    if case.scene.now - looked <= HEARD:
        return case.say(
            "starting",
            "a slot of its limit is free, and it is the first of the queue: the next "
            "sweep hands it over",
            until=round(looked + HEARD, 3),
        )

    return case.say(
        "none",
        "a slot of its limit is free, it is the first of the queue, and no worker "
        "swept since {since:moment}: " + _DEFECT,
        since=looked,
        workers=_names(case.serving),
    )


def _starting(case: Case) -> Reason | None:
    waited = case.scene.now - case.since
    if waited > case.patience:
        return None

    what = "it can run since {waited:span}: a worker takes it at any moment"

    return case.say("starting", what, {"waited": waited})


def _unheard(case: Case) -> Reason | None:
    """No worker was heard of since the event could run.

    The worker may be gone, which counts only after a while.
    """
    last = min(case.serving, key=lambda worker: worker.heard, default=None)
    if last is None or last.heard <= case.scene.now - case.since:
        return None

    return case.say(
        "no-worker",
        "{worker} could take it, and was last heard of {heard:span} ago, "
        "before it could run: it may have "
        f"ended (a worker that is silent for {HEARD:g} s counts as gone)",
        {"heard": last.heard},
        worker=last.name,
        since=round(case.scene.now - last.heard, 3),
    )


def _none(case: Case) -> Reason | None:
    names = _names(case.serving)
    return case.say(
        "none",
        "nothing holds it, {who} could take it, and it waits since {since:moment}: "
        + _DEFECT,
        {"who": ", ".join(names) or "the scheduler of a worker"},
        since=case.since,
        workers=names,
    )


# --- words


def _names(workers: list[WorkerFacts]) -> list[str]:
    return [worker.name for worker in workers]


def _kept(case: Case) -> list[WorkerFacts]:
    """The workers that are kept free for a suspect, of those that read its level."""
    return [worker for worker in case.serving if worker.kept_for]


def _why_full(case: Case) -> str:
    """Why no worker that reads its level can start anything."""
    kept = _kept(case)
    others = len(case.serving) - len(kept)
    busy = f"every handler of {counted(others, 'worker')} is busy"
    if not kept:
        return busy

    suspect, worker = ident(kept[0].kept_for), kept[0].name
    why = (
        f"while {suspect}, which was with a worker when that died, "
        f"runs alone in {worker}, nothing else of that process starts"
    )

    if len(kept) > 1:
        why += f" (and so in {len(kept) - 1} more)"

    return f"{why}; {busy}" if others else why


def _covers(case: Case, pause: Pause) -> bool:
    """Whether a pause holds this entry, by where it is or by an attribute of its event."""
    level, group = case.found.level, case.scene.group
    if level is not None and pause.covers(group, level):
        return True
    if not pause.attribute or pause.group not in ("", group):
        return False

    value = attributes(case.found.fields).get(pause.attribute)

    return case.found.state != "scheduled" and value == pause.value


def _of_pause(case: Case, stored: StoredPause) -> Reason:
    pause = read_pause(stored)
    by, reason = masked(pause.by), masked(pause.reason)
    facts: dict[str, Any] = {
        "scope": masked(pause.scope),
        "kind": _kind(pause),
        "by": by,
        "since": pause.at,
        "reason": reason,
    }

    who, then = by or "somebody", ""

    if probe := real((json_object(stored[1]) or {}).get("probe")):
        # A circuit breaker lets an event through; no person does.
        facts |= {"kind": "breaker", "until": probe / 1000}
        who = f"the circuit breaker {by}"
        then = "; one event is let through as a probe at {until:moment}"

    why = f": {reason}" if reason else ""
    what = "{scope} is paused by {who} since {since:moment}{why}"

    return case.say("paused", what + then, {"who": who, "why": why}, **facts)


def _kind(pause: Pause) -> str:
    if pause.attribute:
        return "attribute"
    if pause.level is not None:
        return "level"

    return "group" if pause.group else "stream"


def _of_holders(queue: Queue) -> str:
    names = []
    for holder in queue.holders[:3]:
        worker = f" with {holder.worker}" if holder.worker else ""
        names.append(f"{holder.entry}{worker} since {moment(holder.since)}")

    more = f" and {queue.taken - 3} more" if queue.taken > 3 else ""

    return f" ({', '.join(names)}{more})" if names else ""


def _above(case: Case) -> int:
    """How many wait on higher levels that its workers read, and that are not paused."""
    pauses = [read_pause(stored) for stored in case.scene.pauses]
    read = {level for worker in case.serving for level in worker.levels}
    waiting = 0

    for level, facts in case.scene.levels.items():
        is_held = any(pause.covers(case.scene.group, level) for pause in pauses)
        if level > (case.found.level or 0) and level in read and not is_held:
            waiting += (facts.unread or 0) + facts.lined_up

    return waiting


_JUDGES: Mapping[str, Sequence[Callable[[Case], Reason | None]]] = {
    "orphaned": (_orphaned,),
    **dict.fromkeys(_OVER, (_over,)),
    "processing": (_unreadable, _lost_lease, _in_hand),
    "pending": (
        *(_unreadable, _key_held, _key_busy, _put_aside, _paused, _not_due),
        *(_no_worker, _level_unserved, _turn, _isolated, _busy),
        *(_next_in_queue, _starting, _unheard, _none),
    ),
    "retrying": (
        *(_unreadable, _handed_a_slot, _key_held, _key_busy, _put_aside, _paused),
        *(_slot, _throttled, _rate, _not_due),
        *(_no_worker, _level_unserved, _suspect, _isolated, _busy),
        *(_next_in_queue, _starting, _unheard, _none),
    ),
    "scheduled": (
        *(_unreadable, _paused, _not_due, _no_worker),
        *(_starting, _unheard, _none),
    ),
}
"""By the state of an entry: the questions about it, in their order."""
