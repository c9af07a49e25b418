"""Names of streams and groups, and the short texts that stand for an entry or for what a pause covers. Pure."""

from __future__ import annotations

import re

from streams.errors import InvalidName

_MEMBER = re.compile(r"(-?[0-9]{1,100})\|(.*)", re.DOTALL)
_SCOPE = re.compile(
    r"(?:group=(?P<group>[A-Za-z0-9._-]+)(?:,|\Z))?(?:level=(?P<level>-?[0-9]{1,20})(?:,|\Z))?"
    r"(?:(?P<attribute>[a-z]+)=(?P<value>.*))?",
    re.DOTALL,
)
_TAKEN_BY_KEYS = frozenset({"alias", "counts", "dedup", "filed", "message", "records"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DEFAULT_NAMESPACE = "streams"


def checked_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it is allowed.

    Raises:
        InvalidName: it is not; the message says which names are.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidName(
            f"{what} {name!r}: use 1 to 100 letters, digits, dots, underscores and hyphens, the first a letter or digit"
        )
    if what == "group" and name in _TAKEN_BY_KEYS:
        raise InvalidName(
            f"group {name!r}: other keys of a stream begin with this word, use another one"
        )
    return name


def member(level: int, entry_id: str) -> str:
    """How an entry is named inside the retry ZSET and the attempts hash."""
    return f"{level}|{entry_id}"


def scope(
    group: str = "", level: int | None = None, attribute: tuple[str, str] | None = None
) -> str:
    """How what a pause covers is named.

    ``stream``, ``group=billing``, ``level=5``, ``group=billing,level=5``, ``tenant=acme``,
    ``group=billing,tenant=acme``.
    """
    parts = ([f"group={group}"] if group else []) + (
        [] if level is None else [f"level={level}"]
    )
    parts += [] if attribute is None else ["=".join(attribute)]
    return ",".join(parts) or "stream"


def parse_scope(text: str) -> tuple[str, int | None, str, str]:
    """Undo ``scope``: group, level, attribute and its value; what is not of that form is none of them."""
    found = _SCOPE.fullmatch(text)
    if found is None:
        return "", None, "", ""
    level = found["level"]
    return (
        found["group"] or "",
        None if level is None else int(level),
        found["attribute"] or "",
        found["value"] or "",
    )


def parse_member(text: str) -> tuple[int, str]:
    """Undo ``member``.

    Raises:
        InvalidName: the text is not of the form ``level|id``.
    """
    found = _MEMBER.fullmatch(text)
    if found is None:
        raise InvalidName(f"{text!r} is not of the form LEVEL|ID")
    return int(found[1]), found[2]


def entry_order(entry_id: str) -> tuple[int, int]:
    """What entry ids are sorted by: as texts they would stand in another order."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds or 0), int(sequence or 0)
