"""Log lines: one line each whatever is logged, fields that can be read back, nothing personal."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.handlers
import pickle
import queue
import sys
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.common.log_facts import logger_of
from streams.events.current import handling
from streams.events.event import Event, new_event_id
from streams.logs import EventFilter, JsonFormatter, TextFormatter, be_heard, set_up

PHONE = "+55 (11) 99999-9999"
quick = settings(deadline=None, database=None, max_examples=50)
FORMATTERS = pytest.mark.parametrize(
    "formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"]
)
fact_names = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True).map("x_".__add__)
fact_values = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(),
    st.lists(st.text()),
)


def record(
    message: str = "retry",
    *args: object,
    name: str = "streams.consumer",
    **extra: object,
) -> logging.LogRecord:
    made = logging.getLogger(name).makeRecord(
        name, logging.WARNING, "f.py", 1, message, args, None, extra=extra
    )
    made.created = 1_700_000_000.25
    return made


def failing(error: BaseException) -> logging.LogRecord:
    made = record("handler failed")
    made.exc_info = (type(error), error, None)
    return made


def test_a_text_line():
    line = TextFormatter().format(
        record(
            "retry", where="orders/billing", attempt=1, delay=5.0, error="ValueError"
        )
    )
    time = datetime.fromtimestamp(1_700_000_000.25, UTC).strftime("%H:%M:%S.250")
    assert (
        line
        == f"{time} WARNING consumer  retry  where=orders/billing attempt=1 delay=5.0 error=ValueError"
    )


def test_a_json_line():
    line = orjson.loads(
        JsonFormatter().format(
            record("retry", where="orders/billing", attempt=1, late=True)
        )
    )
    assert line == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "logger": "streams.consumer",
        "message": "retry",
        "where": "orders/billing",
        "attempt": 1,
        "late": True,
    }


def test_one_of_several_processes_says_which():
    made = record("retry")
    assert " [2] WARNING consumer  retry" in TextFormatter("2").format(made)
    assert orjson.loads(JsonFormatter("2").format(made))["child"] == "2"
    assert "child" not in orjson.loads(JsonFormatter().format(made))


@FORMATTERS
def test_facts_without_a_value_are_left_out(formatter):
    line = formatter.format(record("retry", event_id="", entry=None, attempt=0))
    assert "event_id" not in line
    assert "entry" not in line
    assert "attempt" in line


@FORMATTERS
@pytest.mark.parametrize(
    "breaking", ["\n", "\r\n", "\x0b", "\x85", "\u2028", "\x1b[2K", "\x00"]
)
def test_one_line_whatever_is_in_it(formatter, breaking):
    made = record("a%sb", breaking, fact=f"c{breaking}d", where=f"e{breaking}f")
    made.exc_info = (ValueError, ValueError(f"g{breaking}h"), None)
    line = formatter.format(made)
    assert line.isprintable()
    assert len(line.splitlines()) == 1


@quick
@given(st.text(), st.dictionaries(fact_names, fact_values, max_size=4), st.text())
def test_any_facts_are_one_line(message, facts, cause):
    made = record("%s", message, **facts)
    made.exc_info = (ValueError, ValueError(cause), None)
    assert TextFormatter().format(made).isprintable()
    text = JsonFormatter().format(made)
    assert len(text.splitlines()) == 1
    line = orjson.loads(text)
    kept = {name for name, value in facts.items() if value not in ("", None)}
    assert set(line) == {"time", "level", "logger", "message", "cause"} | kept


@FORMATTERS
@pytest.mark.parametrize(
    "value",
    [PHONE, "5511999999999", 5511999999999, 5511999999999.0, [PHONE], {"to": PHONE}],
)
def test_phone_numbers_are_masked_everywhere(formatter, value):
    for made in (
        record("sending to %s", value),
        record("sending", phone=value),
        record("sending", entry=value, where=value, name="shop.handlers"),
        failing(ValueError(f"bad number {value}")),
    ):
        line = formatter.format(made)
        assert "9999" not in line
        assert "******" in line


@FORMATTERS
def test_the_ids_of_the_package_are_shown_as_they_are(formatter):
    ours = {
        "entry": "1700000000000-12",
        "consumer": "ip-10-100-12-34-1234-deadbeef",
        "worker": "host-123456-12345678",
        "where": "orders-20240101/billing",
        "server": "redis://10.100.12.34:6379/0",
        "event_id": "0123456789012345-1f",
    }
    line = formatter.format(record("stalled entry reclaimed", **ours))
    for value in ours.values():
        assert value in line


@FORMATTERS
def test_made_event_ids_are_shown_as_they_are(formatter):
    for ident in [new_event_id(), "1234567812345678-1", "0000000000000000-ffff"]:
        assert ident in formatter.format(record("retry", event_id=ident))


@FORMATTERS
def test_an_event_id_of_a_publisher_may_be_a_phone_number(formatter):
    assert "99999" not in formatter.format(record("retry", event_id="5511999999999"))


def test_big_counts_stay_numbers():
    made = record("stopped", name="streams.worker", done=123_456_789)
    assert orjson.loads(JsonFormatter().format(made))["done"] == 123_456_789
    assert "done=123456789" in TextFormatter().format(made)


@pytest.mark.parametrize("value", [10**30, float("nan"), float("inf"), object()])
def test_a_value_that_json_cannot_hold(value):
    assert (
        orjson.loads(JsonFormatter().format(record("x", fact=value, done=value)))[
            "message"
        ]
        == "x"
    )


def test_a_fact_does_not_take_the_place_of_the_time():
    line = orjson.loads(
        JsonFormatter().format(record("x", time="never", level="low", logger="l"))
    )
    assert (line["level"], line["logger"]) == ("warning", "streams.consumer")
    assert line["time"].startswith("2023-11-14T")


@FORMATTERS
def test_of_an_exception_the_class_and_a_masked_text(formatter):
    try:
        raise ValueError(f"secret {PHONE}")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    line = formatter.format(made)
    assert "ValueError: secret +******99" in line
    assert "Traceback" not in line
    assert __file__ not in line


def test_no_exception_no_cause():
    made = record("x")
    made.exc_info = (None, None, None)
    assert "cause" not in JsonFormatter().format(made)


@pytest.fixture
def _own_logging():
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize("form", ["text", "json"])
def test_set_up_writes_to_standard_error_at_the_level(form, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up(form, "warning")
    logging.getLogger("streams.x").info("not this")
    logging.getLogger("streams.x").error("but\nthis", extra={"n": 1})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert ("but this" in lines[0]) is (
        form == "text" or "but this" in orjson.loads(lines[0])["message"]
    )
    set_up(form, "warning")
    assert len(logging.getLogger().handlers) == 1


# --- records of user code


def handled(**attributes) -> Event:
    event = Event(
        "order",
        {"secret": "hush"},
        id="deadbeefdeadbeef-1",
        tenant="acme",
        **attributes,
    )
    event.stream, event.group, event.entry_id, event.attempt = (
        "orders",
        "billing",
        "1700000000000-0",
        2,
    )
    return event


def logged(form: str, name: str = "shop", event: Event | None = None, **extra) -> str:
    record = logging.getLogger(name).makeRecord(
        name, logging.INFO, "f", 1, "charging", (), None, extra=extra
    )
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    token = handling.set(event)
    try:
        assert EventFilter().filter(record)
        assert EventFilter().filter(record)  # A second handler sees the same record.
    finally:
        handling.reset(token)
    return formatter.format(record)


def test_what_is_logged_while_an_event_is_handled_says_which():
    event = handled(traceparent=f"00-{'1' * 32}-{'2' * 16}-01", key="hush")
    line = json.loads(logged("json", event=event))
    facts = {
        "stream": "orders", "group": "billing", "event_id": "deadbeefdeadbeef-1", "event_type": "order",
        "entry": "1700000000000-0", "attempt": 2, "trace_id": "1" * 32,
    }  # fmt: skip
    assert {name: line[name] for name in facts} == facts
    text = logged("text", event=event)
    assert (
        f"stream=orders group=billing event_id=deadbeefdeadbeef-1 event_type=order entry={event.entry_id}"
        in text
    )
    assert f"attempt=2 trace_id={'1' * 32}" in text
    assert "hush" not in text + str(line)
    assert "acme" not in text + str(line)


def test_what_the_program_says_itself_stays_and_is_masked():
    line = json.loads(
        logged("json", event=handled(), entry="5511999999999", group="mine")
    )
    assert (line["entry"], line["group"], line["stream"]) == (
        "******99",
        "mine",
        "orders",
    )


def test_event_ids_and_types_that_are_numbers_are_masked():
    event = handled()
    event.id = event.type = "5511999999999"
    assert "5511999999999" not in logged("text", event=event)


def test_outside_of_a_handler_nothing_is_added_and_formats_that_name_it_work():
    assert set(json.loads(logged("json"))) == {"time", "level", "logger", "message"}
    record = logging.makeLogRecord({"name": "shop", "msg": "x"})
    EventFilter().filter(record)
    assert (
        logging.Formatter("%(event_id)s|%(trace_id)s|%(message)s").format(record)
        == "||x"
    )


def test_lines_of_this_package_have_their_own_facts():
    assert "event_id" not in json.loads(
        logged("json", name="streams.consumer", event=handled())
    )


def test_a_configuration_that_switches_loggers_off_does_not_silence_the_package(caplog):
    quiet, other = (
        logging.getLogger("streams.worker"),
        logging.getLogger("other.library"),
    )
    quiet.disabled = other.disabled = True
    try:
        be_heard()
        assert not quiet.disabled
        assert other.disabled
        assert "disable_existing_loggers" in caplog.text
        caplog.clear()
        be_heard()
        assert not caplog.messages, "once"
    finally:
        quiet.disabled = other.disabled = False


# --- formats of somebody's own


def told(made: logging.LogRecord) -> logging.LogRecord:
    """A record as it leaves a logger of the package."""
    assert logger_of("consumer").filter(made)
    return made


def test_a_format_of_somebodys_own_has_the_facts():
    facts = {
        "where": "orders/billing",
        "attempt": 1,
        "delay": 0.2,
        "error_message": "no such sku",
        "entry": "",
    }
    made = told(record("retry", **facts))
    said = "retry where=orders/billing attempt=1 delay=0.2 error_message='no such sku'"
    assert (
        logging.Formatter("%(levelname)s %(message)s").format(made) == f"WARNING {said}"
    )
    assert made.getMessage() == said
    assert (made.streams_message, made.msg, repr(made.args)) == (
        "retry",
        "retry %s",
        f"({said[6:]},)",
    )
    assert made.attempt == 1, "its attributes stay"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (record("100%", n=1), "100% n=1"),
        (record("100%"), "100%"),
        (record("%d of %s", 3, "50%", n=1), "3 of 50% n=1"),
        (record("%d of %s", 3, PHONE), "3 of +******99"),
        (record("%s", 5511999999999), "******99"),
        (record("%(a)s", {"a": PHONE}, n=1), "+******99 n=1"),
        (record(PHONE), "+******99"),
        (
            record("x", empty="", quoted='a "b"', equal="a=b"),
            "x quoted='a \"b\"' equal='a=b'",
        ),
    ],
)
def test_messages_with_arguments(made, said):
    assert told(made).getMessage() == said
    assert told(made).getMessage() == said, (
        "a record that comes by again has its facts once"
    )


def test_a_message_that_cannot_be_formatted_is_the_handlers_to_report():
    with pytest.raises(TypeError):
        told(record("%s and %s", 1)).getMessage()


@quick
@given(st.text(), st.dictionaries(fact_names, fact_values, max_size=4), st.text())
def test_our_own_formatters_write_the_same_with_and_without(message, facts, cause):
    made = record("%s", message, **facts)
    made.exc_info = (ValueError, ValueError(cause), None)
    for formatter in (TextFormatter(), JsonFormatter()):
        assert formatter.format(told(copy.copy(made))) == formatter.format(made)


@quick
@given(st.text(), st.dictionaries(fact_names, fact_values, max_size=4))
def test_any_facts_are_one_line_in_any_format(message, facts):
    made = told(record("%s", message, **facts))
    assert made.getMessage().isprintable()
    kept = [name for name, value in facts.items() if value not in ("", None)]
    assert all(f" {name}=" in made.getMessage() for name in kept)


class Everything(logging.Formatter):
    """What collectors do: each attribute that is not Python's own."""

    def format(self, made: logging.LogRecord) -> str:
        said = super().format(made)
        return json.dumps(
            {**vars(made), "args": None, "exc_info": None, "said": said}, default=str
        )


@pytest.mark.parametrize(
    "formatter", [logging.Formatter(), Everything()], ids=["plain", "everything"]
)
@pytest.mark.parametrize(
    "value",
    [PHONE, "5511999999999", 5511999999999, 5511999999999.0, [PHONE], {"to": PHONE}],
)
def test_phone_numbers_are_masked_in_any_format(formatter, value):
    def raised() -> logging.LogRecord:
        made = record("a line")
        try:
            raise LookupError("none") from ValueError(f"bad number {value}")
        except LookupError as error:
            made.exc_info = (type(error), error, error.__traceback__)
        return made

    for made in (
        record("to %s", value),
        record("sending", phone=value, record=value),
        raised(),
    ):
        line = formatter.format(told(made))
        assert "9999" not in line
        assert "******" in line


def test_the_traceback_of_an_attempt_is_below_the_line_in_any_format():
    lines = ["Traceback (most recent call last):", "KeyError: 'sku'"]
    text = logging.Formatter().format(told(record("retry", attempt=1, traceback=lines)))
    assert text.splitlines() == ["retry attempt=1", *lines]


@pytest.mark.parametrize("way", ["queue", "pickle"])
@FORMATTERS
def test_a_record_may_go_through_a_queue(formatter, way):
    made = record("%s fails", "it", where="orders/billing", attempt=1)
    made.exc_info = (ValueError, ValueError("no such sku"), None)
    before = formatter.format(made)
    if way == "queue":
        passed = queue.SimpleQueue()
        logging.handlers.QueueHandler(passed).handle(told(made))
        made = passed.get()
    else:
        told(made).exc_info = None  # A traceback goes to no other process.
        made = pickle.loads(pickle.dumps(made))
    assert formatter.format(made) == before
    assert (
        "where=orders/billing attempt=1 cause='ValueError: no such sku'"
        in made.getMessage()
    )
    assert made.getMessage().count("attempt=1") == 1


def test_what_a_program_logs_by_itself_stays_as_it_is(caplog):
    logging.getLogger("shop").warning("stock of %s is low", "x", extra={"left": 3})
    assert caplog.messages == ["stock of x is low"]
    assert not hasattr(caplog.records[0], "streams_message")


def test_a_line_of_the_package_has_its_facts_wherever_it_is_caught(caplog):
    logger_of("consumer").warning("retry", extra={"where": "orders/billing"})
    assert caplog.messages == ["retry where=orders/billing"]
    assert "retry where=orders/billing" in caplog.text
