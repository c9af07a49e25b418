"""The text of an exception: class, message, place in the program, traceback.

The text of a handler's exception often quotes the data that it worked on. Therefore
numbers in it are masked, the event's body and its long texts are removed, and every part
has a maximum length.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, NamedTuple

import orjson

from streams.common.masking import masked, one_line

_FRAMES = 8
_LONGEST = 300
_SHORTER = 160
"""The longest message that is followed by another one."""
_LONGEST_IN_ALL = 500
_RELATED = 3
"""The most causes, or members of a group, in one line."""
_BODY_TEXT = 24
"""The shortest text of a body that is removed. A shorter one often names the problem."""
_LEAVES = 1000
_TRACEBACK_FRAMES = 30
_TRACEBACK_LINES = 200
_HIDDEN = "(the body)"
_UNREADABLE = "(the exception has no readable text)"
_HERE = str(Path(__file__).parents[1])
_PATHS = map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))
_LIBRARIES = tuple(f"{path}/" for path in _PATHS if path)
_INSTALLED = ("/site-packages/", "/dist-packages/")


class Setting(NamedTuple):
    """The facts of an attempt that the text of its failure depends on.

    Attributes:
        handler: its function, which is the place of an error without a frame of the
            program.
        body: the event's body, which is removed from every text.
    """

    handler: Callable[..., Any] | None = None
    body: bytes = b""


NOWHERE = Setting()
"""The setting of an exception that no handler raised."""


def describe_error(
    error: BaseException, consumer: str, setting: Setting = NOWHERE
) -> dict[str, Any]:
    """The description of an exception that an attempt record keeps.

    ``where`` is the innermost place outside of libraries and of this package, if there
    is one. ``traceback`` has the innermost eight places, outermost first, without values
    and source lines.
    """
    found: dict[str, Any] = {
        "type": _class_name(error),
        "message": message_of(error, setting),
        "where": where_of(error, setting),
        "consumer": consumer,
    }
    places = [_place(code, line) for code, line, _ in _steps(error.__traceback__)]
    if places:
        found["traceback"] = places[-_FRAMES:]

    return found


def message_of(error: BaseException, setting: Setting = NOWHERE) -> str:
    """The masked message of an exception, its causes and its group members, in one line."""
    related = [*_members(error), *_causes(error)]
    text = _said(error, setting, _SHORTER if related else _LONGEST)
    for word, other in related:
        said = _said(other, setting, _SHORTER)
        if said and said in text:
            continue  # The outer exception repeats the text of its cause.

        text += word + _with_text(type(other).__name__, said)
        if place := where_of(other, setting):
            text += f" ({place})"

    return one_line(text, _LONGEST_IN_ALL)


def where_of(error: BaseException, setting: Setting = NOWHERE) -> str:
    """The innermost place in the program that raised an exception, else its handler.

    It is '' if neither is known.
    """
    handler = _code_of(setting.handler)
    package = _package_of(setting.handler)
    application, own, last = "", "", ""
    for code, line, module in _steps(error.__traceback__):
        last = _place(code, line)
        if code is handler:
            own = last

        if not _is_foreign(code.co_filename) or (package and _top(module) == package):
            application = last

    if application or own:
        return application or own
    return _place(handler, handler.co_firstlineno) if handler is not None else last


def place_of(handler: Callable[..., Any]) -> str:
    """The place where a handler is defined; '' if it is not a Python function."""
    code = _code_of(handler)
    return _place(code, code.co_firstlineno) if code is not None else ""


def traceback_of(error: BaseException, setting: Setting = NOWHERE) -> list[str]:
    """The masked lines of a traceback, with causes first and members of groups last."""
    lines: list[str] = []
    _write(error, setting, lines, indent="", seen=set())
    if len(lines) > _TRACEBACK_LINES:
        lines[_TRACEBACK_LINES:] = ["…"]

    return lines


def _write(
    error: BaseException,
    setting: Setting,
    lines: list[str],
    *,
    indent: str,
    seen: set[int],
) -> None:
    if len(lines) > _TRACEBACK_LINES or id(error) in seen:
        return

    seen.add(id(error))
    cause = _cause_of(error)
    if cause is not None and id(cause) not in seen:
        _write(cause, setting, lines, indent=indent, seen=seen)
        direct = "because of that:" if error.__cause__ else "while that was handled:"
        lines.append(f"{indent}{direct}")

    lines.append(f"{indent}Traceback (most recent call last):")
    for frame in traceback.extract_tb(error.__traceback__, -_TRACEBACK_FRAMES):
        place = f'File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        lines.append(one_line(f"{indent}  {place}"))
        if frame.line:
            lines.append(f"{indent}    {masked(frame.line)}")

    said = _with_text(_class_name(error), _said(error, setting, _LONGEST))
    lines.append(f"{indent}{said}")

    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            _write(member, setting, lines, indent=f"{indent}  | ", seen=seen)


def _with_text(name: str, text: str) -> str:
    return f"{name}: {text}" if text else name


def _members(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """The first exceptions of a nested group, each with its separator."""
    rest = [error] if isinstance(error, BaseExceptionGroup) else []
    separator = ": "
    left = _RELATED
    while rest and left:
        one = rest.pop(0)
        if isinstance(one, BaseExceptionGroup):
            rest = [*one.exceptions[:_RELATED], *rest][:_LEAVES]
            continue

        yield separator, one
        separator = "; "
        left -= 1


def _causes(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    seen = {id(error)}
    for _ in range(_RELATED):
        cause = _cause_of(error)
        if cause is None or id(cause) in seen:
            return

        seen.add(id(cause))
        yield "; caused by ", cause
        error = cause


def _cause_of(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _said(error: BaseException, setting: Setting, limit: int) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - __str__ of a user's class may raise anything
        return _UNREADABLE

    try:
        return masked(_without_body(text, setting.body), limit)
    except Exception:  # noqa: BLE001 - a user's subclass of str may raise anything
        return _UNREADABLE


def _without_body(text: str, body: bytes) -> str:
    """A text without the event's body, its objects and lists, and its long texts."""
    text = str.__str__(text)[: 20 * _LONGEST]
    if not body:
        return text

    for part in sorted(_parts(body), key=len, reverse=True):
        if part in text:
            text = text.replace(part, _HIDDEN)

    return text


def _parts(body: bytes) -> set[str]:
    whole = body.decode("utf-8", "replace")
    found = {whole, repr(body), str(body)[2:-1]} if len(whole) > 3 else set()
    try:
        rest = [orjson.loads(body)]
    except orjson.JSONDecodeError:
        return found

    for _ in range(_LEAVES):
        if not rest:
            break

        value = rest.pop()
        if isinstance(value, str) and len(value) >= _BODY_TEXT:
            found |= {value, repr(value)[1:-1]}

        if not value or not isinstance(value, dict | list):
            continue

        found |= {repr(value), orjson.dumps(value).decode()}
        rest += value.values() if isinstance(value, dict) else value

    return found


def _steps(trace: TracebackType | None) -> Iterator[tuple[CodeType, int, str]]:
    """Code, line and module of every frame that an exception passed, outermost first."""
    while trace is not None:
        frame = trace.tb_frame
        yield frame.f_code, trace.tb_lineno, str(frame.f_globals.get("__name__", ""))
        trace = trace.tb_next


def _package_of(handler: Callable[..., Any] | None) -> str:
    """The package of a handler, which is part of the program even if it is installed."""
    top = _top(str(getattr(handler, "__module__", "") or ""))
    return "" if top == _top(__name__) else top


def _top(module: str) -> str:
    return module.partition(".")[0]


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename.rsplit('/', 1)[-1]}:{line} in {code.co_name}"


def _is_foreign(file: str) -> bool:
    """Whether a file is not part of the program but of Python, a library or this package."""
    if file.startswith(("<", f"{_HERE}/", *_LIBRARIES)):
        return True
    return any(part in file for part in _INSTALLED)


def _code_of(handler: Callable[..., Any] | None) -> CodeType | None:
    """The code of a handler inside partials, methods, decorators and callable objects."""
    found: Any = handler
    for _ in range(_RELATED * _FRAMES):
        if isinstance(found, partial):
            found = found.func
        elif hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        else:
            break

    code = getattr(found, "__code__", None)
    if code is None:
        code = getattr(type(found).__call__, "__code__", None)

    return code if isinstance(code, CodeType) else None


def _class_name(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"
