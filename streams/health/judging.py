"""The health checks of a worker's state. Pure: no clock, no connection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from streams.common.masking import masked
from streams.consuming.vitals import ConsumerVitals, Vitals

LOOP_BOUND = 5.0
"""The longest time for which the event loop may be blocked, in seconds."""
READ_BOUND = 5.0
"""The longest time since the last read, in seconds. An idle worker reads twice a second."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: ``name`` is a stable word, ``says`` a sentence."""

    name: str
    ok: bool
    says: str


@dataclass(frozen=True, slots=True)
class Report:
    """The health of a worker, which is good if every check is."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is good."""
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """The checks that are not good."""
        return [check for check in self.checks if not check.ok]

    def as_plain(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        checks = [asdict(check) for check in self.checks]
        return {"ok": self.ok, "checks": checks}


STOPPING = Report((Check("stopping", ok=True, says="stopping in order"),))
"""A stopping worker ends by itself. A restart would only cut its handlers short."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The state of the server and its groups.

    ``unreachable`` is empty if the server answered; ``wrong`` names groups that cannot be
    read.
    """

    unreachable: str = ""
    wrong: tuple[str, ...] = ()


def judge_live(vitals: Vitals, silence: float) -> Report:
    """Whether the process is worth keeping. The server has no influence.

    Args:
        vitals: the state of the worker.
        silence: seconds since the event loop was last heard.
    """
    if vitals.is_stopping:
        return STOPPING

    ended = list(vitals.missing)
    not_renewed = []
    for consumer in vitals.consumers:
        for part in consumer.missing:
            if part == "lease keeper":
                not_renewed.append(consumer.where)
            else:
                ended.append(f"{part} of {consumer.where}")

    roles = f"ended: {', '.join(ended)}" if ended else "all run"
    leases = f"not renewed: {', '.join(not_renewed)}" if not_renewed else "renewed"
    checks = (
        _loop(silence),
        Check("roles", not ended, roles),
        Check("leases", not not_renewed, leases),
    )
    return Report(checks)


def judge_ready(vitals: Vitals, silence: float, probed: Probed, now: float) -> Report:
    """Whether the worker can handle events now.

    Args:
        vitals: the state of the worker.
        silence: seconds since the event loop was last heard.
        probed: the state of the server.
        now: monotonic seconds.
    """
    is_away = bool(probed.unreachable)
    wrong = "; ".join(probed.wrong)
    unread = "; ".join(filter(None, (_unread(one, now) for one in vitals.consumers)))
    groups = wrong or ("unknown" if is_away else "present")
    checks = (
        running(is_stopping=vitals.is_stopping),
        _loop(silence),
        Check("server", not is_away, masked(probed.unreachable) or "answers"),
        Check("groups", not (wrong or is_away), groups),
        Check("reading", not unread, masked(unread) or "all consumers"),
    )
    return Report(checks)


def running(*, is_stopping: bool) -> Check:
    """The check of a worker that was not told to stop."""
    says = "told to stop" if is_stopping else "not told to stop"
    return Check("running", not is_stopping, says)


def _loop(silence: float) -> Check:
    blocked = silence > LOOP_BOUND
    says = f"heard {silence:.1f} s ago"
    if blocked:
        says = f"blocked for {silence:.1f} s, a handler does not await"

    return Check("loop", not blocked, says)


def _unread(consumer: ConsumerVitals, now: float) -> str:
    """The reason why a consumer does not read; '' if it reads, or has no free slot."""
    if consumer.trouble:
        return f"{consumer.where}: {consumer.trouble}"
    if not consumer.read_at:
        return f"{consumer.where}: nothing read yet"
    if not consumer.is_full and now - consumer.read_at > READ_BOUND:
        return f"{consumer.where}: last read {now - consumer.read_at:.1f} s ago"
    return ""
