"""Who looks for secrets in log lines finds them; else the whole suite would say nothing."""

from __future__ import annotations

import logging

from tests import canaries


def test_what_must_not_be_shown_is_found():
    for text in (
        "canary-1",
        "x=5511999990000",
        "redis://:secret@h",
        "to +5511987654321,",
        "sEcReT",
    ):
        assert canaries.shown(text), text
    for text in (
        "1795494471403-0",
        "event 0155119999900001234abcd",
        "55119***0000",
        "19:55:11.123",
        "a5511999990000f",
    ):
        assert not canaries.shown(text), text


def test_a_line_with_one_is_noticed(no_secret_is_logged: list[str]):
    leaks = no_secret_is_logged
    logger = logging.getLogger("streams.test")
    logger.warning("all is well", extra={"entry": "1-0"})
    assert not leaks
    logger.warning("sent", extra={"server": "redis://:secret@h"})
    assert len(leaks) == 2
    logging.getLogger("elsewhere").warning("canary")
    assert len(leaks) == 2
    leaks.clear()
