"""``Event[T]``: what an annotation may be, and what becomes of a body that fits it."""

import dataclasses
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError, EventError, InvalidData
from streams.events.codec import encode_body
from streams.events.event import Event
from streams.handlers.routes import Route
from tests.unit import typed_samples as samples
from tests.unit.typed_bodies import (
    Kind,
    Line,
    Model,
    Order,
    Row,
    read,
    received,
    refusal,
)

T = TypeVar("T")


class Tree(pydantic.BaseModel):
    name: str
    below: list["Tree"] = []


# --- annotations


@pytest.mark.parametrize("name", samples.TYPED)
def test_wherever_the_annotation_stands_it_is_found(name):
    event = received({"id": "5"})
    prepare = Route(samples.TYPED[name]).prepare
    assert prepare is not None
    prepare(event)
    assert event.data == samples.Order(5)


def test_texts_inside_an_annotation_and_an_unknown_return_type():
    event = received([{"id": 1}])
    Route(samples.nested).prepare(event)
    assert event.data == [samples.Order(1)]
    assert Route(samples.return_is_unknown).prepare is not None


@pytest.mark.parametrize("function", samples.UNTYPED)
def test_what_says_nothing_about_the_body_costs_nothing(function):
    assert Route(function).prepare is None


def test_type_variables_and_missing_annotations_say_nothing():
    def generic(event: Event[T]) -> None: ...

    for function in (generic, lambda event: None, lambda *events: None, print):
        assert Route(function).prepare is None


def test_an_annotation_with_names_of_the_enclosing_function():
    @dataclasses.dataclass
    class Local:
        id: int

    def handler(event: "Event[Local]") -> Any:
        return Local

    event = received({"id": 1})
    Route(handler).prepare(event)
    assert event.data == Local(1)


def test_what_the_enclosing_function_assigns_below_the_handler_is_no_hindrance():
    def handler(event: "Event[int]") -> Any:
        return later

    assert Route(handler).prepare is not None
    later = 5
    assert handler(None) == later


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (samples.missing, "names 'Missing'"),
        (samples.for_the_checker_typed, "names 'Event'"),
        (samples.broken, "cannot be evaluated"),
        (samples.optional, r"write Event\[A \| B\]"),
    ],
)
def test_annotations_that_cannot_be_resolved_are_refused_with_what_to_do(
    function, words
):
    with pytest.raises(ConfigurationError, match=words) as caught:
        Route(function)
    assert function.__name__ in str(caught.value)


def test_an_unresolved_name_inside_a_model_is_refused_too():
    class Unfinished(pydantic.BaseModel):
        other: "NotThere"  # noqa: F821

    def handler(event: Event[Unfinished]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"NotThere|not fully defined"):
        Route(handler)


def test_a_subclass_of_event_is_refused_because_none_will_come():
    class OrderPlaced(Event[Order]): ...

    class Of(Event[T], Generic[T]): ...

    def placed(event: OrderPlaced) -> None: ...

    def of(event: Of[Order]) -> None: ...

    for function in (placed, of):
        with pytest.raises(ConfigurationError, match="not one of its subclasses"):
            Route(function)


def test_a_type_that_cannot_be_validated_is_refused():
    class Custom: ...

    def handler(event: Event[Custom]) -> None: ...

    with pytest.raises(
        ConfigurationError, match="Use a dataclass, a TypedDict or a pydantic model"
    ):
        Route(handler)


# --- what fits


BODY = {
    "id": 7,
    "placed": "2026-01-02T03:04:05Z",
    "kind": "cash",
    "lines": [{"sku": "a", "price": "1.10"}, {"sku": "b", "price": 2, "count": 3}],
}

LINES = [Line("a", Decimal("1.10")), Line("b", Decimal(2), 3)]

PLACED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_body_becomes_what_is_declared():
    assert read(Order, BODY) == Order(7, PLACED, Kind.CASH, LINES)
    model = read(
        Model,
        BODY
        | {"when": "2026-01-02", "reference": "12345678-1234-5678-1234-567812345678"},
    )
    assert (model.kind, model.lines, model.when) == (Kind.CASH, LINES, date(2026, 1, 2))
    assert read(Row, {"id": 7, "placed": "2026-01-02T03:04:05Z"}) == {
        "id": 7,
        "placed": PLACED,
    }
    assert read(Tree, {"name": "a", "below": [{"name": "b"}]}).below[0].name == "b"
    assert read(list[int], [1, "2"]) == [1, 2]
    assert read(Order | None, None) is None
    assert read(None, None) is None
    assert read(Literal["a", "b"], "a") == "a"
    assert read(set[int], [1, 1]) == {1}


def test_strict_models_read_what_json_cannot_say_otherwise():
    class Strict(pydantic.BaseModel, strict=True):
        placed: datetime
        kind: Kind
        price: Decimal

    assert (
        read(
            Strict, {"placed": "2026-01-02T03:04:05Z", "kind": "cash", "price": "1.10"}
        ).placed
        == PLACED
    )


def test_bodies_that_are_not_json():
    assert read(bytes, b"\x00\x01", "application/octet-stream") == b"\x00\x01"
    assert read(str, b"hello", "text/plain") == "hello"
    with pytest.raises(InvalidData):
        read(Order, b"\x00", "application/octet-stream")


@pytest.mark.parametrize(
    ("kind", "fits", "does_not"),
    [
        (dict, {"a": 1}, [1]),
        (dict[str, Any], {}, 1),
        (list, [1], {}),
        (list[Any], [], None),
        (str, "a", 1),
    ],
)
def test_types_that_json_has_by_itself_need_no_library(kind, fits, does_not):
    assert read(kind, fits) == fits
    assert refusal(kind, does_not).startswith(
        f"the body is of type {type(does_not).__name__}, the handler takes "
    )


ROUND_TRIPS = [
    Order(1, PLACED, Kind.CASH, LINES),
    Model(id=1, placed=PLACED, lines=LINES, when=date(2026, 1, 2), shownAs="x"),
    Tree(name="a", below=[Tree(name="b", below=[Tree(name="c")])]),
]


@pytest.mark.parametrize("value", ROUND_TRIPS, ids=lambda value: type(value).__name__)
def test_what_is_published_is_what_comes_back(value):
    assert read(type(value), value) == value
    assert read(list[type(value)], [value, value]) == [value, value]
    assert read(dict[str, type(value)], {"x": value}) == {"x": value}


def test_a_model_inside_a_dataclass():
    @dataclasses.dataclass
    class Holder:
        model: Model

    holder = Holder(Model(id=1, placed=PLACED, shownAs="y"))
    assert read(Holder, holder) == holder


@given(
    st.integers(-(2**53), 2**53),
    st.datetimes(timezones=st.just(UTC)),
    st.decimals(allow_nan=False, places=2),
)
def test_any_values_come_back(number, time, price):
    if not price.is_finite():
        return
    order = Order(number, time, Kind.CARD, [Line("x", price)])
    assert read(Order, order) == order
    model = Model(id=number, placed=time, lines=[Line("x", price)])
    assert read(Model, model) == model


def test_what_cannot_be_written_is_refused_by_type_only():
    class Secret(pydantic.BaseModel):
        text: str

        @pydantic.field_serializer("text")
        def _dump(self, text):
            raise ValueError(text)

    class Number(pydantic.BaseModel):
        value: float

    for data, words in [
        (Secret(text="hush"), "Secret.model_dump raised"),
        ({"a": object()}, "object"),
        (Number(value=float("nan")), "NaN"),
        ({"a": Number(value=float("inf"))}, "NaN"),
        (Decimal("NaN"), "Decimal"),
        (Secret, "JSON serializable"),
    ]:
        with pytest.raises(EventError, match=words) as caught:
            encode_body(data)
        assert "hush" not in str(caught.value)


# --- without the library


def test_without_pydantic_a_typed_handler_names_the_extra_and_the_rest_works(tmp_path):
    code = """
import sys
sys.modules["pydantic"] = None
import dataclasses
from streams import ConfigurationError, Event, Pipeline
from typing import Any

pipeline = Pipeline("redis://localhost")

@dataclasses.dataclass
class Order:
    id: int

@pipeline.handler("orders", group="a")
async def untyped(event: Event) -> None: ...

@pipeline.handler("orders", group="b")
async def body(event: Event[dict[str, Any]]) -> None: ...

try:
    @pipeline.handler("orders", group="c")
    async def typed(event: Event[Order]) -> None: ...
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert "pip install 'streams[pydantic]'" in done.stdout
    assert "handler typed takes Event[Order]" in done.stdout
