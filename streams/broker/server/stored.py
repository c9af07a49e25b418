"""Readers of stored values.

Other programs may write to any key, so a value that cannot be read never hides the others.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from streams.errors import InvalidName
from streams.events.names import parse_member

if TYPE_CHECKING:
    from streams.broker.server.link import Link
    from streams.broker.server.scripts import Command

T = TypeVar("T")

_MOST = 2**64 - 1
_OF_WORKERS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("at", "since", "lease", "rate"), (int, float)),
    **dict.fromkeys(("busy", "free", "concurrency", "done"), int),
    "levels": list,
    "runs": dict,
    "kept_for": str,
}


def entry_place(row: bytes) -> tuple[int, str] | None:
    """Level and entry id of a row ``level|entry id``; None if the row has another form."""
    found = any_place(row)
    if found is None:
        return None

    milliseconds, _, sequence = found[1].partition("-")
    is_id = _is_number(milliseconds) and _is_number(sequence)
    return found if is_id else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _MOST


def any_place(row: bytes) -> tuple[int, str] | None:
    """Level and id of a row ``level|id``, an entry's or an event's; None for another form."""
    try:
        return parse_member(row.decode())
    except (InvalidName, UnicodeDecodeError):
        return None


def whole(text: Any, otherwise: int = 0) -> int:
    """A whole number."""
    try:
        return int(text)
    except (TypeError, ValueError, OverflowError):
        return otherwise


def real(text: Any, otherwise: float = 0.0) -> float:
    """A number that is finite."""
    try:
        number = float(text)
    except (TypeError, ValueError, OverflowError):
        return otherwise

    return number if math.isfinite(number) else otherwise


def json_object(text: bytes | str | None) -> dict[str, Any] | None:
    """A JSON object; None if the text is none."""
    try:
        found = orjson.loads(text or b"")
    except orjson.JSONDecodeError:
        return None

    return found if isinstance(found, dict) else None


def said_by_workers(reply: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """The last note of each worker, by its name; a note with fields of a wrong type is left out."""
    found = {}
    for name, text in pairs(reply).items():
        said = json_object(text)
        if said is not None and _is_said(said):
            found[name] = said

    return found


def _is_said(said: dict[str, Any]) -> bool:
    for name, kinds in _OF_WORKERS.items():
        if name in said and not isinstance(said[name], kinds):
            return False

    starts = said.get("runs", {}).values()
    levels = said.get("levels", ())
    are_times = all(isinstance(since, (int, float)) for since in starts)

    return are_times and all(isinstance(level, int) for level in levels)


def pairs(reply: Sequence[Any]) -> dict[str, Any]:
    """A flat list of names and values, as a mapping; values stay as they are."""
    names = (name.decode("utf-8", "replace") for name in reply[::2])
    return dict(zip(names, reply[1::2], strict=False))


def texts(reply: Sequence[bytes] | None) -> dict[str, str]:
    """A flat list of names and values, as a mapping of texts."""
    found = pairs(reply or ())
    return {name: value.decode("utf-8", "replace") for name, value in found.items()}


def flat(named: Mapping[str, Any]) -> list[Any]:
    """A mapping as the flat list of names and values that commands take."""
    found: list[Any] = []
    for pair in named.items():
        found += pair

    return found


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in parts of at most ``size``."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


async def pages(
    link: Link, name: Command, options: Command
) -> AsyncIterator[Sequence[bytes]]:
    """Every page of ``SCAN`` and the like; an empty page is given too.

    Args:
        link: to the server.
        name: the command up to its cursor.
        options: the command from behind its cursor on.
    """
    cursor = b"0"
    while True:
        cursor, page = await link.call(*name, cursor, *options)
        yield page
        if cursor == b"0":
            return
