"""Retry: the decision, the waiting times, the attempt record, and what is kept of an exception."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import random
from datetime import timedelta

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from streams.errors import ConfigurationError, MalformedEvent, Reject
from streams.policy.retry import (
    MAX_ERRORS_KEPT,
    AttemptRecord,
    Bury,
    Retry,
    RetryIn,
    checked_decision,
)

quick = settings(deadline=None, database=None, max_examples=60)
EXACT = Retry(delay=2.0, jitter=0.0)


def failed(failures: int, stalls: int = 0) -> AttemptRecord:
    return AttemptRecord(failures=failures, stalls=stalls)


# Waiting times


@pytest.mark.parametrize(
    ("backoff", "sequence"),
    [
        ("exponential", [2, 4, 8, 16, 32, 60, 60]),
        ("linear", [2, 4, 6, 8, 10, 12, 14]),
        ("fixed", [2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_each_backoff(backoff, sequence):
    retry = Retry(delay=2.0, backoff=backoff, max_delay=60.0, jitter=0.0)
    assert [retry.delay_for(n) for n in range(1, 8)] == sequence


@pytest.mark.parametrize(
    ("backoff", "delay"), [("exponential", 40.0), ("linear", 30.0), ("fixed", 10.0)]
)
def test_the_events_own_delay_takes_the_place_of_the_first(backoff, delay):
    assert Retry(delay=2.0, backoff=backoff, jitter=0.0).delay_for(3, 10.0) == delay
    assert Retry(delay=2.0, backoff=backoff, jitter=0.0).delay_for(3, 0.0) == 0.0


def test_the_documented_defaults():
    retry = Retry()
    assert (retry.max_retries, retry.delay, retry.backoff) == (3, 5.0, "exponential")
    assert (retry.max_delay, retry.jitter, retry.retry_on, retry.reject_on) == (
        3600.0,
        0.1,
        (),
        (),
    )


@quick
@given(
    st.floats(0, 1e6),
    st.sampled_from(["exponential", "linear", "fixed"]),
    st.floats(0, 1e5),
    st.floats(0, 1),
    st.integers(0, 10_000),
    st.integers(),
)
def test_jitter_stays_in_its_bounds(delay, backoff, max_delay, jitter, failures, seed):
    retry = Retry(delay=delay, backoff=backoff, max_delay=max_delay, jitter=jitter)
    plain = dataclasses.replace(retry, jitter=0.0).delay_for(failures)
    wait = retry.delay_for(failures, rng=random.Random(seed))
    assert 0 <= wait <= max_delay
    assert plain * (1 - jitter) * 0.999999 <= wait <= plain * (1 + jitter) * 1.000001


def test_jitter_varies_up_and_down():
    retry = Retry(delay=10.0, jitter=0.5)
    waits = [retry.delay_for(1, rng=random.Random(seed)) for seed in range(200)]
    assert 5 <= min(waits) < 6
    assert 14 < max(waits) <= 15
    assert len({retry.delay_for(1) for _ in range(20)}) > 1


def test_jitter_does_not_lift_a_wait_over_the_most():
    assert (
        max(Retry(delay=10, max_delay=10, jitter=1.0).delay_for(1) for _ in range(50))
        <= 10
    )


def test_a_million_failures_are_no_overflow():
    assert Retry(delay=1e9, max_delay=1e9, jitter=0).delay_for(1_000_000, 1e11) == 1e9


# The decision


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_an_event_has_so_many_retries(limit):
    retry = dataclasses.replace(EXACT, max_retries=limit)
    decisions = [retry.after_failure(OSError(), failed(n)) for n in range(1, limit + 2)]
    assert all(isinstance(decision, RetryIn) for decision in decisions[:-1])
    assert decisions[-1] == Bury("retries-used-up")


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_an_event_has_so_many_stalls(limit):
    retry, record = dataclasses.replace(EXACT, max_retries=limit), AttemptRecord()
    decisions = []
    for _ in range(max(limit, 1) + 1):
        record.add("stall", {}, at=1.0)
        decisions.append(retry.after_stall(record))
    assert decisions == [RetryIn(0.0)] * max(limit, 1) + [Bury("stalled")]


@pytest.mark.parametrize(
    ("failures", "stalls", "limit"),
    [(0, 1, 0), (3, 1, 3), (1, 1, 1), (0, 3, 2), (7, 1, 0)],
)
def test_what_was_only_beside_a_killer_has_one_attempt_alone(failures, stalls, limit):
    """The first stall may come when no retry is left: it was never seen alone."""
    retry, record = (
        dataclasses.replace(EXACT, max_retries=limit),
        failed(failures, stalls),
    )
    assert retry.after_stall(record) == RetryIn(0.0)
    assert record.suspect
    record.add("stall", {}, at=1.0)
    assert retry.after_stall(record) == Bury("stalled")


@pytest.mark.parametrize("own", [0, 1, 5])
def test_the_events_own_limit_wins(own):
    assert (
        isinstance(
            EXACT.after_failure(OSError(), failed(own), max_retries=own), RetryIn
        )
        or own == 0
    )
    assert EXACT.after_failure(OSError(), failed(own + 1), max_retries=own) == Bury(
        "retries-used-up"
    )
    alone = dataclasses.replace(failed(0, own + 1), suspect=True)
    assert EXACT.after_stall(alone, max_retries=own) == Bury("stalled")
    assert EXACT.limit(own) == own
    assert EXACT.limit(None) == 3


@quick
@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 10))
def test_dead_when_failures_and_stalls_exceed_the_limit(failures, stalls, limit):
    retry = dataclasses.replace(EXACT, max_retries=limit)
    assume(failures + stalls > 0)
    dead = failures + stalls > limit
    assert (
        isinstance(retry.after_failure(OSError(), failed(failures, stalls)), Bury)
        is dead
    )
    alone = dataclasses.replace(failed(failures, stalls), suspect=True)
    assert isinstance(retry.after_stall(alone), Bury) is dead


def test_the_wait_grows_with_failures_and_not_with_stalls():
    assert EXACT.after_failure(OSError(), failed(1, 2)) == RetryIn(2.0)
    assert EXACT.after_failure(OSError(), failed(2)) == RetryIn(4.0)
    assert EXACT.after_failure(OSError(), failed(2), retry_delay=7.0) == RetryIn(14.0)


@pytest.mark.parametrize(
    ("failures", "stalls", "limit", "suspect"),
    [
        (0, 1, 1, True),
        (0, 1, 2, False),
        (0, 2, 2, True),
        (0, 2, 3, False),
        (0, 3, 3, True),
        (2, 1, 3, True),
        (1, 1, 3, False),
        (3, 0, 3, False),
    ],
)
def test_a_suspect_is_one_whose_next_stall_would_be_its_last(
    failures, stalls, limit, suspect
):
    retry = dataclasses.replace(EXACT, max_retries=limit)
    decisions = (
        retry.after_stall,
        lambda record: retry.after_failure(OSError(), record),
    )
    for decide in decisions if stalls else decisions[1:]:
        for before in (False, True):
            record = failed(failures, stalls)
            record.suspect = before
            assert isinstance(decide(record), RetryIn)
            assert record.suspect is suspect


class BusyError(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


@pytest.mark.parametrize("asked", [0, 0.5, 30, 99_999.0, "30", "1.5", " 7 ", "0"])
def test_a_wait_that_the_exception_asks_for_is_obeyed(asked):
    assert EXACT.after_failure(BusyError(asked), failed(1)) == RetryIn(float(asked))


def bad_floats() -> list[object]:
    return [
        float("nan"),
        float("inf"),
        1.1e9,
        10**400,
        "nan",
        "inf",
        "soon",
        "",
        "Wed, 21 Oct 2015 07:28:00 GMT",
    ]


@pytest.mark.parametrize(
    "asked", [None, -1, "-1", -0.5, True, False, [5], b"5", object(), *bad_floats()]
)
def test_a_wait_that_makes_no_sense_is_ignored(asked):
    assert EXACT.after_failure(BusyError(asked), failed(1)) == RetryIn(2.0)


def test_an_exception_whose_retry_after_fails():
    class BrokenError(Exception):
        @property
        def retry_after(self):
            raise RuntimeError("no")

    assert EXACT.after_failure(BrokenError(), failed(1)) == RetryIn(2.0)


def test_asking_for_a_wait_gives_no_extra_try():
    assert EXACT.after_failure(BusyError(5), failed(4)) == Bury("retries-used-up")


@pytest.mark.parametrize(
    ("options", "error", "outcome"),
    [
        ({}, ValueError(), RetryIn(2.0)),
        ({}, Reject("no"), Bury("rejected")),
        ({}, MalformedEvent("bad-json", "x"), Bury("malformed")),
        ({}, SystemExit(1), RetryIn(2.0)),
        ({"retry_on": (OSError,)}, TimeoutError(), RetryIn(2.0)),
        ({"retry_on": (OSError,)}, ValueError(), Bury("not-retryable")),
        ({"retry_on": (OSError, ValueError)}, ValueError(), RetryIn(2.0)),
        ({"reject_on": (ValueError,)}, ValueError(), Bury("not-retryable")),
        ({"reject_on": (ValueError,)}, UnicodeError(), Bury("not-retryable")),
        ({"reject_on": (ValueError,)}, OSError(), RetryIn(2.0)),
        (
            {"retry_on": (OSError,), "reject_on": (TimeoutError,)},
            TimeoutError(),
            Bury("not-retryable"),
        ),
        (
            {"retry_on": (OSError,), "reject_on": (TimeoutError,)},
            OSError(),
            RetryIn(2.0),
        ),
        ({"retry_on": (Reject,)}, Reject("no"), Bury("rejected")),
    ],
)
def test_which_exceptions_are_tried_again(options, error, outcome):
    assert (
        dataclasses.replace(EXACT, **options).after_failure(error, failed(1)) == outcome
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_retries", bad) for bad in (-1, 1.5, "3", None, True)),
        *(("delay", bad) for bad in (-1, "5", None, True, float("nan"), float("inf"))),
        *(("max_delay", bad) for bad in (-1, "5", None, float("nan"))),
        *(("jitter", bad) for bad in (-0.1, 1.1, "0", True)),
        *(("backoff", bad) for bad in ("Exponential", "", None)),
        *(
            (name, bad)
            for name in ("retry_on", "reject_on")
            for bad in (ValueError, [ValueError], ("ValueError",), (1,), (int,), None)
        ),
    ],
)
def test_refused_options_are_named(name, value):
    with pytest.raises(ConfigurationError, match=f"Retry.{name}"):
        Retry(**{name: value})


# The attempt record

errors = st.fixed_dictionaries(
    {"type": st.text(max_size=5), "message": st.text(max_size=20)}
)
steps = st.lists(
    st.tuples(st.sampled_from(["failure", "stall"]), errors, st.floats(1, 1e10)),
    max_size=12,
)


@quick
@given(steps, st.booleans())
def test_a_record_survives_storage(taken, suspect):
    record = AttemptRecord(suspect=suspect)
    for kind, error, at in taken:
        record.add(kind, error, at=at)
    assert AttemptRecord.from_json(record.to_json()) == record
    assert record.attempts == len(taken)
    assert record.failures == sum(kind == "failure" for kind, _, _ in taken)
    assert len(record.errors) == min(len(taken), MAX_ERRORS_KEPT)
    if taken:
        assert (record.first, record.last) == (taken[0][2], taken[-1][2])
        assert record.errors[-1] == {
            "at": taken[-1][2],
            "attempt": len(taken),
            "kind": taken[-1][0],
            **taken[-1][1],
        }


def test_the_word_that_the_scripts_look_for():
    """``fetch_due.lua`` finds a suspect by this text, without parsing."""
    assert b'"suspect":true' in AttemptRecord(suspect=True).to_json()
    assert b"suspect" not in AttemptRecord().to_json()


def test_a_note_counts_nothing():
    record = AttemptRecord(failures=1, first=1.0, last=1.0)
    record.note({"type": "Expired", "message": ""}, at=5.0)
    assert (record.attempts, record.first, record.last) == (1, 1.0, 5.0)
    assert record.errors == [
        {"at": 5.0, "attempt": 1, "kind": "refused", "type": "Expired", "message": ""}
    ]


record_names = st.sampled_from(
    ["failures", "stalls", "first", "last", "errors", "suspect"]
)
stored_values = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(record_names, inner),
)


@quick
@given(st.one_of(st.binary(), stored_values.map(orjson.dumps)))
@example(b'{"failures":1,"stalls":0,"first":1,"last":1,"errors":"abc"}')
@example(b'{"failures":"x","stalls":0,"first":1,"last":1,"errors":[]}')
@example(b"[]")
def test_any_stored_text_is_a_record(text):
    record = AttemptRecord.from_json(text)
    assert isinstance(record.attempts, int)
    assert all(isinstance(error, dict) for error in record.errors)
    AttemptRecord.from_json(record.to_json())


@pytest.mark.parametrize(
    "text", [None, b"", b"{", b"null", b"5", b'"x"', b"[]", b"{}", b'{"failures":1}']
)
def test_what_cannot_be_read_is_no_record(text):
    assert AttemptRecord.from_json(text) == AttemptRecord()


def test_unknown_names_in_a_record_do_no_harm():
    assert AttemptRecord.from_json(
        orjson.dumps({**orjson.loads(failed(2).to_json()), "new": 1})
    ) == failed(2)


class Own(Retry):
    """A policy with an ``__init__`` that does not call that of ``Retry``."""

    def __init__(self, office: str) -> None:
        self.office = office


def test_a_subclass_with_an_init_of_its_own_has_the_usual_values():
    policy = Own("Lisbon")
    usual = Retry()
    assert all(
        getattr(policy, each.name) == getattr(usual, each.name)
        for each in dataclasses.fields(Retry)
    )
    assert policy.office == "Lisbon"
    assert policy.after_failure(OSError(), AttemptRecord(failures=4)) == Bury(
        "retries-used-up"
    )
    assert isinstance(
        policy.after_failure(OSError(), AttemptRecord(failures=1)), RetryIn
    )
    assert copy.copy(policy).office == "Lisbon"
    assert pickle.loads(pickle.dumps(Retry(max_retries=7, delay=1.0))) == Retry(
        max_retries=7, delay=1.0
    )


@pytest.mark.parametrize("delay", [0, 5, timedelta(seconds=5), 1e9])
def test_a_policy_may_decide_for_seconds_or_a_span(delay):
    assert checked_decision(RetryIn(delay)) == RetryIn(delay)


@pytest.mark.parametrize(
    "delay",
    [-1, 1e18, float("nan"), float("inf"), "5", None, True, timedelta(seconds=-1)],
)
def test_a_decision_that_cannot_be_done_is_refused_with_its_bounds(delay):
    with pytest.raises(TypeError, match=r"RetryIn with seconds from 0 to 1e\+09"):
        checked_decision(RetryIn(delay))


def test_a_retry_of_a_billion_seconds_is_a_retry():
    policy = Retry(delay=1e9, max_delay=1e9, jitter=0.0)
    assert checked_decision(
        policy.after_failure(OSError(), AttemptRecord(failures=1))
    ) == RetryIn(1e9)
