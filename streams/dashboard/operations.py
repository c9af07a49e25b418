"""Operations of the API: routes, checks and the OpenAPI document are made of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.requests import Request

from streams.dashboard.roles import Role
from streams.events.attributes import LONGEST_DELAY, LONGEST_EXPIRY

Schema = Mapping[str, Any]
Act = Callable[[Request, Mapping[str, Any]], Awaitable[tuple[int, Any]]]
NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}
"""Of streams and groups."""
TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 500}
PRINTABLE: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 500,
    "pattern": "^[ -~\u00a1-\u00ac\u00ae-\u02ff]+$",
}
"""Ids and types: printable characters of ASCII and Latin.

The wire format takes more, which no pattern can say.
"""
CURSOR: Schema = {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"}
"""An entry's id, or a dead letter's."""
PARTITION: Schema = {"type": "integer", "minimum": 0, "maximum": 999}
KEY: Schema = {"type": "string", "pattern": "^[!-~]{1,400}$"}
"""Of ``Idempotency-Key``."""
LEVEL: Schema = {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000}
LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}
PRIORITY: Schema = {"type": "integer"}
DELAY: Schema = {"type": "number", "minimum": 0, "maximum": LONGEST_DELAY}
EXPIRES: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_EXPIRY}
_TIME: Schema = {"type": "number", "minimum": 0, "maximum": 1e11}
FILTERS: Mapping[str, Schema] = {
    **dict.fromkeys(("type", "reason", "error", "tenant", "event_id", "text"), TEXT),
    "since": _TIME,
    "until": _TIME,
}


def fields(*needed: str, **properties: Schema) -> Schema:
    """The schema of an object that has no other fields than these."""
    found = {"type": "object", "properties": properties}
    must: Schema = {"required": list(needed)} if needed else {}

    return {**found, **must, "additionalProperties": False}


class Told(NamedTuple):
    """The part of the document about an operation, beside its parameters.

    Attributes:
        tag: the part that it stands in.
        text: an explanation, in a sentence or two.
        answer: the schema of the answer when all goes well.
    """

    tag: str
    text: str
    answer: Schema


_UNTOLD = Told("applications", "", {})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method, path: as in the OpenAPI document, below ``/api/v1``.
        name: its ``operationId``.
        summary: its effect, in a few words.
        role: the least role that it needs.
        publishes: it needs a token that may publish, whatever its role.
        query: parameters, with their schemas.
        needs: parameters that have to be there.
        body: of the request; None for none.
        status: of the answer when all goes well.
        act: does it: takes the request and its checked parameters, and returns the status
            and the answer.
        stream: that it is about where its path names none; a token must reach it.
        told: the part of the document about it.
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
    stream: str = ""
    told: Told = _UNTOLD

    @property
    def takes_partition(self) -> bool:
        """Whether it can be about one partition of its stream: all but publishing."""
        return "{stream}" in self.path and not self.publishes
