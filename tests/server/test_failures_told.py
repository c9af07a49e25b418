"""Where an exception comes from is in the line of each failed attempt; its traceback where one is wanted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from typing import Any

import pytest

from streams import Event, Limit, Producer, Reject, Retry
from streams.admin.dead_letters import DeadLetters
from streams.common.log_facts import logger_of
from streams.handlers.routes import Route, Router
from streams.handlers.upcasters import Upcasters
from streams.logs import EventFilter, JsonFormatter, TextFormatter, tracebacks
from tests.conftest import eventually
from tests.server.consuming import consuming


def upcasters(function: Any) -> Upcasters:
    made = Upcasters()
    made.add("order", None, "1", function)
    return made


ONCE = Retry(max_retries=1, delay=0.0)
SECRET = {
    "text": "canary: what nobody but the customer may read",
    "to": "5511987654321",
}


def look_up(name: str) -> None:
    json.loads("{" + name)


async def fails(event: Event) -> None:
    look_up("sku")


def fails_in_a_thread(event: Event) -> None:
    look_up("sku")


async def fails_together(event: Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(look_up, "sku"))


async def fails_because(event: Event) -> None:
    try:
        look_up("sku")
    except ValueError as error:
        raise LookupError(f"no such {event.data}") from error


async def never_ends(event: Event) -> None:
    await asyncio.sleep(3600)


async def refuses(event: Event) -> None:
    raise Reject("the number 5511987654321 is blocked")


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


async def says_nothing(event: Event) -> None:
    raise MuteError


async def says_much(event: Event) -> None:
    raise OSError("much " * 10**5)


LOOKED_UP = (
    "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
)
CASES: dict[Any, tuple[str, str, str]] = {
    fails: ("JSONDecodeError", LOOKED_UP, "look_up"),
    fails_in_a_thread: ("JSONDecodeError", LOOKED_UP, "look_up"),
    fails_together: (
        "ExceptionGroup",
        f"JSONDecodeError: {LOOKED_UP} (test_failures_told.py:",
        "fails_together",
    ),
    fails_because: (
        "LookupError",
        f"no such (the body); caused by JSONDecodeError: {LOOKED_UP}",
        "fails_because",
    ),
    never_ends: (
        "TimeoutError",
        "the handler exceeded its timeout of 0.1 s",
        "never_ends",
    ),
    refuses: ("Reject", "the number ******21 is blocked", "refuses"),
    says_nothing: ("MuteError", "(the exception has no readable text)", "says_nothing"),
    says_much: ("OSError", "much much", "says_much"),
}


@pytest.fixture(autouse=True)
def _auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "wanted", None)


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest):
    """What the package writes; ``log.form`` says how."""
    stream: Any = io.StringIO()
    stream.form = request.param
    handler = logging.StreamHandler(stream)
    handler.addFilter(EventFilter())
    handler.setFormatter(
        JsonFormatter() if request.param == "json" else TextFormatter()
    )
    logger = logging.getLogger("streams")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


async def failed(broker, function) -> None:
    """Two attempts at one event, or the one that it has."""
    route = Route(function, retry=ONCE, timeout=0.1 if function is never_ends else None)
    async with consuming(broker, Router([route])) as consumer:
        await Producer(broker, "s").publish(SECRET, type="order")
        await eventually(lambda: consumer.stats.dead == 1, what="the dead letter")


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
async def test_a_line_says_what_and_where(broker, log, function):
    kind, said, place = CASES[function]
    await failed(broker, function)
    lines = [line for line in log.getvalue().splitlines() if "error_at" in line]
    assert len(lines) == (1 if function is refuses else 2), log.getvalue()
    for line in lines:
        assert "canary" not in line
        assert "98765" not in line
        assert len(line) < 1500
        if log.form == "json":
            facts = json.loads(line)
            assert facts["error"] == kind
            assert said in facts["error_message"]
            assert facts["error_at"].startswith("test_failures_told.py:")
            assert facts["error_at"].endswith(f" in {place}")
            assert "traceback" not in facts
        else:
            assert f"error={kind} error_message=" in line
            assert said in line
            assert "error_at=test_failures_told.py:" in line
            assert re.search(rf" in {re.escape(place)}( next=|$)", line)


async def test_the_record_of_the_attempt_says_the_same(broker):
    await failed(broker, fails)
    (letter,) = await DeadLetters(broker, "s", "g").page()
    last = letter.errors[-1]
    assert last["message"] == LOOKED_UP
    assert last["where"].endswith(" in look_up")
    assert last["traceback"][-1].startswith("decoder.py:")


@pytest.mark.parametrize(
    ("variable", "level", "terminal", "wanted"),
    [
        ("", "INFO", False, False), ("1", "INFO", False, True), ("0", "DEBUG", True, False), ("", "DEBUG", False, True),
        ("", "INFO", True, True), ("auto", "INFO", True, True),
    ],
)  # fmt: skip
async def test_a_traceback_where_one_is_wanted(
    broker, log, monkeypatch, variable, level, terminal, wanted
):
    if variable:
        monkeypatch.setenv("STREAMS_LOG_TRACEBACKS", variable)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    logging.getLogger("streams").setLevel(level)
    await failed(broker, fails_in_a_thread)
    written = log.getvalue()
    assert "canary" not in written
    assert ("Traceback (most recent call last)" in written) is wanted
    assert ('json.loads("{" + name)' in written.replace("\\", "")) is wanted
    if wanted and log.form == "json":
        facts = next(
            json.loads(line) for line in written.splitlines() if '"retry"' in line
        )
        assert facts["traceback"][0] == "Traceback (most recent call last):"
        assert facts["traceback"][-1] == f"json.decoder.JSONDecodeError: {LOOKED_UP}"


def test_an_exception_that_is_logged_as_such_has_its_place_and_traceback(
    log, monkeypatch
):
    monkeypatch.setenv("STREAMS_LOG_TRACEBACKS", "1")
    try:
        look_up("5511987654321")
    except ValueError:
        logger_of("shop").exception("failed")
    written = log.getvalue()
    assert "cause=JSONDecodeError" in written or '"cause":"JSONDecodeError' in written
    assert " in look_up" in written
    assert "Traceback" in written


def test_a_setting_decides_over_the_variable(monkeypatch):
    monkeypatch.setenv("STREAMS_LOG_TRACEBACKS", "1")
    error = ValueError("no")
    assert tracebacks.of(error)
    monkeypatch.setattr(tracebacks, "wanted", False)
    assert not tracebacks.of(error)


async def test_an_event_that_no_handler_was_given_says_why(broker, log):
    async def typed(event: Event[int]) -> None:
        raise AssertionError("never")

    async with consuming(broker, Router([Route(typed, retry=ONCE)])) as consumer:
        await Producer(broker, "s").publish(SECRET, type="order")
        await eventually(lambda: consumer.stats.dead == 1, what="the dead letter")
    (line,) = [line for line in log.getvalue().splitlines() if "dead letter" in line]
    assert "InvalidData" in line
    assert "error_message" in line
    assert "error_at" not in line
    assert "canary" not in line


def by_customer(event: Event) -> str:
    look_up("sku")
    raise AssertionError("never")


def from_the_first(data: Any) -> Any:
    look_up("sku")


@pytest.mark.parametrize(
    ("router", "function"),
    [
        (
            Router(
                [Route(print, limits=[Limit(by_customer, rate="1/s", name="customer")])]
            ),
            by_customer,
        ),
        (
            Router([Route(print)]).with_upcasters(upcasters(from_the_first)),
            from_the_first,
        ),
    ],
    ids=["the key of a limit", "upcaster"],
)
async def test_a_function_that_is_called_before_the_handler_is_named_with_its_place(
    broker, log, router, function
):
    async with consuming(broker, router) as consumer:
        await Producer(broker, "s").publish(SECRET, type="order")
        await eventually(lambda: consumer.stats.dead == 1, what="the dead letter")
    (line,) = [line for line in log.getvalue().splitlines() if "dead letter" in line]
    assert re.search(r"error_at\W+test_failures_told\.py:\d+ in look_up", line)
    assert function.__name__ in line
    (letter,) = await DeadLetters(broker, "s", "g").page()
    assert letter.reason == "invalid"
    (error,) = letter.errors
    assert function.__name__ in error["message"]
    assert error["where"].endswith(" in look_up")
    assert "canary" not in f"{line}{error}"
