"""Encoding and decoding: what is written comes back, in each form."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.errors import EventError, MalformedEvent
from streams.events import codec
from streams.events.codec import decode, encode_body, encode_meta
from streams.events.event import META_NAMES, Event
from tests.unit.bodies import CANARY, LIMIT, fields, quick, values

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
