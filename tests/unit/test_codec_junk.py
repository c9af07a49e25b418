"""Whatever bytes arrive, decoding gives an event or its error, and no message has a part of the body."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.errors import EventError, EventTooLarge, MalformedEvent
from streams.events.codec import decode, encode_body
from streams.events.event import Event
from tests.unit.bodies import CANARY, fields, quick

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
