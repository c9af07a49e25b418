"""What is written of an exception: where in the program it came from, what it says, and nothing of the body."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial, wraps

import pytest

from streams.common.exception_text import (
    Setting,
    describe_error,
    message_of,
    traceback_of,
    where_of,
)


class BusyError(Exception):
    def __init__(self, seconds: int) -> None:
        super().__init__("busy")
        self.retry_after = seconds


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def caught(function, *arguments) -> BaseException:
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - it is what the test is about
        return error
    raise AssertionError("nothing was raised")


def handler(event: object = None) -> None:
    inner()


def inner() -> None:
    json.loads("{")


def line_of(function, ahead: int = 1) -> int:
    return function.__code__.co_firstlineno + ahead


def test_an_exception_is_described_without_its_traceback():
    def handler() -> None:
        raise ValueError("no such number +55 (11) 98765-4321\nsecond line")

    described = describe_error(caught(handler), "pod-1")
    assert described["type"] == "ValueError"
    assert described["message"] == "no such number +******21 second line"
    assert re.fullmatch(r"test_exception_text\.py:\d+ in handler", described["where"])
    assert described["consumer"] == "pod-1"


def test_an_exception_class_is_named_with_its_module():
    assert describe_error(BusyError(1), "c") == {
        "type": f"{__name__}.BusyError",
        "message": "busy",
        "where": "",
        "consumer": "c",
    }


def test_an_exception_that_cannot_be_written():
    assert (
        describe_error(MuteError(), "c")["message"]
        == "(the exception has no readable text)"
    )


def test_the_place_is_the_innermost_of_the_program():
    error = caught(handler)
    assert where_of(error) == f"test_exception_text.py:{line_of(inner)} in inner"
    described = describe_error(error, "c")
    assert described["where"] == where_of(error)
    assert described["traceback"][-1].startswith("decoder.py:"), (
        "the innermost of all is there, too"
    )


def test_a_handler_that_no_frame_names_is_named_by_its_definition():
    place = f"test_exception_text.py:{line_of(handler, 0)} in handler"
    assert where_of(TimeoutError(), Setting(handler)) == place
    assert where_of(TimeoutError(), Setting(partial(handler, 1))) == place
    assert (
        where_of(TimeoutError(), Setting(wraps(handler)(lambda event: None))) == place
    )
    assert where_of(TimeoutError()) == ""
    assert where_of(TimeoutError(), Setting(print)) == ""


def test_a_callable_object_is_named_by_its_method():
    class Charge:
        def __call__(self, event: object) -> None:
            pass

    assert where_of(TimeoutError(), Setting(Charge())).endswith(" in __call__")


def test_an_installed_handler_and_its_package_are_the_program(tmp_path, monkeypatch):
    """Also where everything lies in site-packages, as in an image that was made by pip install."""
    shop = tmp_path / "site-packages" / "shop"
    shop.mkdir(parents=True)
    (shop / "__init__.py").touch()
    (shop / "money.py").write_text("def pay():\n    raise ValueError('no')\n")
    (shop / "work.py").write_text(
        "from shop.money import pay\ndef charge(event):\n    pay()\n"
    )
    (tmp_path / "site-packages" / "lib.py").write_text(
        "def call(it):\n    it()\n    raise OSError('lib')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    from lib import call  # type: ignore[import-not-found]
    from shop.work import charge  # type: ignore[import-not-found]

    assert where_of(caught(charge, None), Setting(charge)) == "money.py:2 in pay"

    def own(event: object) -> None:
        call(lambda: None)

    assert where_of(caught(own, None), Setting(own)).endswith(" in own"), (
        "a library is not the program"
    )
    assert where_of(caught(call, lambda: None), Setting(call)) == "lib.py:3 in call", (
        "unless there is nothing else"
    )


def test_members_of_a_group_are_named_with_their_places():
    errors = [
        caught(inner),
        ValueError("call 5511999999999"),
        ExceptionGroup("deep", [KeyError("sku")]),
        OSError("4th"),
    ]
    said = message_of(ExceptionGroup("several", errors))
    assert said.startswith(
        "several (4 sub-exceptions): JSONDecodeError: Expecting property name"
    )
    assert (
        f"(test_exception_text.py:{line_of(inner)} in inner); ValueError: call ******99; KeyError: 'sku'"
        in said
    )
    assert "4th" not in said, "three are enough"


def test_causes_are_named_with_their_places():
    def charge() -> None:
        try:
            inner()
        except ValueError as error:
            raise BusyError(3) from error

    said = message_of(caught(charge))
    assert said.startswith("busy; caused by JSONDecodeError: Expecting")
    assert said.endswith(f"(test_exception_text.py:{line_of(inner)} in inner)")

    def hush() -> None:
        try:
            inner()
        except ValueError:
            raise BusyError(3) from None

    assert message_of(caught(hush)) == "busy"
    again = BusyError(3)
    again.__cause__ = ValueError("busy")
    assert message_of(again) == "busy", "what was said once is not said again"


def test_circles_of_causes_end():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert message_of(first) == "a; caused by ValueError: b"
    assert len(traceback_of(first)) < 10


def test_whatever_is_huge_is_bounded():
    # They share their texts, which would take a gigabyte otherwise.
    long, longer = "z" * 10**5, "x" * 10**6
    errors = [ValueError(longer) for _ in range(1000)]
    group: BaseException = ExceptionGroup("y" * 10**6, errors)
    for n in range(1000):
        group = ExceptionGroup(f"{n}", [group])
    last = group
    for _ in range(500):
        last.__cause__ = ValueError(long)
        last = last.__cause__
    described = describe_error(group, "c")
    assert len(described["message"]) <= 500
    lines = traceback_of(group)
    assert len(lines) <= 201
    assert max(map(len, lines)) <= 1000


def test_a_deep_recursion_is_bounded():
    def again(n: int) -> None:
        again(n + 1)

    error = caught(again, 0)
    assert isinstance(error, RecursionError)
    assert where_of(error).endswith(" in again")
    assert len(traceback_of(error)) < 100


@pytest.mark.parametrize("error", [MuteError(), ExceptionGroup("g", [MuteError()])])
def test_texts_that_cannot_be_read_are_said_to_be(error):
    assert "(the exception has no readable text)" in message_of(error)
    assert "(the exception has no readable text)" in "\n".join(traceback_of(error))


BODY = {
    "name": "Ana",
    "text": "your code is canary-1, do not tell it",
    "items": [{"sku": "A-17"}],
}


@pytest.mark.parametrize(
    "said",
    [
        json.dumps(BODY, separators=(",", ":")), repr(BODY), BODY["text"], repr(BODY["items"]), repr(BODY["text"]),
        repr(json.dumps(BODY, separators=(",", ":")).encode()), f"{BODY!r}, {BODY['text']!r}",
    ],
)  # fmt: skip
def test_the_body_is_taken_out(said):
    setting = Setting(handler, json.dumps(BODY, separators=(",", ":")).encode())
    error = RuntimeError(f"cannot send {said} to A-17")
    error.__cause__ = ValueError(said)
    for text in (message_of(error, setting), "\n".join(traceback_of(error, setting))):
        assert "canary" not in text
        assert "{" not in text
        assert "(the body)" in text
        assert "to A-17" in text, "what names the thing stays"


def test_a_body_that_is_no_json_is_taken_out():
    assert (
        message_of(ValueError("no: canary <x/>"), Setting(None, b"canary <x/>"))
        == "no: (the body)"
    )
    assert message_of(ValueError("no 17"), Setting(None, b"17")) == "no 17", (
        "a scrap is no body"
    )


def test_a_traceback_has_places_lines_causes_and_members():
    def charge() -> None:
        try:
            inner()
        except ValueError as error:
            raise ExceptionGroup(
                "all", [caught(inner), OSError("call 5511999999999")]
            ) from error

    lines = traceback_of(caught(charge))
    text = "\n".join(lines)
    assert lines[0] == "Traceback (most recent call last):"
    assert f'  File "{__file__}", line {line_of(inner)}, in inner' in lines
    assert '    json.loads("{")' in lines
    assert "because of that:" in lines
    assert "ExceptionGroup: all (2 sub-exceptions)" in text
    assert "  | OSError: call ******99" in lines
    assert all(line.isprintable() for line in lines)


def test_the_module_knows_its_own_folder_and_python():
    """A place in this package or in Python is never the program's."""
    code = (
        "import asyncio, streams.common.exception_text as e; "
        "print(e._is_foreign(asyncio.__file__), e._is_foreign(e.__file__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]
