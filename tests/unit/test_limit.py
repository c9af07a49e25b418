"""Limits as they are declared: rates, keys, names, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streams import ConfigurationError, Event, Limit, Throttle
from streams.broker.admin.limits import rule, stored_rate
from streams.handlers.routes import Route, Router
from streams.policy.limit import Rate, checked_limits, key_text


@pytest.mark.parametrize(
    ("text", "interval", "burst", "shown"),
    [
        ("60/s", 1 / 60, 6, "60/s"),
        ("1/6s", 6.0, 1, "1/6s"),
        ("5000/h", 0.72, 1, "5000/h"),
        ("100/m", 0.6, 1, "100/m"),
        ("10/d", 8640.0, 1, "10/d"),
        (" 3 / 2m ", 40.0, 1, "1/40s"),
        ("1/0.5s", 0.5, 1, "2/s"),
        ("1000/s", 0.001, 100, "1000/s"),
        ("7/s", 1 / 7, 1, "7/s"),
        ("1/h", 3600.0, 1, "1/h"),
        ("1/90s", 90.0, 1, "40/h"),
    ],
)
def test_rates_are_read_and_written(text, interval, burst, shown):
    rate = Rate.parse(text)
    assert rate.interval == pytest.approx(interval)
    assert rate.burst == burst
    assert str(rate) == f"{shown} burst {burst}"
    assert str(stored_rate("{} {}".format(*rule(rate)))) == str(rate)


@given(
    st.integers(1, 1_000_000),
    st.sampled_from(["s", "m", "h", "d"]),
    st.integers(1, 1000),
)
def test_what_is_written_is_read_again(count, unit, burst):
    assume(count * (1 / {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]) <= 10_000)
    rate = Rate.parse(f"{count}/{unit}", burst)
    text, _, many = str(rate).rpartition(" burst ")
    again = Rate.parse(text, int(many))
    assert again.burst == burst
    assert again.interval == pytest.approx(rate.interval, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "/s",
        "0/s",
        "1/0s",
        "-1/s",
        "1/s/s",
        "60/x",
        "1/.s",
        "10001/s",
        "1/99d",
        60,
    ],
)
def test_rates_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigurationError, match="rate is"):
        Rate.parse(text)


@pytest.mark.parametrize("burst", [0, -1, 1.5, True, 10_000_000])
def test_bursts_that_cannot_be_are_refused(burst):
    with pytest.raises(ConfigurationError, match="burst is an integer"):
        Limit("tenant", rate="1/s", burst=burst)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("phone",), {}, "not by 'phone'"),
        ((("tenant", "phone"),), {}, "not by 'phone'"),
        (((),), {}, "one attribute or more"),
        ((7,), {}, "an attribute's name or a function"),
        (("tenant",), {"name": "no good"}, "name of a limit"),
        (("tenant",), {"burst": 3}, "burst belongs to a rate"),
    ],
)
def test_limits_that_cannot_be_are_refused(arguments, options, message):
    with pytest.raises(ConfigurationError, match=message):
        Limit(*arguments, **options)


def test_names():
    limits = checked_limits(
        [
            Limit("tenant"),
            Limit(("instance", "subject")),
            Limit(lambda e: 1),
            Limit(lambda e: 2, name="two"),
        ]
    )
    assert [limit.name for limit in limits] == [
        "tenant",
        "instance-subject",
        "limit3",
        "two",
    ]
    with pytest.raises(ConfigurationError, match="two limits are named 'tenant'"):
        checked_limits([Limit("tenant"), Limit("source", name="tenant")])
    with pytest.raises(ConfigurationError, match="limits is a list"):
        checked_limits(Limit("tenant"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="of str"):
        checked_limits(["tenant"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="at most 8 limits, not 9"):
        checked_limits([Limit("tenant", name=f"n{n}") for n in range(9)])


def test_handlers_of_a_group_share_the_limit_of_a_name():
    def handler(event: Event) -> None: ...

    def route(kind: str, limit: Limit) -> Route:
        return Route(handler, types=[kind], limits=[limit])

    router = Router(
        [
            route("a", Limit("tenant", rate="1/s")),
            route("b", Limit("tenant", rate="1/s")),
        ]
    )
    assert [limit.name for limit in router.limits()] == ["tenant"]
    with pytest.raises(ConfigurationError, match="another limit named 'tenant'"):
        router.add(route("c", Limit("tenant", rate="2/s")))


def test_keys():
    event: Event = Event("t", {"a": 1}, tenant="acme", subject="s")
    assert Limit("tenant").key_of(event) == "acme"
    assert Limit("instance").key_of(event) is None
    assert Limit(("tenant", "subject")).key_of(event) == "acme,s"
    assert Limit(("tenant", "instance")).key_of(event) is None
    assert Limit(lambda e: e.data["a"]).key_of(event) == "1"
    assert Limit(lambda e: ("x", 0)).key_of(event) == "x,0"
    assert key_text("") is None
    assert key_text(()) is None
    assert len(key_text("x" * 201) or "") == 32
    assert key_text("x" * 201) != key_text("x" * 202)


@pytest.mark.parametrize("seconds", [-1, 86_401, float("nan")])
def test_throttle_takes_at_most_a_day(seconds):
    with pytest.raises(
        ConfigurationError,
        match=r"Throttle\.seconds is a number of seconds from 0 to 86400",
    ):
        Throttle("tenant", seconds)


def test_a_key_function_that_has_to_be_awaited_is_refused():
    async def key(event: object) -> str:
        return "a"

    with pytest.raises(ConfigurationError, match="not awaited"):
        Limit(key, rate="1/s")
