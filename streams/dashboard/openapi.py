"""The OpenAPI document (3.1) of the API, made of its operations and of what each tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from streams.dashboard.answers import Schema, components, described_as
from streams.dashboard.operations import KEY, NAME, PARTITION, TEXT, Operation
from streams.dashboard.schemas import PARTLY, PROBLEM
from streams.dashboard.told import TAGS, told_of

_PROBLEMS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503)
_PARAMETERS: Mapping[str, str] = {
    "stream": "name of a stream; of a spread one it means all partitions",
    "group": "name of a group",
    "id": "an event id or LEVEL|ENTRY-ID; of a message or a worker its own id",
    "partition": "the number of one partition; without it all are meant",
    "Idempotency-Key": "what makes the request safe to repeat: an event is stored once per key and dedup window",
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
    version: str,
    *,
    needs_token: bool,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """The document; ``root`` is the path that the dashboard is mounted under."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streams",
            "version": version,
            "description": "What operators see and do on streams, and publishing, for programs in any language.",
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
                    "description": "`streams dashboard --new-token` makes one; its hash is in the file of accounts.",
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
    told = told_of(operation)
    parameters = [
        _parameter(
            name, "path", NAME if name in ("stream", "group") else TEXT, is_needed=True
        )
        for name in _placeholders(operation.path)
    ]
    parameters += [
        _parameter(name, "query", schema, is_needed=name in operation.needs)
        for name, schema in operation.query.items()
    ]
    if operation.takes_partition:
        parameters.append(_parameter("partition", "query", PARTITION, is_needed=False))
    if operation.publishes:
        parameters.append(_parameter("Idempotency-Key", "header", KEY, is_needed=False))
    needs = (
        "a token that may publish"
        if operation.publishes
        else f"the role {operation.role.name.lower()}"
    )
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"{told.text} It needs {needs}.",
        "tags": [told.tag],
        "parameters": parameters,
        # What was published before is answered with 200.
        "responses": {
            str(code): _answer(
                "Done." if code == operation.status else "It was stored before.",
                told.answer,
            )
            for code in sorted({operation.status, 200})
        }
        | {str(code): _problem(code) for code in _PROBLEMS},
    }
    if operation.name == "publishMany":
        partly = {"$ref": "#/components/schemas/PartlyStored"}
        described["responses"]["503"] = _problem(503, {"anyOf": [partly, _REFERENCE]})
    if operation.body is not None:
        content = {"application/json": {"schema": operation.body}}
        described["requestBody"] = {"required": True, "content": content}
    return described


_REFERENCE: Schema = {"$ref": "#/components/schemas/Problem"}


def _parameter(
    name: str, place: str, schema: Schema, *, is_needed: bool
) -> dict[str, Any]:
    text = _PARAMETERS.get(name) or schema.get("description", "")
    return {
        "name": name,
        "in": place,
        "required": is_needed,
        "description": text,
        "schema": described_as("", schema),
    }


def _placeholders(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _answer(
    text: str, schema: Schema, kind: str = "application/json"
) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _problem(code: int, schema: Schema = _REFERENCE) -> dict[str, Any]:
    return _answer(f"{HTTPStatus(code).phrase}.", schema, "application/problem+json")
