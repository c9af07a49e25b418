"""A finding of the doctor, and the bounds from which on figures are findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning", "unknown", "info", "ok"]
ORDER: tuple[Severity, ...] = ("critical", "warning", "unknown", "info", "ok")
"""From the worst to the best."""

SERVER_CODES = (
    "server",
    "version",
    "persistence",
    "aof-failed",
    "save-failed",
    "eviction",
    "memory",
    "replica",
    "replication",
    "clock",
    "shard-away",
    "streams",
    "permissions",
    "excess",
    "plain-text",
    "default-user",
)
STREAM_CODES = (
    "stream",
    "key-type",
    "level-unserved",
    "level-undeclared",
    "level-gone",
    "group-missing",
    "abandoned",
    "stuck",
    "dead-consumer",
    "retry-late",
    "scheduled-late",
    "dead-letters",
    "paused",
    "payload-gone",
    "retry-lost",
    "stray-rows",
    "scheduled-empty",
    "scheduled-stranded",
    "half-empty",
    "part",
    "lost",
    "runnable-but-waiting",
    "long-running",
    "unreadable-rows",
    "orphaned",
    "workers-disagree",
)
"""Every code there is: each is one check, of the server or of each stream."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        code: a stable word, one of ``SERVER_CODES`` and ``STREAM_CODES``, or that of an
            application, with its name before it: ``shop:no-stock``.
        severity: how bad it is; ``unknown`` if the check could not be made.
        where: stream, or stream and group, or ``server``, with host and port of one of several.
        what: a sentence with figures.
        todo: the remedy; '' for none.
    """

    code: str
    severity: Severity
    where: str
    what: str
    todo: str = ""

    def __post_init__(self) -> None:
        """Refuse a code that no page explains."""
        if ":" not in self.code and self.code not in SERVER_CODES + STREAM_CODES:
            raise ValueError(f"{self.code!r} is no code of a finding")

    def as_plain(self) -> dict[str, Any]:
        """The finding as plain JSON types."""
        return {
            "code": self.code,
            "severity": self.severity,
            "where": self.where,
            "what": self.what,
            "todo": self.todo,
        }


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds from which on figures are findings.

    Attributes:
        silence: seconds after which a consumer counts as dead; three default leases.
        waiting: seconds that an event may wait although consumers are there.
        late: seconds that a retry or a scheduled event may be late.
        paused: seconds after which a pause is a warning.
        dead: seconds for which a new dead letter is a warning.
        dead_rate: dead letters per hour from which on they are critical.
        skew: seconds between the clocks.
        memory: share of ``maxmemory``.
        lag: seconds that a replica may be behind.
        waste: how many times its content a stream may take.
        runnable: seconds that an event may wait although a worker could start it.
        running: seconds that a handler may run.
        deployment: seconds since the last start of a worker, within which the declarations of a
            group's workers may differ.
        small: bytes up to which a stream's size is never a finding.
    """

    silence: float = 90.0
    waiting: float = 300.0
    late: float = 60.0
    paused: float = 3600.0
    dead: float = 3600.0
    dead_rate: float = 60.0
    skew: float = 5.0
    memory: float = 0.8
    lag: float = 10.0
    waste: float = 4.0
    runnable: float = 30.0
    running: float = 600.0
    deployment: float = 900.0
    small: int = 2**20
