"""What the operations of the API take, as JSON Schema."""

from __future__ import annotations

from streams.dashboard.operations import CURSOR, FILTERS, NAME, PRINTABLE, TEXT, Schema

WHICH: Schema = {
    "type": "object",
    "properties": {
        "ids": {"type": "array", "items": CURSOR, "minItems": 1, "maxItems": 1000},
        "filter": {"type": "object", "properties": FILTERS, "additionalProperties": False},
        "dry_run": {"type": "boolean"},
        "rate": {"type": "number", "minimum": 1, "maximum": 10_000},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100_000},
    },
    "additionalProperties": False,
}
HOLD: Schema = {
    "type": "object",
    "properties": {
        "group": NAME,
        "level": {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000},
        "attribute": {"enum": ["type", "tenant", "instance", "key", "subject", "source"]},
        "value": TEXT,
        "reason": TEXT,
    },
    "dependentRequired": {"attribute": ["value"], "value": ["attribute"]},
    "dependentSchemas": {"attribute": {"properties": {"level": False}}},
    "additionalProperties": False,
}
MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "to": {
            "type": "string",
            "pattern": r"^(\+?[1-9]([ ().-]*[0-9]){7,14}|[A-Z]{2}\.[A-Za-z0-9]{1,100})$",
            "maxLength": 200,
            "description": "a phone number with country code, 8 to 15 digits, or a user id such as BR.1502",
        },
        "text": {"type": "string", "minLength": 1, "maxLength": 4096},
        "tenant": {**PRINTABLE, "maxLength": 90},
        "instance": TEXT,
        "priority": {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000},
        "delay": {"type": "number", "minimum": 0, "maximum": 31_536_000},
        "expires": {"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000},
    },
    "required": ["to", "text"],
    "additionalProperties": False,
}
