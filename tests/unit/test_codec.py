"""The wire format: what goes in comes out, what is broken is refused by a word, and nobody is told the body."""

from __future__ import annotations

import dataclasses
import json
import time
import traceback

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from streams.errors import EventError, EventTooLarge, MalformedEvent
from streams.events import codec
from streams.events.codec import (
    check_id,
    check_type,
    decode,
    encode_body,
    encode_meta,
    is_json,
)
from streams.events.event import CLOUD_NAMES, META_NAMES, Event

CANARY = "canary-7f3a"
LIMIT = codec.MAX_NESTING
quick = settings(deadline=None, database=None, max_examples=60)

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=10), inner, max_size=5),
    ),
    max_leaves=20,
)
metas = st.fixed_dictionaries(
    {},
    optional={
        "source": st.text(),
        "time": st.text(),
        "subject": st.text(),
        "key": st.text(),
        "tenant": st.text(),
        "instance": st.text(),
        "dataschema": st.text(),
        "traceparent": st.text(),
        "tracestate": st.text(),
        "version": st.text(),
        "max_retries": st.integers(0, 1_000_000),
        "retry_delay": st.floats(0, 1e11),
        "expires": st.one_of(st.integers(0, 10**11), st.floats(0, 1e11)),
        "datacontenttype": st.sampled_from(
            ["application/json", "application/vnd.x+json", "text/json; charset=utf-8"]
        ),
        "extra": values,
    },
)


def fields(**named: bytes | str) -> list[bytes]:
    return [
        part
        for name, value in named.items()
        for part in (
            name.encode(),
            value if isinstance(value, bytes) else value.encode(),
        )
    ]


def refused(stored: list[bytes], **limits: int) -> str:
    with pytest.raises(MalformedEvent) as caught:
        decode(stored, **limits)
    return caught.value.reason


# Round trips


@quick
@given(
    st.lists(
        st.one_of(
            values, st.floats(), st.just({"x": [float("nan")]}), st.just(object())
        ),
        max_size=6,
    )
)
def test_many_bodies_are_written_as_each_alone(items):
    """Whether one look at all of them suffices or each is looked at: the same bytes, or the same refusal."""

    def outcome(write):
        try:
            return write()
        except EventError as error:
            return str(error)

    assert outcome(lambda: codec.encode_all(items)) == outcome(
        lambda: [codec.encode_json(item) for item in items]
    )


@pytest.mark.parametrize("deep", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_one_deep_body_among_many_flat_ones(deep, kind):
    body = 0
    for _ in range(deep):
        body = [body] if kind == "list" else {"a": body}
    items = [{"a": 1}, body, "text with {{{{ and [[ inside"]
    if deep > LIMIT:
        with pytest.raises(MalformedEvent):
            codec.encode_all(items)
    else:
        assert len(codec.encode_all(items)) == 3


@quick
@given(values, metas, st.text(min_size=1, max_size=50), st.text(max_size=50))
def test_what_is_encoded_is_decoded(data, meta, kind, ident):
    event = decode(
        fields(type=kind, id=ident, data=encode_body(data), meta=encode_meta(meta))
    )
    assert (event.type, event.id) == (kind, ident)
    assert event.data == data
    assert event.raw == encode_body(data)
    assert event.meta == meta


@quick
@given(values)
def test_the_short_form_and_the_long_form_agree(data):
    body = encode_body(data)
    short = decode([b"type", b"a", b"id", b"1", b"data", body])
    for other in (
        [b"data", body, b"type", b"a", b"id", b"1"],
        [b"type", b"a", b"id", b"1", b"data", body, b"meta", b"{}"],
        [b"type", b"a", b"id", b"1", b"data", body, b"unknown", b"\xff"],
    ):
        long = decode(other)
        for name in (
            "type",
            "id",
            "data",
            "raw",
            "meta",
            "group",
            "replays",
            "priority",
            "attempt",
            "entry_id",
            "stream",
        ):
            assert getattr(short, name) == getattr(long, name), name
        assert repr(short) == repr(long)


@quick
@given(values)
def test_bodies_are_json_for_everybody(data):
    assert json.loads(encode_body(data)) == data


@quick
@given(st.binary())
def test_bytes_pass_as_they_are(data):
    for given_as in (data, bytearray(data), memoryview(data)):
        assert encode_body(given_as) == data
    event = decode(
        fields(
            type="a", data=data, meta='{"datacontenttype":"application/octet-stream"}'
        )
    )
    assert event.data == event.raw == data


@quick
@given(
    st.text(), st.sampled_from(["text/plain", "text/html; charset=utf-8", "TEXT/CSV"])
)
def test_text_of_another_media_type_round_trips(text, content_type):
    body = encode_body(text, content_type=content_type)
    assert body == text.encode()
    assert (
        decode(
            fields(
                type="a", data=body, meta=encode_meta({"datacontenttype": content_type})
            )
        ).data
        == text
    )


def test_what_is_neither_json_nor_text_needs_bytes():
    with pytest.raises(EventError, match="text or bytes, not dict"):
        encode_body({"a": CANARY}, content_type="application/xml")
    assert encode_body("<a/>", content_type="application/xml") == b"<a/>"
    assert (
        decode(
            fields(type="a", data="<a/>", meta='{"datacontenttype":"application/xml"}')
        ).data
        == b"<a/>"
    )


def test_decoded_events_do_not_share_metadata():
    one = decode(fields(type="a", id="1", data="1"))
    one.meta["tenant"] = "acme"
    assert decode(fields(type="a", id="1", data="1")).meta == {}
    assert Event("a", 1).meta == {}


# Foreign entries


def test_type_and_data_are_enough():
    event = decode([b"type", b"order.created", b"data", b'{"id":1}'])
    assert (event.type, event.data, event.raw) == (
        "order.created",
        {"id": 1},
        b'{"id":1}',
    )
    assert (event.id, event.meta, event.group, event.replays) == ("", {}, "", 0)
    assert (event.delay, event.dedup_id, event.expires_in) == (0.0, None, None)
    assert repr(event) == "<Event order.created id=- entry=- attempt=0>"


@quick
@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=9), st.binary(max_size=9), max_size=5
    )
)
def test_unknown_fields_do_no_harm(extra):
    known = {b"type", b"data", b"id", b"meta", b"replays", b"group"}
    assume(not known & set(extra))
    stored = [b"type", b"a", b"data", b"1"]
    for name, value in extra.items():
        stored += [name, value]
    event = decode(stored)
    assert (event.type, event.data, event.meta) == ("a", 1, {})


@quick
@given(
    st.dictionaries(
        st.text(max_size=9).filter(lambda n: n not in META_NAMES), values, max_size=4
    )
)
def test_unknown_names_in_meta_are_kept(extra):
    event = decode(fields(type="a", data="1", meta=json.dumps(extra)))
    assert event.meta == extra
    assert event.headers == extra


@pytest.mark.parametrize(
    "order", [["data", "type"], ["id", "data", "type"], ["data", "id", "type", "meta"]]
)
def test_the_order_of_the_fields_is_free(order):
    every = {"type": b"a", "data": b"[1]", "id": b"x", "meta": b'{"key":"k"}'}
    event = decode([part for name in order for part in (name.encode(), every[name])])
    assert (event.type, event.data) == ("a", [1])


@pytest.mark.parametrize(
    ("replays", "count"),
    [
        ("1", 1),
        ("12", 12),
        ("", 0),
        ("-1", 0),
        ("x", 0),
        ("1.5", 0),
        ("9" * 5000, 0),
        ("999999999", 999999999),
        ("²", 0),
    ],
)
def test_what_a_replay_writes(replays, count):
    event = decode(fields(type="a", data="1", replays=replays, group="billing"))
    assert (event.replays, event.group) == (count, "billing")


def test_a_group_that_is_no_text_is_nobodys_group():
    assert decode(fields(type="a", data="1", group=b"\xff")).group == "\ufffd"


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


# Anything


field_names = st.one_of(
    st.sampled_from([b"type", b"id", b"data", b"meta", b"group", b"replays"]),
    st.binary(max_size=6),
)
json_like = st.text(alphabet='{}[]",:\\0123456789.eE+-truefalsn ü\n', max_size=60).map(
    str.encode
)
junk = st.one_of(st.binary(max_size=60), json_like)


@settings(deadline=None, database=None, max_examples=200)
@given(st.lists(st.one_of(field_names, junk), max_size=12))
@example([b"type", b"a", b"id", b"", b"data", b'"'])
def test_any_fields_are_an_event_or_an_event_error(stored):
    try:
        event = decode(stored)
    except EventError:
        return
    assert isinstance(event, Event)
    assert isinstance(event.type, str)
    assert isinstance(event.meta, dict)
    repr(event)


@quick
@given(junk, junk)
def test_any_body_and_metadata_are_an_event_or_an_event_error(body, meta):
    try:
        event = decode([b"type", b"a", b"data", body, b"meta", meta])
    except (MalformedEvent, EventTooLarge):
        return
    assert event.raw == body


@quick
@given(
    json_like,
    json_like,
    st.sampled_from(["", '{"datacontenttype":"text/plain"}', '{"key":5}', '{"key":"']),
)
def test_what_is_said_never_holds_the_body(before, after, meta):
    for tail in (b"", b"\xff"):
        body = before + CANARY.encode() + after + tail
        for limits in ({}, {"max_bytes": 5}, {"max_nesting": 0}):
            try:
                decode(
                    [
                        b"type",
                        b"a",
                        b"data",
                        body,
                        b"meta",
                        meta.encode(),
                        b"x",
                        CANARY.encode(),
                    ],
                    **limits,
                )
            except EventError as error:
                shown = "".join(traceback.format_exception(error)) + repr(error)
            else:
                shown = ""
            assert CANARY not in shown


@pytest.mark.parametrize(
    "data",
    [
        {CANARY: {1, 2}},
        [CANARY, "\ud800"],
        CANARY * 100,
        {"a": CANARY, "b": float("nan")},
    ],
)
def test_what_a_producer_is_told_never_holds_the_body(data):
    with pytest.raises(EventError) as caught:
        encode_body(data, 200)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_the_reserved_names_are_the_documented_ones():
    assert set(TEXTS) | {"expires", "retry_delay", "max_retries"} == META_NAMES
    assert not META_NAMES & CLOUD_NAMES


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a":"hush', "line 1, column 11"),
        (b'{"a":1,\n "phone": hush}', "line 2, column 11"),
        (b"\xff", "line 1, column 1"),
    ],
)
def test_a_body_that_is_no_json_is_told_by_its_place_and_never_by_its_text(body, place):
    with pytest.raises(MalformedEvent) as caught:
        decode(fields(type="a", data=body))
    assert str(caught.value) == f"bad-json: 'data' is no JSON ({place})"
