"""The key that decides which node of a cluster serves a command. Pure."""

from __future__ import annotations

from streams.broker.server.client import key_slot
from streams.broker.server.scripts import Command

_KEYLESS = frozenset(
    {
        "ACL",
        "ASKING",
        "CLIENT",
        "CLUSTER",
        "CONFIG",
        "INFO",
        "PING",
        "SCRIPT",
        "SLOWLOG",
        "TIME",
    }
)
_SECOND = frozenset({"MEMORY", "OBJECT", "XGROUP", "XINFO"})
_READS = frozenset({"XREAD", "XREADGROUP"})


def key_of(command: Command) -> str | bytes | None:
    """The first key of a command, which has keys of one stream; None if any node can answer."""
    name = str(command[0])
    if name in _KEYLESS:
        return None

    at = 1
    if name in _SECOND:
        at = 2
    elif name == "EVALSHA":
        at = 3
    elif name in _READS:
        # Behind the names of group and consumer, which may be STREAMS too.
        at = command.index("STREAMS", 4 if name == "XREADGROUP" else 1) + 1
    elif name == "SCAN":
        # A pattern for the keys of one stream has its tag.
        at = command.index("MATCH") + 1

    found = command[at] if at < len(command) else None
    return found if isinstance(found, (str, bytes)) else None


def slot_of(command: Command) -> int | None:
    """The slot of a command; None if any node can answer."""
    key = key_of(command)
    if key is None:
        return None

    return key_slot(key if isinstance(key, bytes) else key.encode())
