"""Types of bodies, and what reads them."""

import dataclasses
import enum
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest
from typing_extensions import TypedDict

from streams.common.exception_text import describe_error
from streams.errors import InvalidData
from streams.events.codec import decode, encode_body
from streams.events.event import Event
from streams.handlers.routes import Route


class Kind(enum.Enum):
    CARD = "card"
    CASH = "cash"


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    count: int = 1


@dataclasses.dataclass
class Order:
    id: int
    placed: datetime
    kind: Kind = Kind.CARD
    lines: list[Line] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    id: int
    placed: datetime
    kind: Kind = Kind.CARD
    lines: list[Line] = []
    when: date | None = None
    reference: UUID | None = None
    shown_as: str = pydantic.Field("", alias="shownAs")


class Row(TypedDict, total=False):
    id: int
    placed: datetime


def received(body: Any, content_type: str | None = None) -> Event[Any]:
    raw = body if isinstance(body, bytes) else encode_body(body)
    fields = [b"type", b"t", b"id", b"1", b"data", raw]
    if content_type is not None:
        fields += [b"meta", json.dumps({"datacontenttype": content_type}).encode()]
    return decode(fields)


def read(kind: Any, body: Any, content_type: str | None = None) -> Any:
    """What a handler of ``Event[kind]`` is given as data."""

    def handler(event): ...

    handler.__annotations__["event"] = Event[kind]
    event = received(body, content_type)
    prepare = Route(handler).prepare
    assert prepare is not None
    prepare(event)
    return event.data


def refusal(kind: Any, body: Any) -> str:
    with pytest.raises(InvalidData) as caught:
        read(kind, body)
    assert caught.value.__context__ is None
    return describe_error(caught.value, "c")["message"]
