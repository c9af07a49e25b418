"""Rules for errors: which class decides, and what rules cannot be."""

from __future__ import annotations

import asyncio

import pytest

from streams.errors import ConfigurationError, Reject, Snooze
from streams.middleware import Chain, ErrorRules
from streams.policy.retry import AttemptRecord, Retry, RetryIn
from tests.unit.attempts import attempt, outcome


class ThrottledError(ConnectionError):
    pass


class FrozenError(Exception):
    __slots__ = ()

    @property
    def retry_after(self):
        return None


RULES = ErrorRules(
    retry=[KeyError],
    reject=[LookupError, UnicodeError],
    snooze={ThrottledError: 30.0},
    retry_after={ConnectionError: 60.0, FrozenError: 7.0},
)


async def decided(error: BaseException):
    async def handler(event):
        raise error

    return await outcome(Chain([RULES]), handler)


async def test_the_nearest_class_decides():
    rejected = await decided(IndexError("no such line"))
    assert isinstance(rejected, Reject)
    assert rejected.reason == "IndexError: no such line"
    assert isinstance(rejected.__cause__, IndexError)
    snoozed = await decided(ThrottledError("slow down"))
    assert isinstance(snoozed, Snooze)
    assert (snoozed.seconds, snoozed.reason) == (30.0, "ThrottledError")
    for error in (KeyError("x"), ValueError("x"), Reject("x"), Snooze(1.0)):
        assert await decided(error) is error


async def test_a_retry_after_so_many_seconds_keeps_the_exception():
    for error in (ConnectionResetError("x"), FrozenError("x")):
        found = await decided(error)
        assert found is error or found.__cause__ is error
        decision = Retry(jitter=0.0).after_failure(found, AttemptRecord(failures=1))
        assert decision == RetryIn(7.0 if isinstance(error, FrozenError) else 60.0)


async def test_a_cancelled_attempt_has_no_rule():
    rules = ErrorRules(reject=[BaseException])
    assert rules.failed(attempt(), asyncio.CancelledError()) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reject": ["ValueError"]}, "classes of exceptions"),
        ({"reject": [int]}, "classes of exceptions"),
        ({"snooze": {ValueError: -1}}, "number of seconds"),
        ({"retry_after": {ValueError: "5"}}, "number of seconds"),
        (
            {"reject": [ValueError], "snooze": {ValueError: 1}},
            "ValueError is in reject already",
        ),
    ],
)
def test_refused_rules(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        ErrorRules(**arguments)
