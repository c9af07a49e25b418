"""Operations of the API on streams and events: look at them, publish, find."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from streams.admin.overview import StreamView, grouped_views
from streams.admin.partitioned import partitions_of
from streams.admin.queries import Queries, WorkerView, shown, shown_meta
from streams.admin.searching import Match, Search
from streams.admin.status import EntryState
from streams.admin.why import Reasons
from streams.broker.admin.listing import Listing
from streams.dashboard.answers import (
    components,
    described_as,
    listed,
    record,
    schema_of,
)
from streams.dashboard.calls import Call, ident_of, operation
from streams.dashboard.operations import LEVEL, NAME, TEXT, Told, fields
from streams.dashboard.roles import Role
from streams.dashboard.schemas import EVENT
from streams.dashboard.told import AWAY, IN_HAND, STATE
from streams.errors import ConfigurationError, NotFound
from streams.events.event import Event
from streams.events.receipt import Receipt

_MOST_EVENTS = 1000
_ERROR_NUMBERS: Mapping[str, tuple[type, ...]] = {"at": (float, int), "attempt": (int,)}
_ERROR_TEXTS = ("kind", "type", "message", "where", "consumer")


@operation(
    "GET /streams",
    "listStreams",
    "Every stream with its groups.",
    Told(
        "streams",
        "A row for each stream or partition, with its groups and levels; "
        "at most two seconds old.",
        record(
            streams=list[StreamView],
            totals=described_as("the sums of spread streams", list[StreamView]),
            away=AWAY,
        ),
    ),
)
async def _streams(call: Call) -> Any:
    views = await call.queries.overview()
    totals = [asdict(view) for view in grouped_views(views) if view.row.partitions]

    return {
        "streams": [asdict(view) for view in views],
        "totals": totals,
        "away": _away(call.queries),
    }


@operation(
    "GET /streams/{stream}",
    "getStream",
    "One stream.",
    Told(
        "streams",
        "Of a spread stream the sums, and its partitions.",
        schema_of(StreamView),
    ),
)
async def _stream(call: Call) -> Any:
    return asdict(await call.queries.stream(call.on.stream, call.on.partition))


@operation(
    "POST /streams/{stream}/events",
    "publish",
    "Publish an event; stored when this answers.",
    Told(
        "events",
        "201 when it is stored, 200 for a duplicate of one that is. "
        "A stream that is not there is made.",
        schema_of(Receipt),
    ),
    publishes=True,
    body=EVENT,
    status=201,
)
async def _publish(call: Call) -> Any:
    event = _event(call.given, call.request.headers.get("idempotency-key", ""))
    receipt = await call.pipeline.publish(call.on.stream, event)

    return 200 if receipt.duplicate else 201, receipt._asdict()


@operation(
    "POST /streams/{stream}/batches",
    "publishMany",
    "Publish up to 1,000 events.",
    Told(
        "events",
        "201 when an event of it is stored, 200 when all are duplicates of some that "
        "were. All are checked before the first is sent. Receipts are in the order of "
        "the events.",
        record(receipts=list[Receipt]),
    ),
    publishes=True,
    body=fields(
        "events",
        events={**listed(EVENT), "minItems": 1, "maxItems": _MOST_EVENTS},
    ),
    status=201,
)
async def _publish_many(call: Call) -> Any:
    key, events = call.request.headers.get("idempotency-key", ""), []
    for number, attributes in enumerate(call.given["events"]):
        try:
            events.append(_event(attributes, key and f"{key}/{number}"))
        except ConfigurationError as error:
            raise ConfigurationError(f"events/{number}/{error}") from None

    receipts = await call.pipeline.publish_many(call.on.stream, events)
    is_repeated = all(receipt.duplicate for receipt in receipts)
    rows = [receipt._asdict() for receipt in receipts]

    return 200 if is_repeated else 201, {"receipts": rows}


@operation(
    "GET /streams/{stream}/events/{id}",
    "getEvent",
    "Where an event stands.",
    Told(
        "events",
        "By its event id, or by LEVEL|ENTRY-ID. No body.",
        record(states=described_as("one for each group", listed(STATE))),
    ),
)
async def _find(call: Call) -> Any:
    return {"states": [entry_plain(state) for state in await _found(call)]}


@operation(
    "POST /streams/{stream}/events/{id}/reveal",
    "revealEvent",
    "What an event says; written down.",
    Told(
        "events",
        "The name of the caller is written into the audit record first.",
        record(
            body=described_as("as text", str),
            meta={"type": "object", "additionalProperties": {}},
        ),
    ),
    role=Role.ADMIN,
    body={"type": "object", "additionalProperties": False},
)
async def _reveal(call: Call) -> Any:
    state, *_ = await _found(call)
    broker = call.pipeline.broker
    listing = Listing(broker, broker.keys(state.stream))
    event = call.request.path_params["id"]
    await listing.write_audit(action="reveal", by=call.on.by, event=event)

    return {"body": state.raw.decode("utf-8", "replace"), "meta": state.meta}


@operation(
    "GET /streams/{stream}/why",
    "explainWaiting",
    "Why an event waits, or those of a key, a tenant or a level; give one.",
    Told(
        "events",
        "The words are explained in the documentation of why.",
        schema_of(Reasons),
    ),
    query={"event": TEXT, "key": TEXT, "tenant": TEXT, "level": LEVEL, "group": NAME},
)
async def _why(call: Call) -> Any:
    on = call.on
    found = await call.pipeline.why(on.stream, **call.given, partition=on.partition)

    return found.as_plain()


@operation(
    "GET /search",
    "search",
    "Events by id, key, tenant, instance, subject or source.",
    Told(
        "events",
        "The newest 500 of each level and of the dead letters are looked at.",
        record(
            states=described_as("where an event with this id stands", listed(STATE)),
            matches=list[Match],
            left_out=described_as("streams that were not looked at", list[str]),
            away=AWAY,
        ),
    ),
    query={"q": TEXT, "stream": NAME},
    needs=("q",),
)
async def _search(call: Call) -> Any:
    stream = call.given.get("stream", "")
    found = await Search(call.pipeline).search(call.given["q"], stream)

    return {
        "states": [entry_plain(state) for state in found.states],
        "matches": [asdict(row) | {"type": shown(row.type)} for row in found.matches],
        "left_out": found.left_out,
        "away": [shard.as_plain() for shard in found.away],
    }


@operation(
    "GET /workers",
    "listWorkers",
    "The workers, with what they do.",
    Told(
        "streams",
        "What each said last.",
        record(workers=list[WorkerView], away=AWAY),
    ),
)
async def _workers(call: Call) -> Any:
    workers = await call.queries.workers()
    return {
        "workers": [asdict(worker) for worker in workers],
        "away": _away(call.queries),
    }


@operation(
    "GET /streams/{stream}/groups/{group}/workers/{id}",
    "getWorker",
    "What a worker has in hand.",
    Told(
        "streams",
        "What runs longest first; at most 50.",
        record(
            in_hand=listed(IN_HAND),
            state=described_as(
                "alive, silent after 30 seconds without a word, or unknown", str
            ),
            silent=described_as(
                "seconds since it said something; null where it is unknown",
                float | None,
            ),
        ),
    ),
)
async def _worker(call: Call) -> Any:
    name, (stream, group, partition) = ident_of(call.request), call.where
    items = await call.queries.in_hand(stream, group, name, partition=partition)
    rows = [
        {
            "entry": f"{item.listed.level}|{item.listed.place}",
            "event_id": item.event_id,
            "type": shown(item.type),
            "runs": item.runs,
            "silent": item.listed.silent,
            "deliveries": item.listed.deliveries,
        }
        for item in items
    ]

    first, *_ = await partitions_of(call.pipeline.broker, stream, partition)

    for worker in await call.queries.workers_of(first, group):
        if worker.name == name:
            silent = round(worker.silent, 1)
            return {"in_hand": rows, "state": worker.state, "silent": silent}

    return {"in_hand": rows, "state": "unknown", "silent": None}


async def _found(call: Call) -> list[EntryState]:
    """Where the event in the path stands.

    Raises:
        NotFound: no stream has it.
    """
    ident = ident_of(call.request)
    found = await call.queries.find(call.on.stream, ident, call.on.partition)
    if not found:
        raise NotFound("no such event")

    return found


def _away(queries: Queries) -> list[dict[str, Any]]:
    """The shards that could not be asked at this look.

    A program has to tell them from streams that are not there.
    """
    return [shard.as_plain() for shard in queries.away]


def _event(given: Mapping[str, Any], key: str) -> Event[Any]:
    """The event that was sent; the key of the request is its dedup id, if it has none.

    Raises:
        StreamsError: it cannot be one.
    """
    attributes = {"dedup_id": key, **given} if key else dict(given)
    kind, packed = attributes.pop("type"), attributes.pop("data_base64", None)
    data = attributes.pop("data") if packed is None else base64.b64decode(packed)

    return Event(kind, data, **attributes)


def entry_plain(state: EntryState) -> dict[str, Any]:
    """Where an event stands, as it may be shown."""
    names = components["EntryState"]["properties"]

    return {name: getattr(state, name) for name in names} | {
        "type": shown(state.type),
        "errors": [_error_plain(error) for error in state.errors],
        "meta": dict(shown_meta(state.meta)),
    }


def _error_plain(error: Mapping[str, Any]) -> dict[str, Any]:
    """An error of an attempt record: numbers as they are, texts masked.

    Records come from the server, where other programs can write: a field of another
    type than it should be is left out.
    """
    told: dict[str, Any] = {
        name: error[name]
        for name, kind in _ERROR_NUMBERS.items()
        if type(error.get(name)) in kind
    }

    told |= {
        name: shown(error[name])
        for name in _ERROR_TEXTS
        if isinstance(error.get(name), str)
    }

    if isinstance(frames := error.get("traceback"), list):
        told["traceback"] = [shown(frame) for frame in frames]

    return told
