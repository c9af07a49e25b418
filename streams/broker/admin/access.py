"""Find out which commands the connected user may call, in ways that change nothing.

Managed servers and users with few permissions may not read the server's access lists. So each
command is tried with arguments that it refuses, or on a missing key: the server checks
permissions before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streams.broker.keys import index_key
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command
from streams.errors import AccessDenied

_SHA = "0" * 40
PROBE = "doctor-probe"
"""A stream whose keys never exist."""

COMMON = ("time", "script|load", "evalsha")
PRODUCER = ("xadd", "sadd", "xlen", "zcard", "hexists", "hset", "zadd", "get", "set")
WORKER = (
    "xreadgroup",
    "xgroup|create",
    "xgroup|delconsumer",
    "xack",
    "xdel",
    "xclaim",
    "xautoclaim",
    "xpending",
    "xrange",
    "xinfo|groups",
    "xinfo|consumers",
    "type",
    "exists",
    "zrangebyscore",
    "zrange",
    "zrem",
    "zscore",
    "zrank",
    "hget",
    "hmget",
    "hdel",
    "hgetall",
    "hlen",
    "pexpire",
    "unlink",
    "xread",
    "zrangebylex",
    "hscan",
    "hincrby",
    "xinfo|stream",
)
OPERATOR = ("smembers", "xrevrange", "xgroup|destroy", "scan", "mget")
ROLES: dict[str, tuple[str, ...]] = {
    "producer": (*COMMON, *PRODUCER),
    "worker": (*COMMON, *PRODUCER, *WORKER),
    "operator": (*COMMON, *PRODUCER, *WORKER, *OPERATOR),
}
"""The commands of each role, besides AUTH and SELECT, which every connection needs."""

_OF_A_KEY = (
    "xlen",
    "zcard",
    "get",
    "mget",
    "type",
    "exists",
    "hgetall",
    "hlen",
    "smembers",
    "unlink",
)
_OF_A_FIELD = ("hexists", "zrem", "zscore", "zrank", "hget", "hmget", "hdel")


@dataclass(slots=True)
class Access:
    """The permissions that a user lacks, and those that no role needs.

    Attributes:
        commands: the role's commands that the user may not call.
        keys: whether the user may not touch the keys of the namespace.
        excess: permissions that no role needs, in words.
    """

    commands: list[str] = field(default_factory=list)
    keys: bool = False
    excess: list[str] = field(default_factory=list)


class AccessStore:
    """Asks for the permissions of a broker's user.

    Args:
        broker: an open broker.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def access(self, role: str, member: str = "") -> Access:
        """The permissions that the user lacks for a role, and those beyond it.

        One command per permission, and three, in one round trip.

        Args:
            role: one of ``ROLES``.
            member: a ``stream|level`` of the index; '' leaves out whether the user may add to it.

        Raises:
            BrokerUnavailable: the server went away.
        """
        found = Access()
        probes = self._probes(member)
        names = [name for name in ROLES[role] if name in probes]
        outside = f"{PROBE}-outside-{self._broker.namespace}"
        asked: list[Command] = [probes[name] for name in names]
        asked += [
            ("EXISTS", outside),
            ("SLOWLOG", "LEN"),
            ("ACL", "DRYRUN", self._broker.user, "FLUSHALL"),
        ]

        *replies, beyond, administers, flushes = await self._broker.control.batch(asked)

        for name, reply in zip(names, replies, strict=True):
            if not isinstance(reply, AccessDenied):
                continue

            if _is_about_keys(reply):
                found.keys = True
            else:
                found.commands.append(name)

        if flushes in (b"OK", "OK"):
            found.excess.append("delete everything (FLUSHALL)")

        if not isinstance(administers, AccessDenied):
            found.excess.append("administer the server (SLOWLOG and its like)")

        if not isinstance(beyond, AccessDenied):
            found.excess.append("touch keys outside of the namespace")

        return found

    def _probes(self, member: str) -> dict[str, Command]:
        """A harmless form of each command: a wrong argument, a missing key or a missing group."""
        key = self._broker.keys(PROBE).level(0)
        read: Command = ("COUNT", 1, "STREAMS")
        probes: dict[str, Command] = {
            "time": ("TIME",),
            "script|load": ("SCRIPT", "LOAD", "return 1"),
            "evalsha": ("EVALSHA", _SHA, 9),
            "xadd": ("XADD", key, "no-id", "f", "v"),
            "hset": ("HSET", key, "f", "v", "f"),
            "zadd": ("ZADD", key, "no-score", "m"),
            "set": ("SET", key, "v", "no-option"),
            "xreadgroup": ("XREADGROUP", "GROUP", "g", "c", *read, key, ">"),
            "xgroup|create": ("XGROUP", "CREATE", key, "g", "0"),
            "xgroup|delconsumer": ("XGROUP", "DELCONSUMER", key, "g", "c"),
            "xgroup|destroy": ("XGROUP", "DESTROY", key, "g"),
            "xack": ("XACK", key, "g", "1-1"),
            "xclaim": ("XCLAIM", key, "g", "c", 0, "1-1"),
            "xautoclaim": ("XAUTOCLAIM", key, "g", "c", 0, "0"),
            "xpending": ("XPENDING", key, "g"),
            "xrange": ("XRANGE", key, "-", "+", "COUNT", 1),
            "xrevrange": ("XREVRANGE", key, "+", "-", "COUNT", 1),
            "xinfo|groups": ("XINFO", "GROUPS", key),
            "xinfo|stream": ("XINFO", "STREAM", key),
            "xinfo|consumers": ("XINFO", "CONSUMERS", key, "g"),
            "zrangebyscore": ("ZRANGEBYSCORE", key, 0, 1),
            "zrange": ("ZRANGE", key, 0, 0),
            "xread": ("XREAD", *read, key, "0"),
            "hincrby": ("HINCRBY", key, "f", "no-number"),
            "zrangebylex": ("ZRANGEBYLEX", key, "-", "+"),
            "pexpire": ("PEXPIRE", key, 1000),
            "xdel": ("XDEL", key, "1-1"),
            "scan": ("SCAN", 0, "MATCH", key, "COUNT", 1),
            "hscan": ("HSCAN", key, 0, "COUNT", 1),
        }

        probes |= {name: (name.upper(), key) for name in _OF_A_KEY}
        probes |= {name: (name.upper(), key, "f") for name in _OF_A_FIELD}
        if member:
            # Adding an existing member changes nothing, and members are never removed.
            probes["sadd"] = ("SADD", index_key(self._broker.namespace), member)

        return probes


def _is_about_keys(reply: Any) -> bool:
    return "run the" not in str(reply)
