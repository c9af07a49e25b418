"""What a look at a server finds, and where the bounds are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning", "unknown", "info", "ok"]
ORDER: tuple[Severity, ...] = ("critical", "warning", "unknown", "info", "ok")
"""From the worst to the best."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        code: a stable word.
        severity: how bad it is; ``unknown``: it could not be looked at.
        where: stream, or stream and group, or ``server``.
        what: a sentence with figures.
        todo: what to do; empty if nothing.
    """

    code: str
    severity: Severity
    where: str
    what: str
    todo: str = ""

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
    """From where on something is found.

    Attributes:
        silence: seconds after which a consumer counts as dead; three default leases.
        waiting: seconds that an event may wait although consumers are there.
        late: seconds that a retry or a scheduled event may be late.
        paused: seconds after which a pause is a warning.
        dead: seconds for which a new dead letter is a warning.
        skew: seconds between the clocks.
        memory: share of ``maxmemory``.
    """

    silence: float = 90.0
    waiting: float = 300.0
    late: float = 60.0
    paused: float = 3600.0
    dead: float = 3600.0
    skew: float = 5.0
    memory: float = 0.8
