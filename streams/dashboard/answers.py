"""Schemas of the API's answers, made of the classes whose fields it sends.

So the document cannot say anything else than the answers.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = Mapping[str, Any]
_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
    object: {},
}
_ATTRIBUTE = re.compile(r"(?P<names>[a-z_]+(?:, [a-z_]+)*): (?P<text>.+)", re.DOTALL)
components: dict[str, Schema] = {}
"""The schemas that others refer to, by name."""


def schema_of(kind: Any) -> Schema:
    """The schema of a type: of what ``dataclasses.asdict`` and JSON make of it."""
    if kind in _PLAIN:
        return _PLAIN[kind]

    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of(each) for each in inner]}

    if origin is Literal:
        return {"type": "string", "enum": list(inner)}

    if isinstance(origin, type):
        return _of_class(origin, inner)

    raise TypeError(f"{kind!r} has no schema")


def _of_class(kind: type, inner: tuple[Any, ...]) -> Schema:
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        return {"$ref": f"#/components/schemas/{component(kind)}"}

    if issubclass(kind, Enum):
        return {"type": "string", "enum": [str(each.value) for each in kind]}

    if issubclass(kind, Counter):
        return {"type": "object", "additionalProperties": {"type": "integer"}}

    if issubclass(kind, Mapping):
        return {
            "type": "object",
            "additionalProperties": schema_of(inner[1]) if inner else {},
        }

    if issubclass(kind, Sequence):
        return {"type": "array", "items": schema_of(inner[0]) if inner else {}}

    raise TypeError(f"{kind!r} has no schema")


def component(kind: type) -> str:
    """The name of a class among the components, after it was added to them."""
    name = kind.__name__
    if name in components:
        return name

    hints, texts = get_type_hints(kind), described(kind)
    names = list(hints)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]

    # It may have itself inside; the name is all that is needed then.
    components[name] = {}
    components[name] = {
        "type": "object",
        "description": (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " "),
        "properties": {
            field: _with_text(schema_of(hints[field]), texts.get(field, ""))
            for field in names
        },
        "required": names,
    }

    return name


def described(kind: type) -> dict[str, str]:
    """The texts of the attributes in the docstring of a class."""
    _, _, part = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    found: dict[str, str] = {}

    for text in re.split(r"\n {4}(?=[a-z])", "\n" + part.split("\n\n")[0]):
        if match := _ATTRIBUTE.fullmatch(" ".join(text.split())):
            found |= dict.fromkeys(match["names"].split(", "), match["text"])

    return found


def record(*, of: str = "", **properties: Any) -> Schema:
    """An object whose properties are all there; ``of`` says in a sentence what it is.

    Each property is a type or a schema.
    """
    made = {name: _schema(each) for name, each in properties.items()}
    found = {"type": "object", "properties": made, "required": list(made)}

    return _with_text(found, of)


def named(name: str, schema: Schema) -> Schema:
    """A schema that others refer to by its name."""
    components[name] = schema

    return {"$ref": f"#/components/schemas/{name}"}


def listed(schema: Any) -> Schema:
    """An array of what a schema, or a type, says."""
    return {"type": "array", "items": _schema(schema)}


def described_as(text: str, schema: Any) -> Schema:
    """A schema, or that of a type, with a description."""
    return _with_text(_schema(schema), text)


def _schema(given: Any) -> Schema:
    return given if isinstance(given, Mapping) else schema_of(given)


def _with_text(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text} if text else schema
