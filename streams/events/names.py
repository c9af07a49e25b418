"""Names of streams and groups, and short texts for entries and targets of pauses. Pure."""

from __future__ import annotations

import re

from streams.errors import InvalidName

_MEMBER = re.compile(r"(-?[0-9]{1,100})\|(.*)", re.DOTALL)
_SCOPE = re.compile(
    r"(?:group=(?P<group>[A-Za-z0-9._-]+)(?:,|\Z))?"
    r"(?:level=(?P<level>-?[0-9]{1,20})(?:,|\Z))?"
    r"(?:(?P<attribute>[a-z]+)=(?P<value>.*))?",
    re.DOTALL,
)
_TAKEN_BY_KEYS = frozenset({"alias", "counts", "dedup", "filed", "message", "records"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DEFAULT_NAMESPACE = "streams"


def checked_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it is allowed.

    Raises:
        InvalidName: the name is not allowed; the message has the rule.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidName(
            f"{what} {name!r}: use 1 to 100 letters, digits, dots, underscores "
            "and hyphens, the first a letter or digit"
        )

    if what == "group" and name in _TAKEN_BY_KEYS:
        raise InvalidName(
            f"group {name!r}: other keys of a stream begin with this word, "
            "use another one"
        )

    return name


def member(level: int, entry_id: str) -> str:
    """The name of an entry in the retry ZSET and the attempts hash."""
    return f"{level}|{entry_id}"


def scope(
    group: str = "", level: int | None = None, attribute: tuple[str, str] | None = None
) -> str:
    """The name of a pause's target.

    ``stream``, ``group=billing``, ``level=5``, ``group=billing,level=5``,
    ``tenant=acme``, ``group=billing,tenant=acme``.
    """
    parts = []
    if group:
        parts.append(f"group={group}")

    if level is not None:
        parts.append(f"level={level}")

    if attribute is not None:
        parts.append("=".join(attribute))

    return ",".join(parts) or "stream"


def parse_scope(text: str) -> tuple[str, int | None, str, str]:
    """Parse the result of ``scope``: group, level, attribute and its value.

    For a text of another form they are empty, and the level is None.
    """
    found = _SCOPE.fullmatch(text)
    if found is None:
        return "", None, "", ""

    group, level, attribute, value = found.groups("")
    return group, int(level) if level else None, attribute, value


def parse_member(text: str) -> tuple[int, str]:
    """Parse the result of ``member``.

    Raises:
        InvalidName: the text does not have the form ``level|id``.
    """
    found = _MEMBER.fullmatch(text)
    if found is None:
        raise InvalidName(f"{text!r} is not of the form LEVEL|ID")
    return int(found[1]), found[2]


def entry_order(entry_id: str) -> tuple[int, int]:
    """The sort key of an entry id, whose text does not sort by time."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds or 0), int(sequence or 0)
