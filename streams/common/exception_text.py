"""What is written of an exception, wherever it is written: class, message, place in the program, traceback.

An exception of a handler says what went wrong, and often quotes what it had in hand. So numbers in its text are masked,
the event's body and its long texts are taken out, and everything has a bound.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any, NamedTuple

import orjson

from streams.common.masking import masked, one_line

_FRAMES = 8
_LONGEST = 300
_SHORTER = 160
"""Characters of a message that others follow."""
_LONGEST_IN_ALL = 500
_RELATED = 3
"""How many causes, or members of a group, are named in one line."""
_BODY_TEXT = 24
"""A text of a body is taken out from so many characters on; a shorter one is what names the thing that went wrong."""
_LEAVES = 1000
_TRACEBACK_FRAMES = 30
_TRACEBACK_LINES = 200
_HIDDEN = "(the body)"
_HERE = str(Path(__file__).parents[1])
_LIBRARIES = tuple(
    f"{path}/"
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)
_INSTALLED = ("/site-packages/", "/dist-packages/")


class Setting(NamedTuple):
    """An attempt, as far as the text of its failure depends on it.

    Attributes:
        handler: its function, which names a place where no frame of the program does.
        body: the event's body, which no text may show.
    """

    handler: Callable[..., Any] | None = None
    body: bytes = b""


NOWHERE = Setting()
"""Of an exception that no handler raised."""


def describe_error(
    error: BaseException, consumer: str, setting: Setting = NOWHERE
) -> dict[str, Any]:
    """What an attempt record keeps of an exception: class, masked message, and where in the program it came from.

    ``where`` is the innermost place in the program: not in a library, not in this package, unless there is no other.
    ``traceback`` has the innermost eight places, outermost first; no values and no source lines.
    """
    places = (_place(code, line) for code, line, _ in _steps(error.__traceback__))
    frames = deque(places, maxlen=_FRAMES)
    found = {
        "type": _class_name(error),
        "message": message_of(error, setting),
        "where": where_of(error, setting),
        "consumer": consumer,
    }
    return found | {"traceback": list(frames)} if frames else found


def message_of(error: BaseException, setting: Setting = NOWHERE) -> str:
    """What an exception says, in one masked line: with the members of a group, and with what caused it."""
    related = [*_members(error), *_causes(error)]
    text = _said(error, setting, _SHORTER if related else _LONGEST)
    for word, other in related:
        place = where_of(other, setting)
        said = _said(other, setting, _SHORTER)
        if said and said in text:
            continue  # It was raised again in other words, or for a rule.
        text += f"{word}{type(other).__name__}{': ' if said else ''}{said}{f' ({place})' if place else ''}"
    return one_line(text, _LONGEST_IN_ALL)


def where_of(error: BaseException, setting: Setting = NOWHERE) -> str:
    """The innermost place in the program that an exception passed, else its handler's; '' where neither is known."""
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
    """Where a handler is defined; '' of one that is no Python."""
    code = _code_of(handler)
    return _place(code, code.co_firstlineno) if code is not None else ""


def traceback_of(error: BaseException, setting: Setting = NOWHERE) -> list[str]:
    """The lines of a traceback, causes first as Python has them, groups with their members; bounded, and masked."""
    lines: list[str] = []
    _write(error, setting, lines, indent="", seen=set())
    return lines if len(lines) <= _TRACEBACK_LINES else [*lines[:_TRACEBACK_LINES], "…"]


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
    cause = error.__cause__ or (
        None if error.__suppress_context__ else error.__context__
    )
    if cause is not None and id(cause) not in seen:
        _write(cause, setting, lines, indent=indent, seen=seen)
        direct = "because of that:" if error.__cause__ else "while that was handled:"
        lines.append(f"{indent}{direct}")
    lines.append(f"{indent}Traceback (most recent call last):")
    for frame in traceback.extract_tb(error.__traceback__, -_TRACEBACK_FRAMES):
        lines.append(
            one_line(
                f'{indent}  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
            )
        )
        if frame.line:
            lines.append(f"{indent}    {masked(frame.line)}")
    said = _said(error, setting, _LONGEST)
    lines.append(f"{indent}{_class_name(error)}{': ' if said else ''}{said}")
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            _write(member, setting, lines, indent=f"{indent}  | ", seen=seen)


def _members(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """The first exceptions of a group, however deep, each with the word that stands before it."""
    rest = [error] if isinstance(error, BaseExceptionGroup) else []
    count = 0
    while rest and count < _RELATED:
        one = rest.pop(0)
        if isinstance(one, BaseExceptionGroup):
            rest = [*one.exceptions[:_RELATED], *rest][:_LEAVES]
        else:
            yield ("; " if count else ": "), one
            count += 1


def _causes(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    seen = {id(error)}
    for _ in range(_RELATED):
        cause = error.__cause__ or (
            None if error.__suppress_context__ else error.__context__
        )
        if cause is None or id(cause) in seen:
            return
        seen.add(id(cause))
        yield "; caused by ", cause
        error = cause


def _said(error: BaseException, setting: Setting, limit: int) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - somebody else's class; its failure must not take the worker's place
        return "(the exception has no readable text)"
    try:
        return masked(_without_body(text, setting.body), limit)
    except Exception:  # noqa: BLE001 - a subclass of str may do anything
        return "(the exception has no readable text)"


def _without_body(text: str, body: bytes) -> str:
    """A text in which neither the body stands, nor a part of it that is itself structured, nor a long text of it."""
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
    left = _LEAVES
    while rest and left:
        left -= 1
        value = rest.pop()
        if isinstance(value, Mapping | list):
            if value:
                found |= {repr(value), orjson.dumps(value).decode()}
            rest += value.values() if isinstance(value, Mapping) else value
        elif isinstance(value, str) and len(value) >= _BODY_TEXT:
            found |= {value, repr(value)[1:-1]}
    return found


def _steps(trace: TracebackType | None) -> Iterator[tuple[CodeType, int, str]]:
    """Code, line and module of every step on an exception's way, outermost first."""
    while trace is not None:
        yield (
            trace.tb_frame.f_code,
            trace.tb_lineno,
            str(trace.tb_frame.f_globals.get("__name__", "")),
        )
        trace = trace.tb_next


def _package_of(handler: Callable[..., Any] | None) -> str:
    """The package of a handler that is installed: then its other modules are the program, too."""
    top = _top(str(getattr(handler, "__module__", "") or ""))
    return "" if top == _top(__name__) else top


def _top(module: str) -> str:
    return module.partition(".")[0]


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename.rsplit('/', 1)[-1]}:{line} in {code.co_name}"


def _is_foreign(file: str) -> bool:
    """Whether a file is no part of the program: of a library, of Python, of this package, or none at all."""
    if file.startswith(("<", f"{_HERE}/")) or any(part in file for part in _INSTALLED):
        return True
    return file.startswith(_LIBRARIES)


def _code_of(handler: Callable[..., Any] | None) -> CodeType | None:
    """The code of the function that was written, inside partials, methods, decorators and callable objects."""
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
    return (
        kind.__name__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
