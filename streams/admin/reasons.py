"""Judging why an event waits. Pure: what is known goes in, one reason comes out.

Each kind of reason is one small function, and they are asked in order: what holds an
entry back whatever workers do comes before what workers have not come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from streams.admin.pauses import Pause, read_pause
from streams.admin.reason import (
    Case,
    Reason,
    event_id,
    ident,
    moment,
    most,
    since_when,
    span,
)
from streams.broker.admin.wait_facts import Holder, Queue, attributes
from streams.broker.admin.workers import HEARD, WorkerFacts
from streams.broker.keys import RECLAIMER_SUFFIX
from streams.broker.server.stored import entry_place, real
from streams.common.masking import masked
from streams.errors import EventError
from streams.events.codec import decode, parse_json
from streams.policy.admission import Kind
from streams.quantities import counted

Judge = Callable[[Case], Reason | None]
_DEFECT = "this is a defect of the pipeline; please report it with this output"


def judge(case: Case) -> Reason:
    """The first reason that applies, with the names filled in."""
    found = case.found
    reason = next(filter(None, (ask(case) for ask in _JUDGES)))
    return replace(
        reason,
        stream=case.scene.stream,
        group=case.scene.group,
        level=found.level,
        entry_id=found.entry_id,
        event_id=ident(event_id(found)),
    )


def head_of(case: Case) -> str:
    """``level|entry id`` of the living event that an entry waits for; '' for none."""
    head = case.wait.head or ""
    waits = (
        case.found.state in ("pending", "retrying")
        and head
        and head != case.wait.member
    )
    return head if waits and entry_place(head.encode()) else ""


# --- what is over, or cannot go on


def _orphaned(case: Case) -> Reason | None:
    if case.found.state != "orphaned":
        return None
    command = f"streams doctor --repair --stream {case.scene.stream}"
    return Reason(
        "orphaned",
        "it was given to a worker, is stored, and is with none any more: a consumer "
        "was deleted, or the entry "
        "acknowledged, by hand. A worker that still runs it puts it back within a "
        "lease; else this makes it due, once "
        f"it is older than 90 s: {command}",
        facts={"repair": command},
    )


def _over(case: Case) -> Reason | None:
    state = case.found.state
    if state == "done":
        return Reason("done", "this group is done with it")
    if state == "dead":
        return Reason(
            "dead",
            "it is a dead letter: it waits for an operator, who replays or discards it",
        )
    if state == "unknown":
        return Reason(
            "unknown",
            "there is no trace of it: it was never published here, or it was handled",
        )
    return None


def _unreadable(case: Case) -> Reason | None:
    found = case.found
    if not found.fields:
        if found.state == "scheduled":
            what = (
                "its due time is there, its fields are gone or cannot be read: "
                "streams doctor --repair removes it"
            )
        else:
            what = (
                "somebody deleted its entry from the stream: streams doctor --repair "
                "ends it"
            )
        return Reason("unreadable", what, facts={"error": "payload-gone"})
    try:
        decode(found.fields)
    except EventError as error:
        kind = getattr(error, "reason", type(error).__name__)
        what = (
            "it cannot be read as an event: a worker makes it a dead letter when it "
            "comes to it"
        )
        return Reason(
            "unreadable", f"{what} ({masked(str(error))})", facts={"error": str(kind)}
        )
    return None


# --- what is with a worker


def _lost_lease(case: Case) -> Reason | None:
    found = case.found
    if found.state != "processing":
        return None
    worker = _worker(case, found.consumer)
    silent, lease = (
        found.silent or 0.0,
        worker.lease if worker else _longest_lease(case),
    )
    if silent <= lease * 2 / 3:  # It is renewed every third of a lease.
        return None
    left = max(0.0, lease - silent)
    facts = {
        "worker": found.consumer,
        "silent": round(silent, 1),
        "until": round(case.scene.now + left, 3),
    }
    what = (
        f"it is with {found.consumer}, which has not renewed its lease for "
        f"{span(silent)}"
    )
    if not any(
        other.is_alive for other in case.scene.workers if other.name != found.consumer
    ):
        return Reason(
            "no-worker",
            f"{what}, and no worker of the group is there to take it over",
            facts=facts,
        )
    when = f"in {span(left)}" if left else "at any moment"
    return Reason(
        "lost-lease", f"{what}: another worker takes it over {when}", facts=facts
    )


def _in_hand(case: Case) -> Reason | None:
    found = case.found
    if found.state != "processing":
        return None
    name, silent = found.consumer, round(found.silent or 0.0, 1)
    facts: dict[str, Any] = {"worker": name, "silent": silent}
    if name.endswith(RECLAIMER_SUFFIX):
        what = (
            f"{name} took it over from a silent worker and decides whether it is tried "
            "again"
        )
        return Reason("reserved", what, facts=facts)
    worker = _worker(case, name)
    since = worker.runs.get(case.wait.member) if worker else None
    if since is not None:
        at = f"it has been running with {name} since {moment(since)} at the latest"
        return Reason(
            "running",
            f"{at} (its lease was renewed {span(silent)} ago)",
            facts=facts | {"since": since},
        )
    # What the worker said after it had the entry tells that no handler has it.
    if worker and worker.runs_all and worker.said_at > case.scene.now - silent:
        return Reason("reserved", f"it is with {name} and about to start", facts=facts)
    what = f"it is running with {name} (nothing was heard of that for {span(silent)})"
    return Reason("running", what, facts=facts)


def _handed_a_slot(case: Case) -> Reason | None:
    if case.found.state != "retrying" or not case.wait.has_slot or not case.is_due:
        return None
    if case.scene.now - since_when(case.found) > case.patience:
        return None  # Nobody came for it: it is judged as any other.
    return Reason(
        "reserved", "a slot was handed to it, and the next worker that looks starts it"
    )


# --- what waits for another event of its key


def _key_held(case: Case) -> Reason | None:
    head = case.wait.head or ""
    if not head.startswith("held "):
        return None
    _, at, place, dead, *_ = [*head.split(" ", 3), "", "", ""]
    if dead == (event_id(case.found) or case.wait.member) and not case.found.deliveries:
        # Its own replay goes before all that waits; what was lined up before the death
        # does not.
        return None
    since = real(at) / 1000
    key = masked(case.wait.order_key or "")
    what = (
        f"its key {key} is held since {moment(since)}, because the event {ident(dead)} "
        "died"
    )
    todo = f"release or skip it: streams keys ls {case.scene.stream} {case.scene.group}"
    facts = {
        "key": key,
        "by": ident(dead),
        "entry": place,
        "since": since,
        "behind": case.wait.behind,
    }
    return Reason("key-held", f"{what}; {todo}", facts=facts)


def _key_busy(case: Case) -> Reason | None:
    head = head_of(case)
    if not head:
        return None
    key, behind = masked(case.wait.order_key or ""), case.wait.behind + 1
    what = (
        f"events of its key {key} run one after the other, and "
        f"{counted(behind, 'is', 'are')} before it"
    )
    what += f"; {head} is first"
    return Reason("key-busy", what, facts={"key": key, "by": head, "behind": behind})


# --- what waits for its time, a pause or a limit


def _put_aside(case: Case) -> Reason | None:
    """Put aside for a pause of an attribute, or of a circuit breaker, that goes on."""
    scope = case.admission.scope if case.admission is not None else ""
    return next(
        (
            _of_pause(case, *row)
            for row in _pauses(case)
            if scope and row[0].scope == scope
        ),
        None,
    )


def _paused(case: Case) -> Reason | None:
    if case.found.state == "scheduled" and not case.is_due:
        return None
    if not case.is_due and case.wait.queue is None:
        return None
    return next(
        (_of_pause(case, *row) for row in _pauses(case) if _covers(case, row[0])), None
    )


def _slot(case: Case) -> Reason | None:
    queue = case.wait.queue
    if queue is None or case.found.state != "retrying":
        return None
    if queue.taken < queue.concurrency and not queue.rank:
        # One is free, and it is the first: what waits for a slot no more is judged as
        # any other.
        return None
    limit, _, key = queue.name.partition("=")
    what = (
        f"the limit {masked(limit)} runs {queue.concurrency} at a time for "
        f"{masked(key)}"
    )
    what += (
        f", {counted(queue.taken, 'has', 'have')} its slot"
        if queue.concurrency == 1
        else f", {queue.taken} run"
    )
    facts = {
        "limit": masked(limit),
        "key": masked(key),
        "concurrency": queue.concurrency,
        "behind": queue.rank,
        "holders": [_plain_holder(holder) for holder in queue.holders],
    }
    return Reason(
        "limit",
        f"{what}{_of_holders(queue)}, and {queue.rank} wait before it",
        facts=facts,
    )


def _throttled(case: Case) -> Reason | None:
    if case.found.state != "retrying" or case.is_due or case.admission is None:
        return None
    reserved = case.admission.limits
    under = {
        name: until
        for name, until in case.wait.throttled.items()
        if name.partition("=")[0] in reserved
    }
    if not under:
        return None
    name, until = max(under.items(), key=lambda row: row[1])
    limit, _, key = name.partition("=")
    what = (
        f"the limit {masked(limit)} is throttled for {masked(key)} until "
        f"{moment(until)}"
    )
    facts = {
        "limit": masked(limit),
        "key": masked(key),
        "until": until,
        "next": case.found.due,
    }
    return Reason(
        "throttled",
        f"{what}; its own place is at {moment(case.found.due or until)}",
        facts=facts,
    )


def _rate(case: Case) -> Reason | None:
    said, due = case.admission, case.found.due
    if (
        case.found.state != "retrying"
        or case.is_due
        or due is None
        or said is None
        or said.kind is not Kind.RATE
    ):
        return None
    limit = masked(said.by.partition("=")[0])
    return Reason(
        "rate",
        f"the rate of the limit {limit} lets it start at {moment(due)}",
        facts={"limit": limit, "until": due},
    )


def _not_due(case: Case) -> Reason | None:
    due, record = case.found.due, case.record
    if case.is_due or due is None or case.wait.queue is not None:
        return None
    if case.found.state == "scheduled":
        return Reason(
            "scheduled", f"it is scheduled for {moment(due)}", facts={"until": due}
        )
    if not record.attempts:
        return Reason(
            "snoozed", f"it was put off until {moment(due)}", facts={"until": due}
        )
    last = record.errors[-1] if record.errors else {}
    error = masked(f"{last.get('type', '')}: {last.get('message', '')}".strip(": "))
    what = (
        f"it is tried again at {moment(due)}, after "
        f"{counted(record.attempts, 'attempt')}"
    )
    facts = {"until": due, "attempts": record.attempts, "error": error}
    return Reason(
        "retry", f"{what}; the last error: {error}" if error else what, facts=facts
    )


# --- what waits for a worker


def _no_worker(case: Case) -> Reason | None:
    if any(worker.is_alive for worker in case.scene.workers):
        return None
    gone = max(case.scene.workers, key=lambda worker: worker.said_at, default=None)
    what = (
        "no worker serves the group"
        if case.scene.group
        else "no worker serves the stream"
    )
    if gone is None or not gone.said_at:
        return Reason("no-worker", f"{what}: start one")
    what += f"; the last one, {gone.name}, was heard of at {moment(gone.said_at)}"
    return Reason(
        "no-worker",
        f"{what}: start one",
        facts={"worker": gone.name, "since": gone.said_at},
    )


def _level_unserved(case: Case) -> Reason | None:
    if case.found.state == "scheduled" or case.serving:
        return None
    alive = [worker for worker in case.scene.workers if worker.is_alive]
    served = sorted(
        {level for worker in alive for level in worker.levels}, reverse=True
    )
    what = (
        f"no worker of the group reads level {case.found.level}; they read "
        f"{', '.join(map(str, served)) or 'none'}"
    )
    todo = "give a worker this level (STREAMS_LEVELS, or --levels)"
    return Reason(
        "level-unserved",
        f"{what}: {todo}",
        facts={"levels": served, "workers": [w.name for w in alive]},
    )


def _suspect(case: Case) -> Reason | None:
    record = case.record
    if case.found.state != "retrying" or not record.suspect:
        return None
    since = since_when(case.found)
    what = (
        f"{counted(record.stalls, 'worker')} died or went silent while it was there, "
        "and one more is its last"
    )
    what += (
        ": a worker runs it when nothing else of its process runs, and it waits for "
        f"that since {moment(since)}"
    )
    names = [worker.name for worker in case.serving]
    return Reason(
        "suspect",
        what,
        facts={"since": since, "stalls": record.stalls, "workers": names},
    )


def _turn(case: Case) -> Reason | None:
    if case.found.state != "pending":
        return None
    ahead, above, turns = case.wait.ahead, _above(case), case.wait.turns
    if not ahead + above:
        return None
    behind = ahead + above
    what = (
        f"it waits for its turn behind {most(ahead)} of its level"
        if ahead
        else "it waits for its turn"
    )
    what += (
        f"{' and' if ahead else ' behind'} {most(above)} of higher levels"
        if above
        else ""
    )
    what += (
        f"; {counted(turns, 'other key takes', 'other keys take')} turns with its own"
        if turns
        else ""
    )
    full = all(worker.is_full for worker in case.serving)
    what += f"; {_why_full(case)}" if full else ""
    facts = {
        "behind": behind,
        "level": ahead,
        "above": above,
        "keys": turns,
        "busy": full,
    }
    return Reason("turn", what, facts=facts)


def _isolated(case: Case) -> Reason | None:
    """Workers that could take it are kept free for a suspect, and the others are full."""
    serving, kept = case.serving, _kept(case)
    if not kept or not _is_full(case):
        return None
    first = kept[0]
    facts = {
        "by": ident(first.kept_for),
        "workers": [worker.name for worker in serving],
    }
    return Reason("isolated", f"it waits: {_why_full(case)}", facts=facts)


def _busy(case: Case) -> Reason | None:
    serving = case.serving
    if not _is_full(case):
        return None
    since = min((at for worker in serving for at in worker.runs.values()), default=None)
    what = _why_full(case)
    facts: dict[str, Any] = {"workers": [worker.name for worker in serving]}
    if since is None:
        return Reason("busy", what, facts=facts)
    what += f"; the longest runs since {moment(since)} at the latest"
    return Reason("busy", what, facts=facts | {"since": since})


def _next_in_queue(case: Case) -> Reason | None:
    """First of its queue, with a slot that is free: a sweep hands it over, if there are sweeps."""
    queue, now = case.wait.queue, case.scene.now
    if queue is None or case.is_due:
        return None  # Due, it asks by itself.
    looked = max(case.scene.swept_at, queue.joined)
    if now - looked <= HEARD:
        what = (
            "a slot of its limit is free, and it is the first of the queue: the next "
            "sweep hands it over"
        )
        return Reason("starting", what, facts={"until": round(looked + HEARD, 3)})
    what = (
        "a slot of its limit is free, it is the first of the queue, and no worker "
        f"swept since {moment(looked)}"
    )
    return Reason("none", f"{what}: {_DEFECT}", facts=_waits_since(case, looked))


def _starting(case: Case) -> Reason | None:
    waited = case.scene.now - since_when(case.found)
    if waited > case.patience:
        return None
    return Reason(
        "starting", f"it can run since {span(waited)}: a worker takes it at any moment"
    )


def _unheard(case: Case) -> Reason | None:
    """No worker was heard of since the event could run.

    The worker may be gone, which counts only after a while.
    """
    last = min(case.serving, key=lambda worker: worker.heard, default=None)
    if last is None or last.heard <= case.scene.now - since_when(case.found):
        return None
    what = (
        f"{last.name} could take it, and was last heard of {span(last.heard)} ago, "
        "before it could run: it may have "
    )
    what += f"ended (a worker that is silent for {HEARD:g} s counts as gone)"
    facts = {"worker": last.name, "since": round(case.scene.now - last.heard, 3)}
    return Reason("no-worker", what, facts=facts)


def _none(case: Case) -> Reason:
    since = since_when(case.found)
    who = (
        ", ".join(worker.name for worker in case.serving) or "the scheduler of a worker"
    )
    what = f"nothing holds it, {who} could take it, and it waits since {moment(since)}"
    return Reason("none", f"{what}: {_DEFECT}", facts=_waits_since(case, since))


def _waits_since(case: Case, since: float) -> dict[str, Any]:
    return {"since": since, "workers": [worker.name for worker in case.serving]}


_JUDGES: tuple[Judge, ...] = (
    *(_orphaned, _over, _unreadable),
    *(_lost_lease, _in_hand, _handed_a_slot),
    *(_key_held, _key_busy),
    *(_put_aside, _paused, _slot, _throttled, _rate, _not_due),
    *(
        _no_worker,
        _level_unserved,
        _suspect,
        _turn,
        _isolated,
        _busy,
        _next_in_queue,
        _starting,
        _unheard,
        _none,
    ),
)


# --- words


def _worker(case: Case, name: str) -> WorkerFacts | None:
    return next((worker for worker in case.scene.workers if worker.name == name), None)


def _is_full(case: Case) -> bool:
    """No worker that reads its level can start anything."""
    serving = case.serving
    return (
        case.found.state != "scheduled"
        and bool(serving)
        and all(worker.is_full for worker in serving)
    )


def _kept(case: Case) -> list[WorkerFacts]:
    """The workers that are kept free for a suspect, of those that read its level."""
    return [worker for worker in case.serving if worker.kept_for]


def _why_full(case: Case) -> str:
    """Why no worker that reads its level can start anything."""
    kept, all_of_them = _kept(case), case.serving
    busy = f"every handler of {counted(len(all_of_them) - len(kept), 'worker')} is busy"
    if not kept:
        return busy
    suspect = (
        f"while {ident(kept[0].kept_for)}, which was with a worker when that died, "
        f"runs alone in {kept[0].name}, "
    )
    suspect += "nothing else of that process starts"
    if len(kept) > 1:
        suspect += f" (and so in {len(kept) - 1} more)"
    return suspect if len(kept) == len(all_of_them) else f"{suspect}; {busy}"


def _longest_lease(case: Case) -> float:
    return max((worker.lease for worker in case.scene.workers), default=30.0)


def _pauses(case: Case) -> Iterator[tuple[Pause, bytes]]:
    for stored in case.scene.pauses:
        yield read_pause(stored), stored[1]


def _covers(case: Case, pause: Pause) -> bool:
    """Whether a pause holds this entry, by where it is or by an attribute of its event."""
    level = case.found.level
    if level is not None and pause.covers(case.scene.group, level):
        return True
    if (
        not pause.attribute
        or pause.group not in ("", case.scene.group)
        or case.found.state == "scheduled"
    ):
        return False
    return attributes(case.found.fields).get(pause.attribute) == pause.value


def _of_pause(case: Case, pause: Pause, stored: bytes) -> Reason:
    probe = _probe(stored)
    kind = "breaker" if probe is not None else _kind(pause)
    why = f": {masked(pause.reason)}" if pause.reason else ""
    scope = masked(pause.scope)
    who = (
        f"the circuit breaker {masked(pause.by)}"
        if probe is not None
        else masked(pause.by) or "somebody"
    )
    what = f"{scope} is paused by {who} since {moment(pause.at)}{why}"
    facts = {
        "scope": scope,
        "kind": kind,
        "by": masked(pause.by),
        "since": pause.at,
        "reason": masked(pause.reason),
    }
    if probe is not None:
        what += f"; one event is let through as a probe at {moment(probe)}"
        facts["until"] = probe
    return Reason("paused", what, facts=facts)


def _kind(pause: Pause) -> str:
    if pause.attribute:
        return "attribute"
    return "level" if pause.level is not None else "group" if pause.group else "stream"


def _probe(stored: bytes) -> float | None:
    """When a circuit breaker lets an event through; None: it is a pause of a person."""
    try:
        said: Any = parse_json(stored, 10, "pause")
        return float(said["probe"]) / 1000
    except (EventError, LookupError, TypeError, ValueError):
        return None


def _of_holders(queue: Queue) -> str:
    if not queue.holders:
        return ""
    names = ", ".join(_of_holder(holder) for holder in queue.holders[:3])
    more = f" and {queue.taken - 3} more" if queue.taken > 3 else ""
    return f" ({names}{more})"


def _of_holder(holder: Holder) -> str:
    who = f" with {holder.consumer}" if holder.consumer else ""
    return f"{holder.entry}{who} since {moment(holder.since)}"


def _plain_holder(holder: Holder) -> dict[str, Any]:
    return {
        "entry": holder.entry,
        "since": holder.since,
        "worker": holder.consumer,
        "silent": holder.silent,
    }


def _above(case: Case) -> int:
    """How many wait on higher levels that its workers read, and that are not paused."""
    own, pauses = case.found.level or 0, [pause for pause, _ in _pauses(case)]
    read = {level for worker in case.serving for level in worker.levels}
    return sum(
        (facts.unread or 0) + facts.lined_up
        for level, facts in case.scene.levels.items()
        if level > own
        and level in read
        and not any(pause.covers(case.scene.group, level) for pause in pauses)
    )
