"""Writes the tables of options from signatures and docstrings: ``python docs/tooling/reference.py`` after a change."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from streams import (
    Event,
    Levels,
    Limit,
    Partitions,
    Pipeline,
    Reject,
    Retry,
    Settings,
    Snooze,
    Throttle,
    Unavailable,
)
from streams.events.event import EventAttributes
from streams.handlers.registry import HandlerOptions
from streams.middleware import Breaker, Dedupe, ErrorRules, Timeout
from streams.settings import Settings as Configured

PAGE = Path(__file__).parents[1] / "reference" / "options.md"
_HEAD = """# Options

This page lists the options of each call, with types, defaults and units. It is made from the
code by `python docs/tooling/reference.py`, and a test holds it to the code. `Seconds` is a number
of seconds or a `timedelta`; `When` may be a `datetime` with a zone as well
([spans of time](../concepts.md#spans-of-time)).
"""
_PARAMETER = re.compile(r"(?P<names>[\w, ]+): (?P<text>.*)")
_NONE = inspect.Parameter.empty
_ALIASES = {
    "Attributes": "str | Iterable[str] | None",
    "OnDead": "'continue' | 'hold'",
    "Start": "'oldest' | 'new'",
    "Errors": "Iterable[type[BaseException]]",
    "Wait": "'never' | 'server' | 'always'",
    "Retention | None": "'work' | 'fanout' | None",
    "str | tuple[str, ...] | KeyFunction": "str | tuple[str, ...] | function",
    "_SecondsField": "Seconds",
    "Backoff": "'exponential' | 'linear' | 'fixed'",
}
"""Names of types, in full."""


class Row(NamedTuple):
    """One option."""

    name: str
    kind: str
    default: str
    meaning: str


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    parts += [_section(title, rows) for title, rows in _sections()]
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, list[Row]]]:
    yield "Pipeline(...)", _of_call(Pipeline)
    yield (
        "@pipeline.handler(...)",
        [*_of_call(Pipeline.handler, but="options"), *_of_typed(HandlerOptions)],
    )
    yield "pipeline.stream(...)", _of_call(Pipeline.stream)
    yield (
        "pipeline.publish(...), publish_many(...), Event(...)",
        [
            *_of_call(Pipeline.publish, but="attributes"),
            *_of_typed(EventAttributes),
        ],
    )
    yield "pipeline.upcaster(...)", _of_call(Pipeline.upcaster)
    for made in (Retry, Limit, Levels, Partitions):
        yield f"{made.__name__}(...)", _of_call(made)
    for raised in (Snooze, Throttle, Reject, Unavailable):
        yield f"raise {raised.__name__}(...)", _of_call(raised)
    for middleware in (Timeout, ErrorRules, Dedupe, Breaker):
        yield f"{middleware.__name__}(...)", _of_call(middleware)
    yield "Settings(...), and the environment", _of_settings()
    yield "What a handler receives: Event", _of_attributes(Event)


def _of_call(call: Callable[..., Any], but: str = "") -> list[Row]:
    doc = inspect.getdoc(call) or ""
    said = _described(doc, "Args") or _described(doc, "Attributes")
    rows = []
    for name, parameter in inspect.signature(call).parameters.items():
        if name in ("self", but):
            continue
        default = (
            "required" if parameter.default is _NONE else _value(parameter.default)
        )
        meaning, kind = said.get(name, ""), _kind(parameter.annotation)
        # What is kept is a number; the constructor takes more.
        kind = "Seconds" if kind == "float" and "``timedelta``" in meaning else kind
        rows.append(Row(name, kind, default, meaning))
    return rows


def _of_typed(kind: type[Any]) -> list[Row]:
    """The items of a typed dictionary, each with the text behind it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{kind} is no class")
    rows = []
    for item, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and isinstance(after, ast.Expr)
        ):
            text = str(ast.literal_eval(after.value))
            rows.append(
                Row(
                    item.target.id,
                    _kind(ast.unparse(item.annotation)),
                    "",
                    " ".join(text.split()),
                )
            )
    return rows


def _of_settings() -> list[Row]:
    said = _described(inspect.getdoc(Configured) or "", "Attributes")
    return [
        Row(one.name, _kind(one.type), _value(one.default), said.get(one.name, ""))
        for one in fields(Settings)
    ]


def _of_attributes(kind: type[Any]) -> list[Row]:
    rows = [
        Row(name, "", "", text)
        for name, text in _described(inspect.getdoc(kind) or "", "Attributes").items()
    ]
    for name, member in vars(kind).items():
        if isinstance(member, property) and member.fget is not None:
            wanted = inspect.signature(member.fget).return_annotation
            rows.append(
                Row(
                    name,
                    _kind(wanted),
                    "",
                    " ".join((inspect.getdoc(member) or "").split()),
                )
            )
    return rows


def _described(doc: str, section: str) -> dict[str, str]:
    """What a docstring says of each name in one of its sections."""
    _, found, rest = doc.partition(f"\n{section}:\n")
    if not found:
        return {}
    said: dict[str, list[str]] = {}
    current: list[str] = []
    for line in rest.split("\n"):
        if line and not line.startswith(" "):
            break
        new = (
            _PARAMETER.fullmatch(line.strip())
            if line.startswith("    ") and not line.startswith("     ")
            else None
        )
        if new is not None:
            current = [new["text"]]
            said |= {name.strip(): current for name in new["names"].split(",")}
        elif line.strip():
            current.append(line.strip())
    return {name: " ".join(text) for name, text in said.items()}


def _kind(annotation: Any) -> str:
    text = (
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", str(annotation))
    )
    return "" if annotation is _NONE else _ALIASES.get(text, text)


def _value(value: Any) -> str:
    if value == "":
        return "''"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _section(title: str, rows: list[Row]) -> str:
    lines = [
        f"## {title}",
        "",
        "| name | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{row.name}` | {_code(row.kind)} | {_code(row.default)} | {_text(row.meaning)} |"
        for row in rows
    ]
    return "\n".join((*lines, ""))


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def _text(meaning: str) -> str:
    return meaning.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"{PAGE}\n")
