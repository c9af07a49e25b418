"""The OpenAPI document (3.1) of the API, made of its operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from streams.dashboard.answers import Schema, components
from streams.dashboard.operations import KEY, NAME, PARTITION, TEXT, Operation
from streams.dashboard.schemas import PARTLY, PROBLEM
from streams.dashboard.told import TAGS, told_of
from streams.version import __version__

_PROBLEMS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503)
_PARAMETERS: Mapping[str, str] = {
    "stream": "name of a stream; of a spread one it means all partitions",
    "group": "name of a group",
    "id": "an event id or LEVEL|ENTRY-ID; of a message or a worker its own id",
    "partition": "the number of one partition; without it all are meant",
    "Idempotency-Key": "what makes the request safe to repeat: "
    "an event is stored once per key and dedup window",
    "after": "go on behind this row",
    "before": "go on before this row",
    "limit": "at most so many",
    "q": "an id, key, tenant, instance, subject or source",
    "since": "Unix seconds",
    "until": "Unix seconds",
    "event_id": "exactly this event",
    "event": "id of one event",
    "text": "part of what is shown of it, case ignored",
    "error": "part of the latest error, case ignored",
    "type": "exactly this type",
    "reason": "exactly this reason",
    "tenant": "exactly this tenant",
    "key": "exactly this key",
    "level": "exactly this level",
}


def document(
    operations: Sequence[Operation],
    root: str,
    *,
    needs_token: bool,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """The document; ``root`` is the path that the dashboard is mounted under."""
    paths: dict[str, dict[str, Any]] = {}

    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streams",
            "version": __version__,
            "description": "What operators see and do on streams, and publishing, "
            "for programs in any language.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": f"{root}/api/v1"}],
        "tags": [
            {"name": name, "description": text}
            for name, text in {**TAGS, **tags}.items()
        ],
        "security": [{"token": []}] if needs_token else [],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`streams dashboard --new-token` makes one; "
                    "its hash is in the file of accounts.",
                }
            },
            "schemas": {
                **dict(sorted(components.items())),
                "Problem": PROBLEM,
                "PartlyStored": PARTLY,
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    told, role = told_of(operation), operation.role.name.lower()
    needs = "a token that may publish" if operation.publishes else f"the role {role}"
    # An event that was published before is answered with 200.
    answers = {"200": "It was stored before.", str(operation.status): "Done."}
    problems = {str(code): _problem(code) for code in _PROBLEMS}
    if operation.name == "publishMany":
        partly = {"$ref": "#/components/schemas/PartlyStored"}
        problems["503"] = _problem(503, {"anyOf": [partly, _REFERENCE]})

    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{told.text} It needs {needs}.",
        "tags": [told.tag],
        "parameters": _parameters(operation),
        "responses": {
            code: {"description": text, "content": _content(told.answer)}
            for code, text in answers.items()
        }
        | problems,
    }

    if operation.body is not None:
        content = _content(operation.body)
        described["requestBody"] = {"required": True, "content": content}

    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [
        _parameter(name, "path", NAME if name in ("stream", "group") else TEXT)
        for name in re.findall(r"{(\w+)}", operation.path)
    ]

    for name, schema in operation.query.items():
        found.append(_parameter(name, "query", schema))
        found[-1]["required"] = name in operation.needs

    if operation.takes_partition:
        found.append(_parameter("partition", "query", PARTITION))

    if operation.publishes:
        found.append(_parameter("Idempotency-Key", "header", KEY))

    return found


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": _PARAMETERS.get(name) or schema.get("description", ""),
        "schema": schema,
    }


def _content(schema: Schema, kind: str = "application/json") -> Schema:
    return {kind: {"schema": schema}}


_REFERENCE: Schema = {"$ref": "#/components/schemas/Problem"}


def _problem(code: int, schema: Schema = _REFERENCE) -> dict[str, Any]:
    return {
        "description": f"{HTTPStatus(code).phrase}.",
        "content": _content(schema, "application/problem+json"),
    }
