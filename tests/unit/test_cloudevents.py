"""CloudEvents 1.0, JSON format: there and back without loss, and what is no CloudEvent is refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import MalformedEvent
from streams.events.cloudevents import from_cloudevent, to_cloudevent
from streams.events.codec import decode, encode_body, encode_meta
from streams.events.event import CLOUD_NAMES, META_NAMES, Event

CANARY = "canary-7f3a"
quick = settings(deadline=None, database=None, max_examples=50)
MINIMAL = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}

words = st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=20
)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=10)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)
headers = st.dictionaries(
    st.text("abcxyz0129", min_size=1, max_size=20),
    st.one_of(st.text(), st.integers(-(2**31), 2**31 - 1), st.booleans()),
    max_size=3,
)
metas = st.fixed_dictionaries(
    {"source": words},
    optional={
        **dict.fromkeys(
            ("subject", "key", "tenant", "instance", "time", "dataschema", "version"),
            words,
        ),
        **dict.fromkeys(("traceparent", "tracestate"), words),
        "max_retries": st.integers(0, 100),
        "retry_delay": st.integers(0, 1000),
        "expires": st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000),
    },
)


def stored(
    data: object, meta: dict, priority: int = 0, ident: str = "e-1", kind: str = "a"
) -> Event:
    """An event as a consumer has it."""
    body = encode_body(data, content_type=meta.get("datacontenttype"))
    event = decode(
        [
            b"type",
            kind.encode(),
            b"id",
            ident.encode(),
            b"data",
            body,
            b"meta",
            encode_meta(meta),
        ]
    )
    event.priority = priority
    return event


def there_and_back(event: Event) -> Event:
    return from_cloudevent(json.loads(json.dumps(to_cloudevent(event))))


def assert_same(one: Event, other: Event) -> None:
    assert (one.type, one.id, one.data, one.priority) == (
        other.type,
        other.id,
        other.data,
        other.priority,
    )
    assert one.meta == other.meta


@quick
@given(values, metas, headers, st.integers(-100, 100), words, words)
def test_json_events_survive_the_round_trip(data, meta, extra, priority, ident, kind):
    event = stored(data, meta | extra, priority, ident, kind)
    assert_same(there_and_back(event), event)


@quick
@given(
    st.binary(max_size=40),
    metas,
    st.sampled_from(["application/octet-stream", "image/png", "application/json"]),
)
def test_binary_events_survive_the_round_trip(data, meta, content_type):
    event = Event("a", data, id="1")
    event.meta = meta | {"datacontenttype": content_type}
    cloud = to_cloudevent(event)
    assert base64.b64decode(cloud["data_base64"]) == data
    assert "data" not in cloud
    assert_same(there_and_back(event), event)


@quick
@given(st.text(), metas)
def test_text_events_survive_the_round_trip(text, meta):
    event = stored(text, meta | {"datacontenttype": "text/plain"})
    assert to_cloudevent(event)["data"] == text
    back = there_and_back(event)
    assert_same(back, event)
    assert (
        encode_body(back.data, content_type=back.meta["datacontenttype"]) == event.raw
    )


@quick
@given(
    values,
    st.dictionaries(
        st.from_regex(r"x[a-z0-9]{1,18}", fullmatch=True), st.text(), max_size=4
    ),
)
def test_a_foreign_cloudevent_survives_the_round_trip(data, extensions):
    cloud = MINIMAL | {"data": data, "datacontenttype": "application/json"} | extensions
    assert to_cloudevent(from_cloudevent(cloud)) == cloud


@quick
@given(
    st.dictionaries(
        st.sampled_from([*CLOUD_NAMES, *META_NAMES, "other"]), st.integers(0, 9)
    )
)
def test_the_facts_of_the_event_are_not_overwritten_by_metadata(extra):
    event = Event("a", {"b": 1}, id="e-1")
    numbers = {"expires", "retry_delay", "max_retries"}
    event.meta = {
        name: str(value) if name in META_NAMES - numbers else value
        for name, value in extra.items()
    }
    cloud = to_cloudevent(event)
    assert (cloud["specversion"], cloud["id"], cloud["type"], cloud["data"]) == (
        "1.0",
        "e-1",
        "a",
        {"b": 1},
    )
    assert "data_base64" not in cloud
    from_cloudevent(cloud)


@pytest.mark.parametrize(
    ("ours", "value", "theirs"),
    [
        ("key", "42", "partitionkey"),
        ("max_retries", 7, "maxretries"),
        ("retry_delay", 2.5, "retrydelay"),
        ("version", "2", "dataversion"),
        *(
            (name, "x", name)
            for name in (
                "source",
                "time",
                "subject",
                "tenant",
                "instance",
                "dataschema",
                "traceparent",
                "tracestate",
            )
        ),
        ("datacontenttype", "application/vnd.x+json", "datacontenttype"),
        ("trial", True, "trial"),
    ],
)
def test_what_each_name_is_called(ours, value, theirs):
    cloud = to_cloudevent(stored(1, {ours: value}))
    assert cloud[theirs] == value
    assert from_cloudevent(cloud).meta[ours] == value


def test_a_plain_event():
    assert to_cloudevent(stored({"a": 1}, {})) == {
        "specversion": "1.0",
        "id": "e-1",
        "type": "a",
        "source": "/streams",
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }
    assert to_cloudevent(stored(1, {}), "/shop")["source"] == "/shop"


def test_priority_is_an_extension_unless_it_is_the_default():
    assert "priority" not in to_cloudevent(stored(1, {}))
    assert to_cloudevent(stored(1, {}, 10))["priority"] == 10
    assert from_cloudevent(MINIMAL | {"priority": -3}).priority == -3


def test_expiry_is_a_time():
    cloud = to_cloudevent(stored(1, {"expires": 1893456000.25}))
    assert datetime.fromisoformat(cloud["expirytime"]) == datetime.fromtimestamp(
        1893456000.25, UTC
    )
    assert from_cloudevent(cloud).expires == 1893456000.25
    assert (
        from_cloudevent(MINIMAL | {"expirytime": "2030-01-01T00:00:00Z"}).expires
        == 1893456000
    )
    assert (
        from_cloudevent(MINIMAL | {"expirytime": "2030-01-01T02:00:00+02:00"}).expires
        == 1893456000
    )


def test_an_expiry_beyond_what_a_date_can_say():
    assert to_cloudevent(stored(1, {"expires": 9e11}))["expirytime"].startswith(
        "9999-12-31"
    )


def test_an_event_to_publish_keeps_its_id_and_is_not_delayed():
    event = from_cloudevent(MINIMAL | {"data": [1]})
    assert (event.id, event.type, event.data, event.source) == (
        "1",
        "order.created",
        [1],
        "/shop",
    )
    assert (event.delay, event.dedup_id, event.expires_in) == (0.0, None, None)


def test_no_data_is_null():
    assert from_cloudevent(MINIMAL).data is None
    assert from_cloudevent(MINIMAL | {"data": None}).data is None


def test_an_attribute_that_is_null_is_absent():
    nulls = dict.fromkeys(
        (
            "subject",
            "time",
            "priority",
            "expirytime",
            "data_base64",
            "partitionkey",
            "datacontenttype",
        )
    )
    event = from_cloudevent(MINIMAL | {"data": 5} | nulls)
    assert event.data == 5
    assert event.meta == {"source": "/shop"}


@pytest.mark.parametrize(
    ("change", "reason", "word"),
    [
        ({"specversion": "0.3"}, "bad-cloudevent", "specversion"),
        ({"specversion": 1.0}, "bad-cloudevent", "specversion"),
        ({"specversion": None}, "bad-cloudevent", "specversion"),
        *(
            ({name: bad}, "bad-cloudevent", name)
            for name in ("id", "source", "type")
            for bad in ("", None, 5, [])
        ),
        ({"type": "a\nb"}, "bad-cloudevent", "type"),
        ({"type": "x" * 201}, "bad-cloudevent", "type"),
        ({"id": "a\nb"}, "bad-cloudevent", "id"),
        ({"data_base64": "***"}, "bad-cloudevent", "data_base64"),
        ({"data_base64": "YQ"}, "bad-cloudevent", "data_base64"),
        ({"data_base64": 5}, "bad-cloudevent", "data_base64"),
        ({"data_base64": "ü"}, "bad-cloudevent", "data_base64"),
        ({"data_base64": "YQ==", "data": 1}, "bad-cloudevent", "both"),
        *(
            ({"priority": bad}, "bad-cloudevent", "priority")
            for bad in ("5", 1.5, True, [])
        ),
        *(
            ({"expirytime": bad}, "bad-cloudevent", "expirytime")
            for bad in ("soon", "", 5, "2030-01-01T00:00:00", [])
        ),
        ({"expirytime": "1960-01-01T00:00:00Z"}, "bad-meta", "expires"),
        ({"subject": 5}, "bad-meta", "subject"),
        ({"partitionkey": 5}, "bad-meta", "key"),
        ({"maxretries": -1}, "bad-meta", "max_retries"),
        ({"maxretries": "3"}, "bad-meta", "max_retries"),
        ({"retrydelay": -1}, "bad-meta", "retry_delay"),
        ({"datacontenttype": 5}, "bad-meta", "datacontenttype"),
    ],
)
def test_what_is_no_cloudevent(change, reason, word):
    with pytest.raises(MalformedEvent) as caught:
        from_cloudevent(MINIMAL | change)
    assert caught.value.reason == reason
    assert word in str(caught.value)


anything = st.one_of(
    values, st.floats(), st.sampled_from(["1.0", "YQ==", "application/json", CANARY])
)
attribute_names = st.sampled_from(
    [*MINIMAL, *CLOUD_NAMES, *META_NAMES, "data_base64", "other"]
)


@quick
@given(st.dictionaries(attribute_names, anything, max_size=6))
def test_any_object_is_an_event_or_malformed(change):
    for cloud in (change, MINIMAL | change):
        try:
            event = from_cloudevent(cloud)
        except MalformedEvent as error:
            shown = str(error)
        else:
            shown = ""
            assert event.type
            assert event.id
            to_cloudevent(event)
        assert CANARY not in shown
