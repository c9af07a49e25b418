"""The event: attributes, headers, ids, and that it never shows its body."""

from __future__ import annotations

import os
import re
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.common.masking import masked
from streams.errors import ConfigurationError
from streams.events.attributes import sentence
from streams.events.event import (
    CLOUD_NAMES,
    META_NAMES,
    Event,
    EventAttributes,
    meta_of,
    new_event_id,
    random_hex,
)

CANARY = "canary-7f3a"
quick = settings(deadline=None, database=None, max_examples=50)
header_names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda n: n not in META_NAMES | CLOUD_NAMES
)
header_values = st.one_of(
    st.text(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


def test_defaults():
    event = Event("order.created", {"id": 1})
    assert (event.type, event.data, event.raw, event.id) == (
        "order.created",
        {"id": 1},
        b"",
        "",
    )
    assert (event.priority, event.delay, event.dedup_id, event.expires_in) == (
        0,
        0.0,
        None,
        None,
    )
    assert (
        event.stream,
        event.group,
        event.entry_id,
        event.attempt,
        event.replays,
    ) == ("", "", "", 0, 0)
    assert event.meta == {}
    assert event.headers == {}
    for name in (
        "key",
        "tenant",
        "instance",
        "subject",
        "source",
        "time",
        "version",
        "expires",
    ):
        assert getattr(event, name) is None


GOOD = {
    **dict.fromkeys(EventAttributes.__annotations__, "value"),
    **dict.fromkeys(("priority", "delay", "expires", "max_retries", "retry_delay"), 7),
    "time": "2026-01-31T12:00:00.5-03:00",
    "datacontenttype": "text/plain; charset=utf-8",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
}
"""A value of each attribute that it may have."""


@pytest.mark.parametrize(
    "name", ["key", "tenant", "instance", "subject", "source", "time", "version"]
)
def test_attributes_can_be_read_by_name(name):
    event = Event("a", 1, **{name: GOOD[name]})
    assert getattr(event, name) == GOOD[name]
    assert event.meta == {name: GOOD[name]}


@pytest.mark.parametrize("name", sorted(META_NAMES - {"expires"}))
def test_what_travels_in_meta(name):
    assert Event("a", 1, **{name: GOOD[name]}).meta == {name: GOOD[name]}
    assert Event("a", 1, **{name: None}).meta == {}


@pytest.mark.parametrize("name", ["id", "priority", "delay", "dedup_id", "expires"])
def test_what_does_not_travel_in_meta(name):
    assert Event("a", 1, **{name: GOOD[name]}).meta == {}


NO_ZONE = datetime(2026, 1, 31)  # noqa: DTZ001 - that is what is refused
WRONG = {
    **dict.fromkeys(
        ("key", "tenant", "instance", "subject", "source", "dataschema", "version"),
        ("", 7, b"a", "x" * 501),
    ),
    **dict.fromkeys(("id", "dedup_id"), ("", 7, "a\n", "x" * 501)),
    "time": (
        "yesterday",
        "2026-02-30T00:00:00Z",
        "2026-01-31",
        "2026-01-31T12:00:00",
        NO_ZONE,
    ),
    "datacontenttype": ("", "json", "text/plain;\n", 7),
    "traceparent": ("x", f"00-{'A' * 32}-{'b' * 16}-01", ""),
    "tracestate": ("", "x" * 513),
    "priority": ("high", True, 1.0),
    "max_retries": (-1, True, 1.0, "3", 1_000_001),
    "delay": (-1, True, "5", 1e18, NO_ZONE),
    "expires": (0, -1, 0.0, timedelta(0), 1e18, "5", NO_ZONE),
    "retry_delay": (-1, 1e18, "5", True),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in WRONG for value in WRONG[name]],
    ids=repr,
)
def test_a_value_that_an_attribute_cannot_have_is_refused_where_it_is_given(
    name, value
):
    with pytest.raises(
        ConfigurationError,
        match=f"^{re.escape(sentence(name)) if name != 'time' else 'time is a'}",
    ):
        Event("a", 1, **{name: value})


def test_a_moment_that_is_over_is_no_wrong_time_to_expire():
    assert (
        Event(
            "a",
            1,
            expires=datetime(2020, 1, 1, tzinfo=UTC),
            delay=datetime(2020, 1, 1, tzinfo=UTC),
        ).meta
        == {}
    )


def test_every_attribute_is_either_an_event_field_or_in_meta():
    others = {"id", "priority", "delay", "dedup_id", "expires", "headers"}
    assert set(EventAttributes.__annotations__) == (META_NAMES | others)


@pytest.mark.parametrize("name", ["prority", "Key", "type_", "retries", "body"])
def test_an_unknown_attribute_is_refused_by_name(name):
    with pytest.raises(ConfigurationError, match=f"no attribute '{name}'"):
        Event("a", CANARY, **{name: 1})


def test_two_events_do_not_share_metadata():
    one, other = Event("a", 1), Event("a", 2)
    one.meta["tenant"] = "acme"
    assert other.meta == {}
    assert Event("a", 3).tenant is None


@quick
@given(st.dictionaries(header_names, header_values, max_size=5))
def test_headers_come_back(headers):
    event = Event("a", 1, headers=headers, key="42")
    assert event.headers == headers
    assert event.key == "42"


@quick
@given(st.text(max_size=12))
def test_the_rule_for_header_names(name):
    allowed = (
        name != ""
        and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
        and name not in META_NAMES
        and name not in CLOUD_NAMES
    )
    try:
        meta = meta_of({"headers": {name: "x"}})
    except ConfigurationError:
        meta = {}
    assert meta == ({name: "x"} if allowed else {})


@pytest.mark.parametrize(
    "name",
    [
        *sorted(META_NAMES),
        *sorted(CLOUD_NAMES),
        "",
        "Upper",
        "a-b",
        "a_b",
        "a b",
        "é",
        "²",
    ],
)
def test_refused_header_names(name):
    with pytest.raises(ConfigurationError, match="header"):
        Event("a", 1, headers={name: "x"})


@pytest.mark.parametrize(
    "value",
    [None, [1], {"a": 1}, b"x", object(), float("nan"), float("inf"), -float("inf")],
)
def test_refused_header_values(value):
    with pytest.raises(ConfigurationError, match="header 'trial': the value"):
        Event("a", 1, headers={"trial": value})


def test_repr_names_the_event_and_not_its_body():
    event = Event(
        "order.created", {"secret": CANARY}, subject=CANARY, headers={"note": CANARY}
    )
    assert CANARY not in repr(event)
    assert "order.created" in repr(event)
    event.id, event.entry_id, event.attempt = "e-1", "1-0", 2
    assert repr(event) == "<Event order.created id=e-1 entry=1-0 attempt=2>"


def test_annotations_may_name_the_type_of_the_body():
    assert Event[dict].__origin__ is Event
    assert Event[dict]("a", {"x": 1}).data == {"x": 1}


def test_ids_are_unique_and_grow():
    made = [new_event_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    prefixes = {ident.partition("-")[0] for ident in made}
    assert len(prefixes) == 1
    counts = [int(ident.partition("-")[2], 16) for ident in made]
    assert counts == sorted(counts)


def test_ids_are_unique_across_threads():
    made: list[list[str]] = []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait()
        made.append([new_event_id() for _ in range(3000)])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len({ident for part in made for ident in part}) == 4 * 3000


def test_ids_are_unique_across_a_fork():
    mine = new_event_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_event_id().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        theirs = answer.read()
    os.waitpid(child, 0)
    assert theirs
    assert theirs.partition("-")[0] != mine.partition("-")[0]


def test_ids_that_are_made_up_are_not_masked():
    """Else nobody would find the event that a log line is about."""
    for _ in range(2000):
        made = random_hex(16)
        assert masked(f"event_id={made}-1234567") == f"event_id={made}-1234567"
    assert len({random_hex(8) for _ in range(1000)}) == 1000
