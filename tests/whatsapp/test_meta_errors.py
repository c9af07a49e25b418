"""Meta's error table, row by row, as its documentation has it."""

from __future__ import annotations

import pytest

from streams.whatsapp.outcome import Again, Blocked, Hopeless, Throttled
from streams.whatsapp.providers.meta_errors import TABLE, decide, read_error

BLOCKED = [
    0,
    190,
    3,
    10,
    200,
    299,
    131005,
    131048,
    131064,
    368,
    131031,
    33,
    131037,
    131042,
    131045,
    133010,
]
HOPELESS = [
    *(
        130497,
        100,
        131008,
        131009,
        131021,
        131051,
        135000,
        131026,
        131047,
        131049,
        130472,
        131030,
        131052,
        131062,
    ),
    *(
        131063,
        132000,
        132001,
        132005,
        132007,
        132008,
        132012,
        132015,
        132016,
        132068,
        133016,
        133000,
        133005,
    ),
    *(133006, 133008, 133009, 133015, 134011, 131055, 134100, 134102, 137000),
]
THROTTLED = {
    4: "app",
    80007: "waba",
    80008: "waba",
    130429: "instance",
    131056: "pair",
    131057: "instance",
    132069: "instance",
}
AGAIN = {
    1: 2,
    2: None,
    133004: None,
    131000: None,
    131016: None,
    131053: 1,
    134101: None,
}


@pytest.mark.parametrize("code", BLOCKED)
def test_the_instance_is_held(code):
    assert isinstance(decide(code), Blocked)


@pytest.mark.parametrize("code", HOPELESS)
def test_the_message_fails(code):
    outcome = decide(code)
    assert isinstance(outcome, Hopeless)
    assert not outcome.suppress


def test_a_recipient_who_stopped_marketing_is_remembered():
    outcome = decide(131050)
    assert isinstance(outcome, Hopeless)
    assert outcome.suppress


@pytest.mark.parametrize(("code", "scope"), THROTTLED.items())
def test_the_scope_is_throttled(code, scope):
    outcome = decide(code)
    assert isinstance(outcome, Throttled)
    assert outcome.scope == scope
    assert decide(code, after=7.0).after == 7.0


@pytest.mark.parametrize(("code", "most"), AGAIN.items())
def test_it_is_tried_again(code, most):
    outcome = decide(code)
    assert isinstance(outcome, Again)
    assert outcome.most == most


def test_every_row_is_tested():
    tested = {*BLOCKED, *HOPELESS, *THROTTLED, *AGAIN, 131050}
    assert set(TABLE) - set(range(200, 300)) == tested - set(range(200, 300))


def test_the_details_decide_where_the_code_does_not():
    assert isinstance(decide(100, subcode=33), Blocked)
    assert isinstance(decide(987654), Again)
    assert decide(987654).most == 2
    assert decide(190, trace="abc").trace == "abc"


@pytest.mark.parametrize("error", [None, {}, {"code": "190"}, {"code": True}, []])
def test_what_is_no_error_object_is_none(error):
    assert read_error(error) is None


def test_an_error_object_is_read():
    assert read_error({"code": 190, "error_subcode": 463, "fbtrace_id": "T"}) == (
        190,
        463,
        "T",
    )
