"""The operations of the API: one row each, from which routes, checks and the OpenAPI document are made."""

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
"""Ids and types: printable ASCII and Latin letters. The wire format takes more, which no pattern can say."""
CURSOR: Schema = {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"}
"""An entry's id, or a dead letter's."""
PARTITION: Schema = {"type": "integer", "minimum": 0, "maximum": 999}
KEY: Schema = {"type": "string", "pattern": "^[!-~]{1,400}$"}
"""Of ``Idempotency-Key``."""
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


class Told(NamedTuple):
    """What the document says of an operation beside its parameters.

    Attributes:
        tag: the part that it stands in.
        text: what one has to know, in a sentence or two.
        answer: the schema of what is answered when all goes well.
    """

    tag: str
    text: str
    answer: Schema


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
        stream: that it is about where its path names none; a token must reach it.
        told: what the document says of it; of those of the dashboard ``TOLD`` has that.
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
    told: Told | None = None

    @property
    def takes_partition(self) -> bool:
        """Whether it can be about one partition of its stream: all but publishing."""
        return "{stream}" in self.path and not self.publishes
