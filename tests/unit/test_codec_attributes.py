"""Attributes of an event on the wire: their names, their types, and the word for each way to be malformed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import EventError, MalformedEvent
from streams.events.codec import (
    check_id,
    check_type,
    decode,
    encode_body,
    encode_meta,
    is_json,
)
from streams.events.event import CLOUD_NAMES, META_NAMES
from tests.unit.bodies import fields, quick, refused

# Refusals


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ([], "no-type"),
        (fields(data="1"), "no-type"),
        (fields(type="", data="1"), "no-type"),
        (fields(Type="a", data="1"), "no-type"),
        (fields(type="a"), "no-data"),
        (fields(type="a", id="1", meta="{}"), "no-data"),
        ([b"type", b"a", b"data"], "no-data"),
        (fields(type=b"\xff", data="1"), "bad-text"),
        (fields(type="a", id=b"\xff", data="1"), "bad-text"),
        (
            fields(type="a", data=b"\xff", meta='{"datacontenttype":"text/plain"}'),
            "bad-text",
        ),
        (fields(type="a", data=""), "bad-json"),
        (fields(type="a", data="{"), "bad-json"),
        (fields(type="a", data="nothing"), "bad-json"),
        (fields(type="a", data="[1,]"), "bad-json"),
        (fields(type="a", data="{'a':1}"), "bad-json"),
        (fields(type="a", data="1 2"), "bad-json"),
        (fields(type="a", data="01"), "bad-json"),
        (fields(type="a", data='"\n"'), "bad-json"),
        (fields(type="a", data=b"\xef\xbb\xbf1"), "bad-json"),
        (fields(type="a", data=b'"\xff"'), "bad-json"),
        (fields(type="a", data="NaN"), "bad-json"),
        (fields(type="a", data="[Infinity]"), "bad-json"),
        (fields(type="a", data="-Infinity"), "bad-json"),
        (fields(type="a", data="1e999"), "bad-json"),
        (fields(type="a", data="-1e999"), "bad-json"),
        (fields(type="a", data="9" * 5000), "bad-json"),
        (fields(type="a", data=r'"\ud800"'), "bad-json"),
        (fields(type="a", data=b'"\xed\xa0\x80"'), "bad-json"),
        (fields(type="a", data="1", meta="{"), "bad-json"),
        (fields(type="a", data="1", meta="[]"), "bad-meta"),
        (fields(type="a", data="1", meta="null"), "bad-meta"),
        (fields(type="a", data="1", meta='"text"'), "bad-meta"),
        (fields(type="a", data="1", meta=b"\xff"), "bad-json"),
        (fields(type="a", data="[" * 65 + "]" * 65), "too-deep"),
        (
            fields(type="a", data="1", meta='{"a":' + "[" * 64 + "]" * 64 + "}"),
            "too-deep",
        ),
    ],
)
def test_every_way_to_be_malformed_has_its_word(stored, reason):
    assert refused(stored) == reason


TEXTS = [
    "source",
    "time",
    "subject",
    "key",
    "tenant",
    "instance",
    "datacontenttype",
    "dataschema",
    "traceparent",
    "tracestate",
    "version",
]

BAD_META = [
    *((name, bad) for name in TEXTS for bad in (1, None, True, ["a"], {})),
    *(
        (name, bad)
        for name in ("expires", "retry_delay")
        for bad in (-1, "5", None, True, 1e12, [], -0.1)
    ),
    *(("max_retries", bad) for bad in (-1, 1.0, "3", None, True, 1_000_001, 2**63)),
]


@pytest.mark.parametrize(("name", "value"), BAD_META)
def test_every_reserved_name_is_checked_in_both_directions(name, value):
    assert (
        refused(fields(type="a", data="1", meta=json.dumps({name: value})))
        == "bad-meta"
    )
    with pytest.raises(MalformedEvent, match=f"bad-meta: '{name}'"):
        encode_meta({name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["expires", "retry_delay"])
def test_times_in_meta_are_finite(name, value):
    with pytest.raises(MalformedEvent, match=name):
        encode_meta({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", 0),
        ("max_retries", 1_000_000),
        ("retry_delay", 0),
        ("expires", 0.5),
    ],
)
def test_the_ends_of_the_allowed_ranges(name, value):
    assert decode(fields(type="a", data="1", meta=encode_meta({name: value}))).meta == {
        name: value
    }


def test_an_integer_over_64_bits_arrives_as_a_float():
    assert decode(fields(type="a", data=str(2**64 - 1))).data == 2**64 - 1
    assert isinstance(decode(fields(type="a", data=str(2**64))).data, float)


@dataclasses.dataclass
class Order:
    amount: float


@pytest.mark.parametrize(
    "data",
    [
        *(
            float("nan"),
            float("inf"),
            [1, {"a": (2, float("-inf"))}],
            {"n": None, "x": float("nan")},
        ),
        *(Order(float("nan")), [Order(1.0), {"o": Order(float("inf"))}]),
        *(
            10**30,
            -(2**63) - 1,
            "\ud800",
            {"\ud800": 1},
            {1: 2},
            {1, 2},
            object(),
            {"a": b"x"},
            print,
        ),
    ],
)
def test_what_cannot_be_a_body(data):
    with pytest.raises(EventError, match="cannot be written as JSON"):
        encode_body(data)


def test_null_is_a_body_and_so_is_a_text_that_says_so():
    assert encode_body(None) == b"null"
    assert encode_body({"a": [None, "null", 1.5]}) == b'{"a":[null,"null",1.5]}'
    assert encode_body(Order(1.5)) == b'{"amount":1.5}'


def test_a_body_that_contains_itself_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(EventError):
        encode_body(loop)


# Types and ids


@quick
@given(st.text(max_size=210))
def test_the_rule_for_types(name):
    if 1 <= len(name) <= 200 and name.isprintable():
        assert check_type(name) == name
    else:
        with pytest.raises(EventError, match="1 to 200 printable"):
            check_type(name)


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a\x1b[31m", "a\u202e", "x" * 201, None, 5, b"a", "\ud800"]
)
def test_refused_types(name):
    with pytest.raises(EventError):
        check_type(name)


@pytest.mark.parametrize(
    "ident", ["", "a\n", "x" * 501, None, 5, b"a", "\ud800", "a\x00"]
)
def test_refused_ids(ident):
    with pytest.raises(EventError, match="dedup_id"):
        check_id(ident, "dedup_id")


@pytest.mark.parametrize("ident", ["a", "with spaces in it", "x" * 500, "ü|#1"])
def test_allowed_ids(ident):
    assert check_id(ident) == ident


@pytest.mark.parametrize(
    ("content_type", "json_or_not"),
    [
        (None, True),
        ("application/json", True),
        ("application/JSON", True),
        ("application/json; charset=utf-8", True),
        ("application/cloudevents+json", True),
        ("application/vnd.acme.v1+json;q=1", True),
        ("text/json", True),
        ("", False),
        ("json", False),
        ("text/plain", False),
        ("application/jsonp", False),
        ("application/json+xml", False),
        ("application/octet-stream", False),
        ("image/json", False),
    ],
)
def test_which_media_types_are_json(content_type, json_or_not):
    assert is_json(content_type) is json_or_not


def test_the_reserved_names_are_the_documented_ones():
    assert set(TEXTS) | {"expires", "retry_delay", "max_retries"} == META_NAMES
    assert not META_NAMES & CLOUD_NAMES
