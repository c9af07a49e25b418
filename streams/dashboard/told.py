"""The parts of the API's document, and the schemas that several answers share."""

from __future__ import annotations

from collections.abc import Mapping

from streams.broker.server.shards import Away
from streams.dashboard.answers import described_as, listed, named, record
from streams.dashboard.operations import Operation, Told

TAGS: Mapping[str, str] = {
    "streams": "Streams with their groups, workers and limits.",
    "events": "Publishing events, and what becomes of each.",
    "dead letters": "Events that failed for good.",
    "operating": "Pausing, limits, keys that are held, and who did what.",
}
"""The parts of the document."""
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NEXT = described_as("the cursor of the page that follows; null at the end", str | None)
AWAY = described_as(
    "the shards of a cluster that could not be asked, "
    "with what is missing in this answer",
    list[Away],
)
_ERROR = named(
    "AttemptError",
    {
        "type": "object",
        "description": "What one attempt ended with; texts are masked.",
        "properties": {
            "at": described_as("Unix seconds", float),
            "attempt": described_as("how many attempts there were by then", int),
            "kind": described_as(
                "failure, stall (its consumer went silent) "
                "or refused (no attempt was made)",
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
STATE = named(
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
LETTER = named(
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
IN_HAND = named(
    "InHand",
    record(
        of="An entry that a worker has in hand.",
        entry=described_as("LEVEL|ENTRY-ID", str),
        event_id=str,
        type=str,
        runs=described_as(
            "seconds for which its handler runs at least; "
            "null if its worker did not say",
            float | None,
        ),
        silent=described_as("seconds since its lease was renewed", float | None),
        deliveries=int,
    ),
)
ROW = named(
    "AuditRow",
    {
        "type": "object",
        "description": "One deed; what else is told depends on the action. "
        "Texts of people are masked.",
        "properties": {
            "id": {"type": "string"},
            "action": {"type": "string"},
            "by": {"type": "string"},
        },
        "required": ["id"],
        "additionalProperties": {"type": "string"},
    },
)


def told_of(operation: Operation) -> Told:
    """The part of the document about an operation.

    Its answer has a name, so that a generated client has one type for it.
    """
    name, told = operation.name, operation.told
    if "$ref" in told.answer:
        return told

    answer = named(f"{name[0].upper()}{name[1:]}Answer", told.answer)

    return told._replace(answer=answer)
