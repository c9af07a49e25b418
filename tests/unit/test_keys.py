"""Keys: every name is checked, all keys of a stream share its tag, no two meanings share a key."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.admin.dead_letters import DeadLetters
from streams.broker import Broker
from streams.broker.keys import PARKED, Keys, index_key
from streams.consumer import Consumer, ConsumerOptions
from streams.consuming.naming import consumer_name
from streams.errors import InvalidName
from streams.events.names import checked_name, member, parse_member
from streams.pipeline import Pipeline
from streams.producer import Producer
from streams.reclaimer import Reclaimer

ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
quick = settings(deadline=None, database=None, max_examples=80)

names = st.from_regex(ALLOWED, fullmatch=True)
almost = st.text(alphabet="aZ09._-{}:|/ \n\x00é٣", max_size=102)
texts = st.one_of(st.text(max_size=105), almost, names)

BAD = [
    "",
    "-a",
    ".a",
    "_a",
    "a b",
    "a:b",
    "a{b",
    "a}",
    "a\n",
    "\na",
    "a/b",
    "é",
    "٣",
    "a\x00",
    "a" * 101,
    " a",
    "a|b",
]
GOOD = ["a", "0", "A.b_c-d", "orders", "a" * 100, "9-", "a.."]


def a_consumer(broker: Broker, name: str) -> object:
    return Consumer(broker, "orders", "g", print, ConsumerOptions(name=name))


PLACES = {
    "Keys, stream": lambda broker, name: Keys(name),
    "Keys, namespace": lambda broker, name: Keys("orders", name),
    "Broker, namespace": lambda broker, name: Broker("redis://h", namespace=name),
    "Broker.keys": lambda broker, name: broker.keys(name),
    "Producer": Producer,
    "Consumer, stream": lambda broker, name: Consumer(broker, name, "g", print),
    "Consumer, group": lambda broker, name: Consumer(broker, "orders", name, print),
    "Reclaimer, stream": lambda broker, name: Reclaimer(broker, name, "g"),
    "Reclaimer, group": lambda broker, name: Reclaimer(broker, "orders", name),
    "DeadLetters, stream": lambda broker, name: DeadLetters(broker, name, "g"),
    "DeadLetters, group": lambda broker, name: DeadLetters(broker, "orders", name),
    "handler, stream": lambda broker, name: Pipeline("redis://h").handler(
        name, group="g"
    ),
    "handler, group": lambda broker, name: Pipeline("redis://h").handler(
        "orders", group=name
    ),
}


@quick
@given(texts)
def test_the_check_is_the_documented_pattern(text):
    if ALLOWED.fullmatch(text):
        assert checked_name(text) == text
    else:
        with pytest.raises(InvalidName, match="use 1 to 100 letters"):
            checked_name(text)


@pytest.mark.parametrize("place", PLACES)
def test_every_name_parameter_is_checked(place):
    broker = Broker("redis://h")

    @settings(deadline=None, database=None, max_examples=25)
    @given(texts)
    @example("a\n")
    @example("a{b}")
    def check(text: str) -> None:
        if ALLOWED.fullmatch(text) and text not in ("dedup", "message"):
            PLACES[place](broker, text)
        else:
            with pytest.raises(InvalidName):
                PLACES[place](broker, text)

    check()


@pytest.mark.parametrize("place", PLACES)
def test_bad_names_at_every_place(place):
    broker = Broker("redis://h")
    for name in BAD:
        with pytest.raises(InvalidName) as caught:
            PLACES[place](broker, name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BAD[1:])
def test_bad_consumer_names(name):
    with pytest.raises(InvalidName, match="consumer"):
        a_consumer(Broker("redis://h"), name)


@pytest.mark.parametrize("place", PLACES)
def test_good_names_at_every_place(place):
    broker = Broker("redis://h")
    for name in GOOD:
        PLACES[place](broker, name)


@pytest.mark.parametrize("value", [None, 1, b"orders", ["orders"]])
def test_a_name_is_a_text(value):
    with pytest.raises(InvalidName):
        checked_name(value)


@pytest.mark.parametrize("word", ["dedup", "message"])
def test_a_group_cannot_have_the_word_that_other_keys_begin_with(word):
    with pytest.raises(InvalidName, match="use another one"):
        checked_name(word, "group")
    assert checked_name(word, "stream") == word


def test_made_consumer_names_are_allowed_and_different():
    made = {consumer_name() for _ in range(50)}
    assert len(made) == 50
    for name in made:
        assert checked_name(f"{name}.reclaimer", "consumer") == f"{name}.reclaimer"


def test_the_parking_consumer_cannot_be_anybody_elses_name():
    with pytest.raises(InvalidName):
        checked_name(PARKED)


def test_keys_as_documented():
    keys = Keys("orders")
    assert keys.level(10) == "streams:{orders}:10"
    assert keys.level(-3) == "streams:{orders}:-3"
    assert keys.scheduled() == "streams:{orders}:scheduled"
    assert keys.scheduled_fields() == "streams:{orders}:scheduled-fields"
    assert keys.dedup("x y") == "streams:{orders}:dedup:x y"
    assert keys.retry("billing") == "streams:{orders}:billing:retry"
    assert keys.attempts("billing") == "streams:{orders}:billing:attempts"
    assert keys.dead("billing") == "streams:{orders}:billing:dead"
    assert keys.sweep("billing") == "streams:{orders}:billing:sweep"
    assert keys.audit() == "streams:{orders}:audit"
    assert keys.index() == index_key("streams") == "streams:index"


def all_keys(keys: Keys, group: str, level: int, dedup_id: str) -> list[str]:
    per_group = [
        keys.retry(group),
        keys.attempts(group),
        keys.dead(group),
        keys.sweep(group),
    ]
    return [
        keys.level(level),
        keys.scheduled(),
        keys.scheduled_fields(),
        keys.dedup(dedup_id),
        keys.audit(),
        *per_group,
    ]


def tag(key: str) -> str:
    """What Redis Cluster hashes of a key."""
    start = key.find("{")
    end = key.find("}", start + 1)
    return key[start + 1 : end] if start >= 0 and end > start + 1 else key


@quick
@given(names, names, names, st.integers(), st.text())
def test_all_keys_of_a_stream_share_its_tag(stream, namespace, group, level, dedup_id):
    for key in all_keys(Keys(stream, namespace), group, level, dedup_id):
        assert tag(key) == stream


group_names = st.one_of(
    names, st.sampled_from(["scheduled", "audit", "0", "10", "dead", "retry", "index"])
)
dedup_ids = st.one_of(
    st.text(), st.sampled_from(["retry", "dead", "attempts", "sweep", "a:dead"])
)


@quick
@given(
    st.lists(group_names, min_size=2, max_size=2, unique=True), st.integers(), dedup_ids
)
def test_no_two_meanings_share_a_key(groups, level, dedup_id):
    keys = Keys("orders")
    every = all_keys(keys, groups[0], level, dedup_id)
    every += [
        keys.retry(groups[1]),
        keys.attempts(groups[1]),
        keys.dead(groups[1]),
        keys.sweep(groups[1]),
    ]
    if "dedup" not in groups:
        assert len(set(every)) == len(every)


@quick
@given(st.integers(-(2**63), 2**63), st.text())
def test_members_round_trip(level, ident):
    assert parse_member(member(level, ident)) == (level, ident)


@quick
@given(st.one_of(st.text(), st.text(alphabet="-0159|²٣x", max_size=8)))
def test_a_text_is_a_member_or_refused(text):
    try:
        level, ident = parse_member(text)
    except InvalidName:
        assert not re.match(r"-?[0-9]{1,100}\|", text)
    else:
        assert text.endswith(f"|{ident}")
        assert int(text.partition("|")[0]) == level


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "|1-0",
        "a|1-0",
        "--5|1-0",
        "5-|1-0",
        "²|1-0",
        "9" * 5000 + "|1-0",
        "+5|1-0",
    ],
)
def test_what_is_no_member(text):
    with pytest.raises(InvalidName, match="LEVEL"):
        parse_member(text)
