"""Operations of the API for operators: pauses, dead letters, held keys and limits."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException

from streams.admin.dead_letter import Filter
from streams.admin.dead_letters import check_reason
from streams.admin.limits import LimitInfo
from streams.admin.ordered_keys import OrderedKey
from streams.admin.outcomes import Outcomes, ReplayView
from streams.admin.partitioned import in_part
from streams.admin.pauses import Pause
from streams.admin.queries import shown, shown_facts, shown_letter
from streams.dashboard.answers import described_as, listed, record
from streams.dashboard.calls import Call, ident_of, operation
from streams.dashboard.operations import (
    CURSOR,
    FILTERS,
    LIMIT,
    NAME,
    TEXT,
    Schema,
    Told,
    fields,
)
from streams.dashboard.roles import Role
from streams.dashboard.schemas import HOLD, WHICH
from streams.dashboard.tasks import entry_plain
from streams.dashboard.told import LETTER, NEXT, ROW, STATE
from streams.doctor import Finding
from streams.errors import ConfigurationError

_acting = partial(operation, role=Role.OPERATOR)
_GROUP = "/streams/{stream}/groups/{group}"
_WHICH = (
    "Give `ids`, or a `filter`; the filter `{}` means all. "
    "With `dry_run` nothing is changed."
)
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NOTHING: Schema = {
    "type": "object",
    "description": "nothing",
    "additionalProperties": False,
}
_RATE: Schema = {
    **fields(
        "limit",
        limit=TEXT,
        rate=TEXT,
        key=TEXT,
        burst={"type": "integer", "minimum": 1, "maximum": 1_000_000},
        throttle={"type": "number", "minimum": 0, "maximum": 86_400},
    ),
    "dependentRequired": {"burst": ["rate"], "throttle": ["key"]},
    "not": {"required": ["rate", "throttle"]},
    "description": "a rate sets the limit, throttle (seconds, 0 ends it) holds back "
    "a key; neither resets it",
}


@_acting(
    "POST /streams/{stream}/events/{id}/cancel",
    "cancelEvent",
    "Take out what waits for its time.",
    Told(
        "events",
        "Only what is scheduled or waits for a retry.",
        record(cancelled=STATE),
    ),
    body=fields(group=NAME),
)
async def _cancel(call: Call) -> Any:
    state = await call.run("cancel", id=ident_of(call.request))
    return {"cancelled": entry_plain(state)}


@_acting(
    "POST /streams/{stream}/events/{id}/run-now",
    "runEventNow",
    "Let what waits for its time run now.",
    Told("events", "Limits and pauses hold.", record(was=STATE)),
    body=fields(group=NAME),
)
async def _run_now(call: Call) -> Any:
    state = await call.run("run-now", id=ident_of(call.request))
    return {"was": entry_plain(state)}


@_acting(
    "POST /streams/{stream}/pause",
    "pause",
    "Hold back.",
    Told(
        "operating",
        "What runs goes on. Without more it holds the whole stream.",
        record(new=described_as("whether it was not paused so before", bool)),
    ),
    body=HOLD,
)
async def _pause(call: Call) -> Any:
    await call.check_stream()
    return {"new": (await call.run("pause")).new}


@_acting(
    "POST /streams/{stream}/resume",
    "resume",
    "Let go on.",
    Told(
        "operating",
        "Exactly the pause that is named.",
        record(
            resumed=described_as(
                "the pauses that it ended; none, if what is named was not paused",
                list[Pause],
            ),
            remaining=described_as("the pauses of the stream that go on", list[Pause]),
        ),
    ),
    body=HOLD,
)
async def _resume(call: Call) -> Any:
    await call.check_stream()
    outcome = await call.run("resume")

    return {
        "resumed": [_pause_plain(pause) for pause in outcome.resumed],
        "remaining": [_pause_plain(pause) for pause in outcome.remaining],
    }


@operation(
    f"GET {_GROUP}/dead",
    "listDeadLetters",
    "Dead letters.",
    Told(
        "dead letters",
        "At most 5,000 are looked at: a page can be empty and have a next one.",
        record(
            letters=listed(LETTER),
            next=NEXT,
            away=described_as("partitions that are away", list[str]),
        ),
    ),
    query={**FILTERS, "after": CURSOR, "limit": LIMIT},
)
async def _dead(call: Call) -> Any:
    where = dict(call.given)
    limit, after = where.pop("limit"), where.pop("after", "")
    which = await _filter(call, where, 400)
    letters = call.on.dead_letters()
    page, away = await in_part(letters.look(which, after=after, limit=limit))
    rows = [shown_letter(letter) for letter in page.letters]

    return {"letters": rows, "next": page.next or None, "away": away}


@_acting(
    f"POST {_GROUP}/dead/replay",
    "replayDeadLetters",
    "Put dead letters back.",
    Told(
        "dead letters",
        f"{_WHICH} `rate` is in letters per second, and the answer comes when all are "
        "moved.",
        record(matched=_COUNT, moved=_COUNT),
    ),
    body=WHICH,
)
async def _replay(call: Call) -> Any:
    limit = call.given.get("limit", 1000)
    outcome = await call.run("replay", which=await _which(call), limit=limit)

    return {"matched": outcome.matched, "moved": len(outcome.moved)}


@_acting(
    f"POST {_GROUP}/dead/discard",
    "discardDeadLetters",
    "Delete dead letters.",
    Told(
        "dead letters",
        f"{_WHICH} `matched` is told with `dry_run`, `deleted` without.",
        {
            "type": "object",
            "properties": {"matched": _COUNT, "deleted": _COUNT},
            "minProperties": 1,
        },
    ),
    body=WHICH,
)
async def _discard(call: Call) -> Any:
    count = await call.run("discard", which=await _which(call))
    return {"matched" if call.given.get("dry_run") else "deleted": count}


@operation(
    f"POST {_GROUP}/dead/edit",
    "editDeadLetter",
    "Put a dead letter back with another body.",
    Told(
        "dead letters",
        "The rest of the event stays, its id too.",
        record(entry=described_as("LEVEL|ENTRY-ID of the new entry", str)),
    ),
    role=Role.ADMIN,
    body=fields("letter", "data", letter=CURSOR, data={}),
)
async def _edit(call: Call) -> Any:
    return {"entry": await call.run("edit")}


@operation(
    f"GET {_GROUP}/replays",
    "listReplays",
    "What became of replays.",
    Told(
        "dead letters",
        "The latest first, one for each replay.",
        record(replays=list[ReplayView]),
    ),
    query={"limit": LIMIT},
)
async def _replays(call: Call) -> Any:
    stream, group, partition = call.where
    outcomes = Outcomes(call.pipeline, stream)
    found = await outcomes.replays(group, call.given["limit"], partition)

    return {
        "replays": [
            asdict(row)
            | {"by": shown(row.by), "where": shown(row.where), "now": dict(row.now)}
            for row in found
        ]
    }


@operation(
    "GET /streams/{stream}/audit",
    "listAudit",
    "What was done.",
    Told("operating", "The latest first.", record(rows=listed(ROW), next=NEXT)),
    query={"before": CURSOR, "limit": LIMIT},
)
async def _audit(call: Call) -> Any:
    await call.check_stream()
    before, limit = call.given.get("before", ""), call.given["limit"]
    rows = await call.queries.audit(call.on.stream, before, limit, call.on.partition)

    return {
        "rows": [{"id": ident, **shown_facts(facts)} for ident, facts in rows],
        "next": rows[-1][0] if len(rows) >= limit else None,
    }


@operation(
    f"GET {_GROUP}/limits",
    "listLimits",
    "Limits, declared and set.",
    Told(
        "operating",
        "What handlers declare, and what was set instead.",
        record(limits=list[LimitInfo]),
    ),
)
async def _limits(call: Call) -> Any:
    return {"limits": [asdict(row) for row in await call.queries.limits(*call.where)]}


@_acting(
    f"POST {_GROUP}/limits",
    "setLimit",
    "Set a limit, or without a rate take back what was set.",
    Told(
        "operating",
        "For all workers at once.",
        record(before=described_as("'' for nothing", str)),
    ),
    body=_RATE,
)
async def _limit(call: Call) -> Any:
    return {"before": await call.run("limit")}


@operation(
    f"GET {_GROUP}/held",
    "listHeldKeys",
    "Keys that wait for an operator.",
    Told("operating", "Keys whose first event died.", record(keys=list[OrderedKey])),
)
async def _held(call: Call) -> Any:
    found = await call.queries.held(*call.where)
    return {"keys": [asdict(row) | {"key": shown(row.key)} for row in found]}


@_acting(
    f"POST {_GROUP}/held/release",
    "releaseKey",
    "Let a key go on, its dead event first.",
    Told("operating", "Its dead event is put back and runs first.", _NOTHING),
    body=fields("key", key=TEXT),
)
async def _release(call: Call) -> Any:
    await call.run("release")
    return {}


@_acting(
    f"POST {_GROUP}/held/skip",
    "skipKey",
    "Let a key go on, without its dead event.",
    Told("operating", "Its dead event stays a dead letter.", _NOTHING),
    body=fields("key", key=TEXT),
)
async def _skip(call: Call) -> Any:
    await call.run("skip")
    return {}


@operation(
    "GET /doctor",
    "examine",
    "What is wrong, and what to do.",
    Told(
        "operating",
        "The worst first; at most ten seconds old.",
        record(findings=list[Finding]),
    ),
)
async def _doctor(call: Call) -> Any:
    return {"findings": [row.as_plain() for row in await call.doctor.findings()]}


def _pause_plain(pause: Pause) -> dict[str, Any]:
    """A pause as it may be shown."""
    masked = {
        name: shown(getattr(pause, name)) for name in ("scope", "value", "by", "reason")
    }

    return asdict(pause) | masked


async def _which(call: Call) -> Filter | list[str]:
    """The dead letters that the body names, by their ids or by a filter."""
    if "ids" in call.given:
        return list(call.given["ids"])

    return await _filter(call, call.given["filter"], 422)


async def _filter(call: Call, given: dict[str, Any], status: int) -> Filter:
    """A filter of dead letters.

    A reason that no dead letter has is misspelled, and would be answered as if nothing
    had died.

    Raises:
        HTTPException: with ``status``, for such a reason; it names the known reasons.
    """
    where = Filter(**given)
    try:
        await check_reason(call.on.dead_letters(), where)
    except ConfigurationError as error:
        raise HTTPException(status, shown(str(error))) from None

    return where
