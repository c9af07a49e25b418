"""One line when a server goes, and one when it is back."""

from __future__ import annotations

import logging

import pytest

from streams.broker.server.outages import Outages
from streams.errors import BrokerUnavailable


def of(server: str = "") -> BrokerUnavailable:
    error = BrokerUnavailable("gone")
    error.server = server
    return error


@pytest.fixture(autouse=True)
def _every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streams")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.streams_message.partition(",")[0], vars(record)["server"])
        for record in caplog.records
    ]


def test_many_users_of_one_server(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages("redis://h")
    for who in "abc":
        outages.away(who, of())
        outages.away(who, of())
    for who in "abc":
        assert lines(caplog) == [("the server is away", "redis://h")]
        outages.back(who)
        outages.back(who)
    assert lines(caplog)[1:] == [("the server is back", "redis://h")]
    assert vars(caplog.records[-1])["seconds"] >= 0


def test_each_node_of_a_cluster_has_its_own(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages("redis+cluster://a,b")
    outages.away("one", of("a:1"))
    outages.away("two", of("b:1"))
    outages.away("one", of("b:1"))  # It waits for the end of what it met first.
    outages.back("one")
    outages.back("two")
    assert lines(caplog) == [
        ("the server is away", "a:1"),
        ("the server is away", "b:1"),
        ("the server is back", "a:1"),
        ("the server is back", "b:1"),
    ]


def test_who_ends_meanwhile_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages("redis://h")
    outages.away("a", of())
    outages.away("b", of())
    outages.leave("a")
    outages.back("b")
    outages.away("a", of())
    outages.leave("a")
    assert [text for text, _ in lines(caplog)] == [
        "the server is away",
        "the server is back",
        "the server is away",
    ]
