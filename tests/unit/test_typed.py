"""``Event[T]``: what an annotation may be, what fits it, and what is said of a body that does not fit."""

import dataclasses
import enum
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from streams.common.exception_text import describe_error
from streams.errors import ConfigurationError, EventError, InvalidData
from streams.events.codec import decode, encode_body
from streams.events.event import Event
from streams.handlers.routes import Route
from tests.unit import typed_samples as samples

T = TypeVar("T")


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


class Tree(pydantic.BaseModel):
    name: str
    below: list["Tree"] = []


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


# --- what does not fit


def test_location_message_and_type_are_named_and_the_value_is_not():
    text = refusal(
        Model, {"id": "hush", "placed": "hush", "lines": [{"sku": 5, "price": "hush"}]}
    )
    assert (
        "id: Input should be a valid integer, unable to parse string as an integer (int_parsing)"
        in text
    )
    assert "lines.0.price: " in text
    assert "(datetime_from_date_parsing)" in text
    assert "hush" not in text


def test_keys_that_no_field_has_are_values():
    class Closed(pydantic.BaseModel, extra="forbid"):
        amounts: dict[str, int] = {}

    text = refusal(Closed, {"amounts": {"ana@example.org": "x"}, "bob@example.org": 1})
    assert "amounts.*: " in text
    assert "*: Extra inputs are not permitted (extra_forbidden)" in text
    assert "example" not in text


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Pet(pydantic.BaseModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")


class Checked(pydantic.BaseModel):
    phone: str
    count: int = 1

    @pydantic.field_validator("phone")
    @classmethod
    def _check(cls, value):
        raise ValueError(f"{value.upper()} is no phone")

    @pydantic.field_validator("count")
    @classmethod
    def _count(cls, value):
        assert value < 5, f"{value} is too much"
        return value


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (Pet, {"pet": {"kind": "hush"}}, "pet: Input tag '***' found"),
        (
            Checked,
            {"phone": "hush"},
            "phone: Value error, *** is no phone (value_error)",
        ),
        (
            Checked,
            {"phone": "hush", "count": 77},
            "count: Assertion failed, *** is too much",
        ),
        (Checked, {"phone": "+49 170 1234567"}, "*** is no phone"),
    ],
)
def test_messages_that_quote_the_value_are_cleaned(kind, body, words):
    text = refusal(kind, body)
    assert words in text
    for secret in ("hush", "HUSH", "77", "1234567"):
        assert secret not in text


def test_a_validator_that_raises_something_else_is_named_without_its_words():
    class Raising(pydantic.BaseModel):
        name: str

        @pydantic.field_validator("name")
        @classmethod
        def _check(cls, value):
            raise LookupError(value)

    assert (
        refusal(Raising, {"name": "hush"})
        == "the body does not fit: a validator raised LookupError"
    )


def test_many_errors_are_counted():
    text = refusal(list[int], ["x"] * 9)
    assert text.count("int_parsing") <= 5
    with pytest.raises(InvalidData, match="; and 4 more"):
        read(list[int], ["x"] * 9)


SECRETS = st.text("xyz5@ ", max_size=6).map(lambda text: f"hush{text}")


@given(
    st.recursive(
        SECRETS | st.none() | st.just(987654),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                SECRETS
                | st.sampled_from(
                    ["id", "placed", "lines", "sku", "price", "kind", "pet", "phone"]
                ),
                inner,
            )
        ),
    ),
    st.sampled_from(
        [
            Model,
            Order,
            Pet,
            Checked,
            Row,
            dict[str, int],
            list[Line],
            Model | Order | int,
        ]
    ),
)
def test_nothing_of_a_body_is_ever_quoted(body, kind):
    text = ""
    try:
        read(kind, body)
    except InvalidData as error:
        text = str(error)
    assert "hush" not in text
    assert "987654" not in text


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
