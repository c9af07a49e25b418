"""What each operation of the API tells: its part of the document, and the schema of its answer."""

from __future__ import annotations

from collections.abc import Mapping

from streams.admin.limits import LimitInfo
from streams.admin.ordered_keys import OrderedKey
from streams.admin.outcomes import ReplayView
from streams.admin.overview import StreamView
from streams.admin.pauses import Pause
from streams.admin.queries import WorkerView
from streams.admin.searching import Match
from streams.admin.why import Reasons
from streams.broker.server.shards import Away
from streams.dashboard.answers import (
    described_as,
    listed,
    named,
    record,
    schema_of,
)
from streams.dashboard.operations import Operation, Told
from streams.doctor import Finding
from streams.events.receipt import Receipt

TAGS: Mapping[str, str] = {
    "streams": "Streams with their groups, workers and limits.",
    "events": "Publishing events, and what becomes of each.",
    "dead letters": "Events that failed for good.",
    "operating": "Pausing, limits, keys that are held, and who did what.",
}
"""The parts of the document."""
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_NEXT = described_as("the cursor of the page that follows; null at the end", str | None)
_AWAY = described_as(
    "the shards of a cluster that could not be asked, with what is missing in this answer",
    list[Away],
)
_NOTHING = {"type": "object", "description": "nothing", "additionalProperties": False}
_COUNT = {"type": "integer", "minimum": 0}
_ERROR = named(
    "AttemptError",
    {
        "type": "object",
        "description": "What one attempt ended with; texts are masked.",
        "properties": {
            "at": described_as("Unix seconds", float),
            "attempt": described_as("how many attempts there were by then", int),
            "kind": described_as(
                "failure, stall (its consumer went silent) or refused (no attempt was made)",
                str,
            ),
            "type": described_as("class of the exception, or Stalled", str),
            "message": described_as("what it says, in one line", str),
            "where": described_as(
                "the innermost place in the program; '' if there is none", str
            ),
            "consumer": described_as("the consumer that tried", str),
            "traceback": described_as(
                "the innermost eight places, outermost first; of the latest error",
                list[str],
            ),
        },
    },
)
_STATE = named(
    "EntryState",
    record(
        of="Where one event stands in one group.",
        stream=str,
        group=described_as("'' for a scheduled event", str),
        state=described_as(
            "scheduled, pending, processing, retrying, dead, done, orphaned or unknown",
            str,
        ),
        level=int | None,
        entry_id=str,
        event_id=str,
        type=str,
        due=described_as("Unix seconds, for scheduled and retrying", float | None),
        consumer=described_as("who holds it, for processing", str),
        failures=described_as("attempts that raised", int),
        stalls=described_as("deliveries whose consumer went silent", int),
        errors=described_as("the latest errors, oldest first; masked", listed(_ERROR)),
        meta=described_as("the metadata, masked", _TEXTS),
    ),
)
_LETTER = named(
    "DeadLetter",
    record(
        of="An event that failed for good, without its body; texts are masked.",
        id=described_as("of the dead letter; what replay and discard take", str),
        stream=described_as("the stream, or its partition", str),
        reason=described_as(
            "a stable word: retries-used-up, stalled, rejected, no-handler and so on",
            str,
        ),
        died_at=described_as("Unix seconds", float),
        level=int,
        entry_id=str,
        event_id=str,
        type=str,
        failures=int,
        stalls=int,
        replays=described_as("how often it was put back", int),
        size=described_as("bytes of the body", int),
        last_error=str,
        meta=_TEXTS,
    ),
)
_IN_HAND = named(
    "InHand",
    record(
        of="An entry that a worker has in hand.",
        entry=described_as("LEVEL|ENTRY-ID", str),
        event_id=str,
        type=str,
        runs=described_as(
            "seconds for which its handler runs at least; null if its worker did not say",
            float | None,
        ),
        silent=described_as("seconds since its lease was renewed", float | None),
        deliveries=int,
    ),
)
_ROW = named(
    "AuditRow",
    {
        "type": "object",
        "description": "One deed; what else is told depends on the action. Texts of people are masked.",
        "properties": {
            "id": {"type": "string"},
            "action": {"type": "string"},
            "by": {"type": "string"},
        },
        "required": ["id"],
        "additionalProperties": {"type": "string"},
    },
)
_WHICH = "Give `ids`, or a `filter`; the filter `{}` means all. With `dry_run` nothing is changed."
_STATES = record(states=described_as("one for each group", listed(_STATE)))
_TOLD: Mapping[str, Told] = {
    "listStreams": Told(
        "streams",
        "A row for each stream or partition, with its groups and levels; at most two seconds old.",
        record(
            streams=list[StreamView],
            totals=described_as("the sums of spread streams", list[StreamView]),
            away=_AWAY,
        ),
    ),
    "getStream": Told(
        "streams",
        "Of a spread stream the sums, and its partitions.",
        schema_of(StreamView),
    ),
    "publish": Told(
        "events",
        "201 when it is stored, 200 for a duplicate of one that is. A stream that is not there is made.",
        schema_of(Receipt),
    ),
    "publishMany": Told(
        "events",
        "201 when an event of it is stored, 200 when all are duplicates of some that were. All are checked before the"
        " first is sent. Receipts are in the order of the events.",
        record(receipts=list[Receipt]),
    ),
    "getEvent": Told(
        "events", "By its event id, or by LEVEL|ENTRY-ID. No body.", _STATES
    ),
    "cancelEvent": Told(
        "events",
        "Only what is scheduled or waits for a retry.",
        record(cancelled=_STATE),
    ),
    "runEventNow": Told("events", "Limits and pauses hold.", record(was=_STATE)),
    "revealEvent": Told(
        "events",
        "The name of the caller is written into the audit record first.",
        record(
            body=described_as("as text", str),
            meta={"type": "object", "additionalProperties": {}},
        ),
    ),
    "explainWaiting": Told(
        "events",
        "The words are explained in the documentation of why.",
        schema_of(Reasons),
    ),
    "search": Told(
        "events",
        "The newest 500 of each level and of the dead letters are looked at.",
        record(
            states=described_as("where an event with this id stands", listed(_STATE)),
            matches=list[Match],
            left_out=described_as("streams that were not looked at", list[str]),
            away=_AWAY,
        ),
    ),
    "listDeadLetters": Told(
        "dead letters",
        "At most 5,000 are looked at: a page can be empty and have a next one.",
        record(
            letters=listed(_LETTER),
            next=_NEXT,
            away=described_as("partitions that are away", list[str]),
        ),
    ),
    "replayDeadLetters": Told(
        "dead letters",
        f"{_WHICH} `rate` is in letters per second, and the answer comes when all are moved.",
        record(matched=_COUNT, moved=_COUNT),
    ),
    "discardDeadLetters": Told(
        "dead letters",
        f"{_WHICH} `matched` is told with `dry_run`, `deleted` without.",
        {
            "type": "object",
            "properties": {"matched": _COUNT, "deleted": _COUNT},
            "minProperties": 1,
        },
    ),
    "editDeadLetter": Told(
        "dead letters",
        "The rest of the event stays, its id too.",
        record(entry=described_as("LEVEL|ENTRY-ID of the new entry", str)),
    ),
    "listReplays": Told(
        "dead letters",
        "The latest first, one for each replay.",
        record(replays=list[ReplayView]),
    ),
    "pause": Told(
        "operating",
        "What runs goes on. Without more it holds the whole stream.",
        record(new=described_as("whether it was not paused so before", bool)),
    ),
    "resume": Told(
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
    "listAudit": Told(
        "operating", "The latest first.", record(rows=listed(_ROW), next=_NEXT)
    ),
    "listLimits": Told(
        "operating",
        "What handlers declare, and what was set instead.",
        record(limits=list[LimitInfo]),
    ),
    "setLimit": Told(
        "operating",
        "For all workers at once.",
        record(before=described_as("'' for nothing", str)),
    ),
    "listHeldKeys": Told(
        "operating", "Keys whose first event died.", record(keys=list[OrderedKey])
    ),
    "releaseKey": Told(
        "operating", "Its dead event is put back and runs first.", _NOTHING
    ),
    "skipKey": Told("operating", "Its dead event stays a dead letter.", _NOTHING),
    "examine": Told(
        "operating",
        "The worst first; at most ten seconds old.",
        record(findings=list[Finding]),
    ),
    "listWorkers": Told(
        "streams", "What each said last.", record(workers=list[WorkerView], away=_AWAY)
    ),
    "getWorker": Told(
        "streams",
        "What runs longest first; at most 50.",
        record(
            in_hand=listed(_IN_HAND),
            state=described_as(
                "alive, silent after 30 seconds without a word, or unknown", str
            ),
            silent=described_as(
                "seconds since it said something; null where it is unknown",
                float | None,
            ),
        ),
    ),
}


def _named(name: str, told: Told) -> Told:
    """With a name for its answer, so that the same one has one type in a generated client."""
    if "$ref" in told.answer:
        return told
    return told._replace(
        answer=named(f"{name[0].upper()}{name[1:]}Answer", told.answer)
    )


TOLD: Mapping[str, Told] = {name: _named(name, told) for name, told in _TOLD.items()}
"""By ``operationId``."""


def told_of(operation: Operation) -> Told:
    """What the document says of an operation of the dashboard, or of an application."""
    if operation.told is None:
        return TOLD[operation.name]
    return _named(operation.name, operation.told)
