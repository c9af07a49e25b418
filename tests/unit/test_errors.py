"""The error tree: what its drawing says, what can be caught as what, and what the messages say."""

from __future__ import annotations

import inspect
import re

import pytest

from streams import errors
from streams.errors import (
    BrokerUnavailable,
    ConfigurationError,
    EventTooLarge,
    GroupMissing,
    MalformedEvent,
    OutOfMemory,
    PartlyAway,
    PublishUnknown,
    Reject,
    Snooze,
    StreamFull,
    StreamsError,
)

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found)
    and issubclass(found, StreamsError)
    and found.__module__ == errors.__name__
}


def drawn() -> dict[str, str]:
    """Class to parent, as the module's docstring draws them."""
    parents = {"StreamsError": ""}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(?P<indent>[ │]*)[├└]── (?P<name>\w+)", line)
        if found:
            depth = len(found["indent"])
            path = [(d, n) for d, n in path if d < depth]
            parents[found["name"]] = path[-1][1] if path else "StreamsError"
            path.append((depth, found["name"]))
    return parents


def test_the_drawing_is_the_tree():
    assert drawn() == {
        name: "" if found is StreamsError else found.__mro__[1].__name__
        for name, found in CLASSES.items()
    }


def test_every_class_says_what_it_means():
    assert [
        name
        for name, found in CLASSES.items()
        if not (found.__doc__ or "").strip().endswith((".", "…"))
    ] == []


def test_which_errors_are_worth_another_try():
    retryable = {found for found in CLASSES.values() if found.retryable}
    assert retryable == {
        StreamFull,
        BrokerUnavailable,
        PartlyAway,
        OutOfMemory,
        GroupMissing,
    }


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigurationError", ValueError),
        ("InvalidName", ValueError),
        ("NoServer", ValueError),
        ("EventError", ValueError),
        ("MalformedEvent", ValueError),
        ("EventTooLarge", ValueError),
        ("NotFound", LookupError),
    ],
)
def test_errors_are_caught_as_the_builtin_that_people_know(name, builtin):
    assert issubclass(CLASSES[name], builtin)


def test_malformed_event_keeps_its_word():
    error = MalformedEvent("bad-json", "'data' is no JSON")
    assert (error.reason, error.detail, str(error)) == (
        "bad-json",
        "'data' is no JSON",
        "bad-json: 'data' is no JSON",
    )


def test_too_large_names_both_numbers():
    error = EventTooLarge(2048, 1024)
    assert (error.size, error.limit) == (2048, 1024)
    assert "2048" in str(error)
    assert "1024" in str(error)


def test_stream_full_counts_what_was_stored():
    error = StreamFull("orders", 10, 3)
    assert (error.stream, error.max_len, error.accepted) == ("orders", 10, 3)
    assert "'orders'" in str(error)
    assert "10" in str(error)
    assert StreamFull("orders", 10).accepted == 0


def test_publish_unknown_names_the_ids_in_doubt():
    error = PublishUnknown("orders", ("a", "b"), 7)
    assert (error.event_ids, error.accepted) == (("a", "b"), 7)
    assert "2 events" in str(error)


def test_unavailable_says_whether_the_command_left():
    assert BrokerUnavailable("gone").sent is False
    assert BrokerUnavailable("gone", sent=True).sent is True


def test_reject_has_a_reason_without_being_given_one():
    assert Reject().reason == "rejected by the handler"
    assert str(Reject("no such customer")) == "no such customer"


@pytest.mark.parametrize("seconds", [0, 0.5, 3, 86_400])
def test_snooze_takes_seconds(seconds):
    snooze = Snooze(seconds, "limit reached")
    assert (snooze.seconds, snooze.reason) == (float(seconds), "limit reached")
    assert isinstance(snooze.seconds, float)
    assert "limit reached" in str(snooze)


@pytest.mark.parametrize("seconds", [-1, -0.001, float("inf"), float("nan")])
def test_snooze_refuses_what_is_no_wait(seconds):
    with pytest.raises(
        ConfigurationError,
        match=r"Snooze\.seconds is a number of seconds from 0 to 1e\+10",
    ):
        Snooze(seconds)
