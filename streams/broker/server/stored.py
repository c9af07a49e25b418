"""Reading what is stored.

Anything may stand in a key that others can write to: one row that says nothing costs no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson

from streams.errors import InvalidName
from streams.events.names import parse_member

_MOST = 2**64 - 1
_OF_WORKERS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("at", "since", "lease", "rate"), (int, float)),
    **dict.fromkeys(("busy", "free", "concurrency", "done"), int),
    "levels": list,
    "runs": dict,
    "kept_for": str,
}


def entry_place(row: bytes) -> tuple[int, str] | None:
    """Level and entry id of a row ``level|entry id``; None: it is none."""
    found = any_place(row)
    milliseconds, dash, sequence = found[1].partition("-") if found else ("", "", "")
    is_id = dash and all(
        part.isascii() and part.isdigit() and int(part) <= _MOST
        for part in (milliseconds, sequence)
    )
    return found if is_id else None


def any_place(row: bytes) -> tuple[int, str] | None:
    """Level and id of a row ``level|id``, an entry's or an event's; None: it is none."""
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
    """A JSON object; None: it is none."""
    try:
        found = orjson.loads(text or b"")
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def said_by_workers(reply: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """What each worker said of itself last, by its name. Words of other types are left out."""
    rows = ((name, json_object(text)) for name, text in pairs(reply).items())
    return {name: said for name, said in rows if said is not None and _is_said(said)}


def _is_said(said: dict[str, Any]) -> bool:
    if any(
        name in said and not isinstance(said[name], kinds)
        for name, kinds in _OF_WORKERS.items()
    ):
        return False
    runs = said.get("runs", {}).values()
    return all(isinstance(since, (int, float)) for since in runs) and all(
        isinstance(level, int) for level in said.get("levels", ())
    )


def pairs(reply: Sequence[bytes]) -> dict[str, bytes]:
    """Fields of a hash, with their values."""
    return {
        reply[i].decode("utf-8", "replace"): reply[i + 1]
        for i in range(0, len(reply), 2)
    }
