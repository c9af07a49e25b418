"""The operations of the API: one row each, from which routes, checks and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from streams.dashboard.accounts import Role

Schema = Mapping[str, Any]
Act = Callable[[Request, Mapping[str, Any]], Awaitable[tuple[int, Any]]]
NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}
TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 500}
PRINTABLE: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 500,
    "pattern": "^[ -~\u00a1-\u00ac\u00ae-\u02ff]+$",
}
"""Ids and types: printable ASCII and Latin letters. The wire format takes more, which no pattern can say."""
CURSOR: Schema = {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"}
PARTITION: Schema = {"type": "integer", "minimum": 0, "maximum": 999}
KEY: Schema = {"type": "string", "pattern": "^[!-~]{1,400}$"}
"""Of ``Idempotency-Key``."""
LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
ATTRIBUTES: Mapping[str, Schema] = {
    "id": PRINTABLE,
    "type": {**PRINTABLE, "maxLength": 200},
    "data": {},
    "priority": {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000},
    "delay": {"type": "number", "minimum": 0, "maximum": 31_536_000},
    "expires": {"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000},
    "key": TEXT,
    "tenant": TEXT,
    "instance": TEXT,
    "subject": TEXT,
    "source": TEXT,
    "dedup_id": PRINTABLE,
    "max_retries": {"type": "integer", "minimum": 0, "maximum": 1000},
    "retry_delay": {"type": "number", "minimum": 0, "maximum": 86_400},
}
EVENT: Schema = {
    "type": "object",
    "properties": ATTRIBUTES,
    "required": ["type", "data"],
    "additionalProperties": False,
}
_TIME: Schema = {"type": "number", "minimum": 0, "maximum": 1e11}
FILTERS: Mapping[str, Schema] = {
    **dict.fromkeys(("type", "reason", "error", "tenant", "event_id", "text"), TEXT), "since": _TIME, "until": _TIME,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method, path: as in the OpenAPI document, below ``/api/v1``.
        name: its ``operationId``.
        summary: what it does.
        role: who may; the least of them.
        publishes: it needs a token that may publish, whatever its role.
        query: parameters, with their schemas.
        needs: parameters that have to be there.
        body: of the request; None for none.
        status: of the answer when all goes well.
        act: does it: given the request and what was sent, returns the status and what is answered.
    """

    method: str
    path: str
    name: str
    summary: str
    act: Act
    role: Role = Role.VIEWER
    publishes: bool = False
    query: Mapping[str, Schema] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    body: Schema | None = None
    status: int = 200

    @property
    def takes_partition(self) -> bool:
        """Whether it can be about one partition of its stream: all but publishing."""
        return "{stream}" in self.path and not self.publishes


def document(operations: list[Operation], root: str, version: str, *, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document (3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": NAME if name in ("stream", "group") else TEXT}
            for name in _placeholders(operation.path)
        ]
        parameters += [
            {"name": name, "in": "query", "required": name in operation.needs, "schema": schema}
            for name, schema in operation.query.items()
        ]
        if operation.takes_partition:
            parameters.append({"name": "partition", "in": "query", "schema": PARTITION})
        if operation.publishes:
            parameters.append({"name": "Idempotency-Key", "in": "header", "schema": KEY})
        described: dict[str, Any] = {
            "operationId": operation.name,
            "summary": operation.summary,
            "parameters": parameters,
            # What was published before is answered with 200.
            "responses": {str(code): _answer("application/json", {}) for code in sorted({operation.status, 200})}
            | {
                str(code): _answer("application/problem+json", {"$ref": "#/components/schemas/Problem"})
                for code in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
            },
        }
        if operation.body is not None:
            content = {"application/json": {"schema": operation.body}}
            described["requestBody"] = {"required": True, "content": content}
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "streams", "version": version},
        "servers": [{"url": f"{root}/api/v1"}],
        "security": [{"token": []}] if needs_token else [],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                    "required": ["title", "status"],
                }
            },
        },
    }  # fmt: skip


def _placeholders(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _answer(kind: str, schema: Schema) -> dict[str, Any]:
    return {"description": "", "content": {kind: {"schema": schema}}}
