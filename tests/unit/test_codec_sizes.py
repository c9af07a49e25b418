"""Limits of the codec: nesting and bytes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import EventTooLarge, MalformedEvent
from streams.events.codec import decode, encode_body
from tests.unit.bodies import LIMIT, fields, quick, refused, values

# Limits


def nested(depth: int, kind: int) -> bytes:
    """A body of exactly this depth: lists, objects, or both, with brackets in strings that must not count."""
    decoy = rb'"[[[{{{ \"[[[ \\\" ]}\\"'
    if kind == 0:
        return b"[" * depth + b"]" * depth
    if kind == 1:
        return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
    if kind == 2:
        return (
            (b"[" + decoy + b",") * (depth - 1)
            + b"["
            + decoy
            + b"]"
            + b"]" * (depth - 1)
        )
    return (
        b"".join(b"[" if i % 2 else b"{" + decoy + b":" for i in range(depth))
        + b"1"
        + b"".join(b"]" if i % 2 else b"}" for i in reversed(range(depth)))
    )


def naive_depth(value: object) -> int:
    if isinstance(value, list):
        return 1 + max(map(naive_depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(naive_depth, value.values()), default=0)
    return 0


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("limit", [2, 5, LIMIT])
def test_nesting_exactly_at_the_limit(kind, limit):
    for depth in (limit - 1, limit):
        body = nested(depth, kind)
        assert naive_depth(json.loads(body)) == depth
        assert decode(
            fields(type="a", data=body), max_nesting=limit
        ).data == json.loads(body)
    assert (
        refused(fields(type="a", data=nested(limit + 1, kind)), max_nesting=limit)
        == "too-deep"
    )


@quick
@given(values, st.integers(0, 6))
def test_nesting_against_a_model(data, limit):
    body = json.dumps(data).encode()
    if naive_depth(data) > limit:
        assert refused(fields(type="a", data=body), max_nesting=limit) == "too-deep"
    else:
        assert decode(fields(type="a", data=body), max_nesting=limit).data == data


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500,
        r"[\"]" * 200,
        '"' + "[" * 500 + '"',
        "{[" * 200,
        '["' + r"\"[" * 200 + '"]',
    ],
)
def test_brackets_in_a_text_are_no_nesting(text):
    assert decode(fields(type="a", data=encode_body({"text": text}))).data == {
        "text": text
    }
    assert decode(fields(type="a", data=encode_body({text: [text] * 3}))).data == {
        text: [text] * 3
    }


def test_a_wide_body_is_not_a_deep_one():
    wide = [{"a": []} for _ in range(1000)]
    assert decode(fields(type="a", data=encode_body(wide))).data == wide


def test_the_producer_refuses_what_consumers_would():
    deep: list = []
    for _ in range(LIMIT - 1):
        deep = [deep]
    assert decode(fields(type="a", data=encode_body(deep))).data == deep
    with pytest.raises(MalformedEvent, match="too-deep"):
        encode_body([deep])


@pytest.mark.parametrize(
    "tail", [rb"\"", rb"\\", b'"', rb'"\\', b"\\", b'"a', b'""', b'"a\\']
)
def test_hostile_strings_cost_time_in_proportion_to_their_size(tail):
    body = b"[" * (LIMIT + 1) + tail * (500_000 // len(tail))
    began = time.process_time()
    assert refused(fields(type="a", data=body)) in ("too-deep", "bad-json")
    assert time.process_time() - began < 2.0


def test_the_limit_on_bytes():
    body = encode_body("x" * 98)
    assert len(body) == 100
    assert encode_body("x" * 98, 100) == body
    assert decode(fields(type="a", data=body), max_bytes=100).data == "x" * 98
    with pytest.raises(EventTooLarge) as caught:
        encode_body("x" * 99, 100)
    assert (caught.value.size, caught.value.limit) == (101, 100)
    with pytest.raises(EventTooLarge):
        encode_body(b"x" * 101, 100)
    with pytest.raises(EventTooLarge):
        decode(fields(type="a", data=body), max_bytes=99)


def test_a_body_over_the_limit_is_not_parsed():
    with pytest.raises(EventTooLarge):
        decode(fields(type="a", data=b"\xff" * 101), max_bytes=100)


def test_metadata_has_the_limit_on_bytes_too():
    with pytest.raises(EventTooLarge):
        decode(
            fields(type="a", data="1", meta=json.dumps({"subject": "x" * 100})),
            max_bytes=100,
        )
