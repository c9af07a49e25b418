"""Bodies of the API's operations, as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping

from streams.dashboard.answers import described_as, listed, schema_of
from streams.dashboard.operations import (
    CURSOR,
    DELAY,
    EXPIRES,
    FILTERS,
    LEVEL,
    NAME,
    PRINTABLE,
    PRIORITY,
    TEXT,
    Schema,
    fields,
)
from streams.events.attributes import (
    LONGEST_RETRY_DELAY,
    LONGEST_STATE,
    MEDIA_TYPE,
    MOST_RETRIES,
    TIME,
    TRACEPARENT,
)
from streams.events.event import CLOUD_NAMES, META_NAMES
from streams.events.receipt import Receipt


def _either(one: str, other: str) -> Schema:
    """The rule that one of two properties is there.

    It is in words that generators of clients pass over.
    """
    return {
        "if": {"required": [one]},
        "then": {
            "not": {"required": [other]},
            "description": f"give {other} or {one}, and not both",
        },
        "else": {"required": [other]},
    }


_JSON = r"^application/([A-Za-z0-9.+-]+\+)?json$"
ATTRIBUTES: Mapping[str, Schema] = {
    "id": described_as("of the event, unique; made up if it is not given", PRINTABLE),
    "type": described_as(
        "what happened, e.g. order.created", {**PRINTABLE, "maxLength": 200}
    ),
    "data": {
        "description": "the body: any JSON, or text where datacontenttype is not JSON"
    },
    "data_base64": {
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        "description": "the body as bytes, in place of data",
    },
    "priority": described_as(
        "served on the highest level that is not above it", PRIORITY
    ),
    "delay": described_as("seconds until it enters the stream", DELAY),
    "expires": described_as(
        "seconds after which it must not be handled any more", EXPIRES
    ),
    "key": described_as("what it is about, for order and limits", TEXT),
    "tenant": described_as("whose it is", TEXT),
    "instance": described_as("sender, device or account of the tenant", TEXT),
    "subject": described_as("CloudEvents subject", TEXT),
    "source": described_as("CloudEvents source: who publishes", TEXT),
    "time": {
        "type": "string",
        "format": "date-time",
        "pattern": TIME,
        "description": "when it happened, RFC 3339",
    },
    "datacontenttype": {
        "type": "string",
        "pattern": MEDIA_TYPE,
        "description": "media type of the body; application/json if it is not given",
    },
    "dataschema": described_as("URI of the body's schema", TEXT),
    "version": described_as("version of the type's schema, for upcasters", TEXT),
    "traceparent": {
        "type": "string",
        "pattern": TRACEPARENT,
        "description": "W3C trace context: the handler's span is its child",
    },
    "tracestate": described_as(
        "W3C trace context", {**TEXT, "maxLength": LONGEST_STATE}
    ),
    "headers": {
        "type": "object",
        "propertyNames": {
            "pattern": "^[a-z0-9]{1,100}$",
            "not": {"enum": sorted(META_NAMES | CLOUD_NAMES)},
            "description": "a header's name has lower-case letters and digits, "
            "and is none of the wire format's",
        },
        "additionalProperties": {
            "anyOf": [
                {"type": "string", "maxLength": 500},
                {"type": "number", "minimum": -(2**53), "maximum": 2**53},
                {"type": "boolean"},
            ]
        },
        "maxProperties": 100,
        "description": "further attributes, as CloudEvents extensions",
    },
    "dedup_id": described_as(
        "a second event with it is not stored within the dedup window", PRINTABLE
    ),
    "max_retries": {
        "type": "integer",
        "minimum": 0,
        "maximum": MOST_RETRIES,
        "description": "in place of the handler's",
    },
    "retry_delay": {
        "type": "number",
        "minimum": 0,
        "maximum": LONGEST_RETRY_DELAY,
        "description": "seconds, in place of the handler's",
    },
}
EVENT: Schema = {
    **fields("type", **ATTRIBUTES),
    **_either("data_base64", "data"),
    "dependentSchemas": {
        "datacontenttype": {
            "if": {"properties": {"datacontenttype": {"not": {"pattern": _JSON}}}},
            "then": {
                "properties": {
                    "data": {
                        "type": "string",
                        "title": "text, as datacontenttype is not JSON",
                    }
                }
            },
        }
    },
}
PROBLEM: Schema = {
    "type": "object",
    "description": "What went wrong, as RFC 9457 has it; it never repeats what was sent.",
    "properties": {
        "type": {"type": "string", "description": "about:blank"},
        "title": {"type": "string", "description": "what kind of fault it is"},
        "status": {"type": "integer", "description": "the status of the answer"},
        "detail": {"type": "string", "description": "what to do, in a sentence"},
        "code": {
            "type": "string",
            "description": "a stable word, where the status alone does not say it: "
            "stream-full, out-of-memory, publish-unknown, partly-published, "
            "broker-unavailable, not-waiting, group-dropped and so on",
        },
    },
    "required": ["title", "status"],
}
_NUMBERS: Schema = {"type": "array", "items": {"type": "integer"}}
PARTLY: Schema = {
    "type": "object",
    "description": "What became of each event of a batch that failed; events are counted from 0.",
    "properties": {
        **PROBLEM["properties"],
        "stored": {
            "type": "array",
            "items": {
                "allOf": [schema_of(Receipt)],
                "type": "object",
                "properties": {"event": {"type": "integer"}},
                "required": ["event"],
            },
            "description": "receipts of the events that are surely stored",
        },
        "not_stored": {
            **_NUMBERS,
            "description": "events that are surely not stored: publish these again",
        },
        "unknown": {**_NUMBERS, "description": "events of which it is not known"},
    },
    "required": ["title", "status", "stored", "not_stored", "unknown"],
}

WHICH: Schema = {
    **fields(
        ids={**listed(CURSOR), "minItems": 1, "maxItems": 1000},
        filter=fields(**FILTERS),
        dry_run={"type": "boolean"},
        rate={"type": "number", "minimum": 1, "maximum": 10_000},
        limit={"type": "integer", "minimum": 1, "maximum": 100_000},
    ),
    **_either("ids", "filter"),
}
HOLD: Schema = {
    **fields(
        group=NAME,
        level=LEVEL,
        attribute={"enum": ["type", "tenant", "instance", "key", "subject", "source"]},
        value=TEXT,
        reason=TEXT,
    ),
    "dependentRequired": {"attribute": ["value"], "value": ["attribute"]},
    "dependentSchemas": {
        "attribute": {
            "properties": {
                "level": {"not": {}, "description": "it does not go with attribute"}
            }
        }
    },
}
