"""Judge a server by its own figures and settings. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from streams.broker.admin.access import Access
from streams.broker.admin.diagnose import Denied
from streams.broker.server.shards import Away
from streams.doctor.finding import Bounds, Finding
from streams.quantities import counted

WHERE = "server"
_OLDEST = {"redis": (6, 2, 0), "valkey": (8, 0, 0)}
_BAD = (
    (
        "redis",
        (7, 2, 0),
        (8, 6, 3),
        "CVE-2026-23479, use after free when a blocked client is woken",
    ),
    ("redis", (8, 2, 0), (8, 2, 3), "CVE-2025-62507, stack overflow in XACKDEL"),
)
"""Product, first bad version, first good one, and the defect."""


def away(name: str, why: str) -> Finding:
    """A primary that does not answer."""
    todo = "bring it back, or let a replica of it take over; other shards go on"
    return Finding(
        "shard-away",
        "critical",
        f"{WHERE} {name}",
        f"it cannot be reached: {why}",
        todo,
    )


def away_streams(shard: Away) -> Finding:
    """Streams that could not be examined, since their shard is away."""
    if shard.has_index:
        what = "the list of streams cannot be read, so no stream was looked at"
        todo = "bring the shard back; until then give --stream, for streams on other shards"
        return Finding(
            "streams", "critical", f"{WHERE} {shard.shard}".rstrip(), what, todo
        )

    what = f"these streams are away with it, and were not looked at: {', '.join(shard.streams)}"
    todo = "bring the shard back: their events wait, those of other streams go on"
    return Finding("streams", "critical", f"{WHERE} {shard.shard}".rstrip(), what, todo)


_DROPS = (
    ("redis", (7, 0, 0), (8, 4, 4)),
    ("redis", (8, 5, 0), (8, 6, 0)),
    ("valkey", (0, 0, 0), (9, 1, 2)),
)
"""Product, first version that drops transactions of its append-only file, first that does not."""
_LET_IT = "ACL SETUSER default off resetpass ~* &* +@all"


def _version(info: dict[str, str]) -> tuple[str, str, tuple[int, ...]]:
    """The product, its version, and the version as numbers; () if it is not known.

    Valkey also names a version of Redis, for programs that know only that.
    """
    product = "valkey" if "valkey_version" in info else "redis"
    text = info.get(f"{product}_version", "")
    numbers = tuple(map(int, re.findall(r"\d+", text)[:3]))

    return product, text, numbers


def judge_version(info: dict[str, str]) -> Iterator[Finding]:
    """Too old, or known to be bad."""
    product, text, version = _version(info)
    if not version:
        yield Finding(
            "version", "unknown", WHERE, "the server does not tell its version"
        )
        return

    if version < _OLDEST[product]:
        oldest = ".".join(map(str, _OLDEST[product][:2]))
        yield Finding(
            "version",
            "critical",
            WHERE,
            f"{product} {text} is too old",
            f"use {product} {oldest} or later",
        )

    for bad, first, good, why in _BAD:
        if product == bad and first <= version < good:
            todo = (
                f"use {product} {'.'.join(map(str, good))} or later, or ask who packaged it"
                " whether it is mended"
            )
            yield Finding(
                "version", "warning", WHERE, f"{product} {text} has {why}", todo
            )


def judge_persistence(
    info: dict[str, str], config: dict[str, str] | Denied
) -> Iterator[Finding]:
    """Report settings by which a restart or a crash loses events."""
    settings = {} if isinstance(config, Denied) else config
    appending = info.get("aof_enabled") == "1"

    if info.get("aof_last_write_status", "ok") != "ok":
        todo = "look at the server's log and its disk"
        yield Finding(
            "aof-failed",
            "critical",
            WHERE,
            "the last write to the append-only file failed",
            todo,
        )

    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        todo = (
            "look at the server's log, its disk and its memory; until a save succeeds it"
            " may refuse all writes"
        )
        yield Finding(
            "save-failed", "critical", WHERE, "the last save to disk failed", todo
        )

    todo = "CONFIG SET appendonly yes, and write it into the server's configuration"
    if not appending and settings.get("save") == "":
        yield Finding(
            "persistence",
            "critical",
            WHERE,
            "the server keeps nothing: a restart loses every event",
            todo,
        )
    elif not appending:
        yield Finding(
            "persistence",
            "warning",
            WHERE,
            "no append-only file: a crash loses what came since the save",
            todo,
        )
    elif settings.get("appendfsync") == "no":
        what = (
            "appendfsync is no: a crash of the machine loses what the system had not"
            " written, often half a minute"
        )
        yield Finding(
            "persistence",
            "warning",
            WHERE,
            what,
            "CONFIG SET appendfsync everysec, or always",
        )


def depends_on_default_user(info: dict[str, str]) -> bool:
    """Whether the server drops, at a start, writes that its default user may not make."""
    product, _, version = _version(info)
    drops = any(
        product == name and first <= version < good for name, first, good in _DROPS
    )
    return drops and info.get("aof_enabled") == "1"


def judge_default_user(info: dict[str, str], refused: list[str]) -> Iterator[Finding]:
    """Report ``refused`` writes of the default user, for a server that depends on it."""
    if not refused:
        return

    product, text, _ = _version(info)
    what = (
        f"the default user may not do {', '.join(refused)} (ACL), appendonly is on, and"
        f" {product} {text} leaves out"
        " such transactions when it reads its append-only file: the next restart loses"
        " what scripts stored"
    )

    todo = (
        f"{_LET_IT}, and the same line in users.acl, before the next restart (nobody logs"
        " in as a user that is off: a"
        " program that does so now needs a user of its own first); no BGREWRITEAOF before"
        " that restart: the file still"
        " has what an earlier one left out"
    )

    yield Finding("default-user", "critical", WHERE, what, todo)


def judge_memory(info: dict[str, str], bounds: Bounds) -> Iterator[Finding]:
    """Report that the server may delete events, or will soon refuse them."""
    policy = info.get("maxmemory_policy", "")
    if policy and policy != "noeviction":
        what = f"maxmemory-policy is {policy}: when memory is short, the server deletes streams"
        yield Finding(
            "eviction",
            "critical",
            WHERE,
            what,
            "CONFIG SET maxmemory-policy noeviction",
        )

    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > bounds.memory * most:
        share = f"{used / most:.0%} of maxmemory ({used // 2**20} of {most // 2**20} MiB) is used"
        todo = (
            "drain the backlog, give the server more memory, or limit streams with"
            " STREAMS_MAX_LEN"
        )
        yield Finding(
            "memory",
            "critical" if used > 0.95 * most else "warning",
            WHERE,
            share,
            todo,
        )


def judge_replication(
    info: dict[str, str], config: dict[str, str] | Denied, bounds: Bounds
) -> Iterator[Finding]:
    """Report a replica, and settings by which a failover loses events."""
    settings = {} if isinstance(config, Denied) else config
    if info.get("role") == "slave":
        link = f", and its link to the primary is {info.get('master_link_status', 'unknown')}"
        what = f"this is a replica{link}: it refuses every write"
        yield Finding(
            "replica", "critical", WHERE, what, "give the address of the primary"
        )

        return

    copies = int(info.get("connected_slaves", 0))
    online = 0

    for number in range(copies):
        row = dict(
            part.partition("=")[::2]
            for part in info.get(f"slave{number}", "").split(",")
        )
        if row.get("state", "online") != "online":
            yield Finding(
                "replication",
                "warning",
                WHERE,
                f"replica {number} is not online",
                "look at its log",
            )
            continue

        online += 1
        lag = int(row.get("lag", 0))

        if lag > bounds.lag:
            what = (
                f"replica {number} was last heard of {lag} s ago: a failover to it loses"
                " what came since"
            )
            yield Finding(
                "replication",
                "warning",
                WHERE,
                what,
                "look at its log, its load and the network",
            )

    least = int(settings.get("min-replicas-to-write", 0))
    if online < least:
        there = counted(online, "replica is", "replicas are")
        what = (
            f"{there} online and min-replicas-to-write is {least}: the server refuses every"
            " write"
        )
        yield Finding("replication", "critical", WHERE, what, "bring the replicas back")
    elif copies == 0:
        yield Finding(
            "replication",
            "info",
            WHERE,
            "no replica: if this machine is lost, so is what it keeps",
        )
    elif least == 0 and "min-replicas-to-write" in settings:
        what = (
            "min-replicas-to-write is 0: a primary that is cut off goes on taking events"
            " that a failover loses"
        )
        yield Finding(
            "replication",
            "info",
            WHERE,
            what,
            "CONFIG SET min-replicas-to-write 1, see docs/guarantees.md",
        )


def judge_skew(skew: float, bounds: Bounds) -> Iterator[Finding]:
    """Clocks that differ."""
    if abs(skew) > bounds.skew:
        what = (
            f"the server's clock is {abs(skew):.1f} s"
            f" {'ahead of' if skew > 0 else 'behind'} this machine's"
        )
        todo = "run a time service on both; delays and expiry are counted by the server's clock"
        yield Finding("clock", "warning", WHERE, what, todo)


def judge_access(
    access: Access, user: str, role: str, namespace: str
) -> Iterator[Finding]:
    """Report permissions that the role needs and the user lacks, and superfluous ones."""
    if access.commands or access.keys:
        lacks = [f"call {', '.join(access.commands)}"] if access.commands else []
        lacks += [f"touch the keys {namespace}:*"] if access.keys else []
        rules = [f"~{namespace}:*"] if access.keys else []
        rules += [f"+{command}" for command in access.commands]
        what = f"user {user} is no {role}: it may not {', and may not '.join(lacks)}"
        yield Finding(
            "permissions",
            "critical",
            WHERE,
            what,
            f"ACL SETUSER {user} {' '.join(rules)}",
        )

    if access.excess:
        what = (
            f"user {user} may do more than any role needs: {', '.join(access.excess)}"
        )
        todo = (
            f"make a user of its own with ~{namespace}:* and the commands that"
            " docs/operations.md lists"
        )
        yield Finding("excess", "warning", WHERE, what, todo)


def judge_transport(address: str) -> Iterator[Finding]:
    """Report that events cross a network in plain text."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or "localhost"
    except ValueError:
        return

    product, _, topology = parts.scheme.partition("+")
    if product in ("redis", "valkey") and not _is_loopback(host):
        what = (
            f"the connection to {host} is in plain text: password and events can be read on"
            " the way"
        )
        tls = f"{product}s{f'+{topology}' if topology else ''}"
        yield Finding(
            "plain-text", "info", WHERE, what, f"give the server TLS and use {tls}://"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
