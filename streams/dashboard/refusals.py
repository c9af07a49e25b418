"""The fault in a request, in a sentence: the field, and what it has to be.

Never the value that was sent, which may be personal. An event's attribute is refused by
the sentence that every other way to publish has, see ``streams.events.attributes``.
"""

from __future__ import annotations

from typing import Any

from streams.admin.queries import shown
from streams.dashboard.operations import CURSOR, NAME, Schema
from streams.dashboard.schemas import ATTRIBUTES
from streams.events.attributes import RULES

_KINDS = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_PATTERNS = {
    NAME[
        "pattern"
    ]: "a name of 1 to 100 letters, digits, dots, underscores and hyphens that begins with a letter"
    " or digit",
    CURSOR["pattern"]: "an id such as 1796083200000-0",
}


def refusal(error: Any) -> str:
    """The sentence for an error of the validator."""
    # A part of the path may be personal, e.g. a name in ``headers``.
    where = shown("/".join(str(part)[:60] for part in error.absolute_path))
    prefix = f"{where}: " if where else ""
    schema, value = error.schema, error.validator_value
    if error.validator == "additionalProperties" and not value:
        known = sorted(schema.get("properties", {}))
        more = sorted(
            shown(str(name)[:60]) for name in set(error.instance) - set(known)
        )

        return (
            f"{prefix}unknown field {more[0]!r}: known are {', '.join(known) or 'none'}"
        )

    if error.validator == "required":
        missing = next(name for name in value if name not in error.instance)
        return f"{prefix}the field {missing!r} is missing"

    if error.validator == "dependentRequired":
        one, other = next(
            (one, other)
            for one, others in value.items()
            for other in others
            if one in error.instance and other not in error.instance
        )

        return f"{prefix}the field {other!r} is missing: {one!r} needs it"

    if error.validator == "not" or "propertyNames" in error.absolute_schema_path:
        return f"{prefix}{schema.get('description', 'these fields do not go together')}"

    return f"{where or 'the body'} is {_attribute(error) or words(schema)}"


def _attribute(error: Any) -> str:
    """The rule of an event's attribute in words; '' for another field."""
    name = str(error.absolute_path[-1]) if error.absolute_path else ""
    is_own = name in RULES and error.schema is ATTRIBUTES.get(name)

    return RULES[name].words if is_own else ""


def words(schema: Schema) -> str:
    """The rule of a schema in words."""
    if "title" in schema:
        return str(schema["title"])

    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"

    if "pattern" in schema:
        pattern = schema["pattern"]
        said = _PATTERNS.get(pattern) or schema.get("description")

        return str(said or f"a text of the form {pattern}")

    for either in ("anyOf", "oneOf"):
        if either in schema:
            return " or ".join(dict.fromkeys(map(words, schema[either])))

    kind = schema.get("type", "")
    kinds = [kind] if isinstance(kind, str) else kind
    said = " or ".join(_KINDS[each] for each in kinds if each)

    return f"{said or 'a value'}{_bounds(schema)}"


def _bounds(schema: Schema) -> str:
    for low, high, unit in (
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
    ):
        if low in schema or high in schema:
            return f" {_range(schema.get(low), schema.get(high), 'of')}{unit}"

    if "maxProperties" in schema:
        return f" of at most {schema['maxProperties']} fields"

    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']:g}, up to {schema['maximum']:g}"

    if "minimum" in schema or "maximum" in schema:
        return f" {_range(schema.get('minimum'), schema.get('maximum'), 'from')}"

    return ""


def _range(low: float | None, high: float | None, word: str) -> str:
    shown_low, shown_high = (
        f"{end:g}" if isinstance(end, float) else str(end) for end in (low, high)
    )
    if low is None:
        return f"of at most {shown_high}"

    if high is None:
        return f"of at least {shown_low}"

    return f"{word} {shown_low} to {shown_high}"
