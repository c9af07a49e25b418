"""``Event[T]``: what is said of a body that does not fit, and that nothing of it is quoted."""

from typing import Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import InvalidData
from tests.unit.typed_bodies import Line, Model, Order, Row, read, refusal


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
