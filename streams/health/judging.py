"""From what a worker says about itself to a verdict. Pure: no clock, no connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streams.common.masking import masked
from streams.consuming.vitals import ConsumerVitals, Vitals

LOOP_BOUND = 5.0
"""Seconds that the event loop may be blocked."""
READ_BOUND = 5.0
"""Seconds that the last good read may lie back. A worker without work reads every half second."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``name`` is a stable word, ``says`` a sentence with figures."""

    name: str
    ok: bool
    says: str


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a worker: good if every check is."""

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
        return {
            "ok": self.ok,
            "checks": [
                {"name": check.name, "ok": check.ok, "says": check.says}
                for check in self.checks
            ],
        }


@dataclass(frozen=True, slots=True)
class Probed:
    """What the server said: ``unreachable`` is empty if it answered, ``wrong`` names groups that cannot be read."""

    unreachable: str = ""
    wrong: tuple[str, ...] = ()


def judge_live(vitals: Vitals, silence: float) -> Report:
    """Whether the process is worth keeping. The server plays no part: an outage must not restart every worker.

    Args:
        vitals: of the worker.
        silence: seconds since the event loop was last heard.
    """
    if vitals.is_stopping:
        # It ends by itself, within its grace periods; a restart would only cut short what still runs.
        return Report((Check("stopping", ok=True, says="stopping in order"),))
    keepers = [
        consumer.where
        for consumer in vitals.consumers
        if "lease keeper" in consumer.missing
    ]
    parts = [
        f"{part} of {c.where}"
        for c in vitals.consumers
        for part in c.missing
        if part != "lease keeper"
    ]
    gone = [*vitals.missing, *parts]
    return Report(
        (
            _loop(silence),
            Check(
                "roles", not gone, f"ended: {', '.join(gone)}" if gone else "all run"
            ),
            Check(
                "leases",
                not keepers,
                f"not renewed: {', '.join(keepers)}" if keepers else "renewed",
            ),
        )
    )


def judge_ready(vitals: Vitals, silence: float, probed: Probed, now: float) -> Report:
    """Whether the worker can take events now.

    Args:
        vitals: of the worker.
        silence: seconds since the event loop was last heard.
        probed: what the server said.
        now: monotonic seconds.
    """
    running = Check(
        "running",
        not vitals.is_stopping,
        "told to stop" if vitals.is_stopping else "not told to stop",
    )
    wrong = "; ".join(probed.wrong)
    unread = [says for consumer in vitals.consumers if (says := _unread(consumer, now))]
    return Report(
        (
            running,
            _loop(silence),
            Check(
                "server",
                not probed.unreachable,
                masked(probed.unreachable) or "answers",
            ),
            Check(
                "groups",
                not (wrong or probed.unreachable),
                wrong or ("unknown" if probed.unreachable else "present"),
            ),
            Check("reading", not unread, masked("; ".join(unread)) or "all consumers"),
        )
    )


def _loop(silence: float) -> Check:
    blocked = silence > LOOP_BOUND
    says = (
        f"blocked for {silence:.1f} s, a handler does not await"
        if blocked
        else f"heard {silence:.1f} s ago"
    )
    return Check("loop", not blocked, says)


def _unread(consumer: ConsumerVitals, now: float) -> str:
    """Why a consumer counts as not reading; empty if it reads, or chose not to."""
    if consumer.trouble:
        return f"{consumer.where}: {consumer.trouble}"
    if not consumer.read_at:
        return f"{consumer.where}: nothing read yet"
    if not consumer.is_full and now - consumer.read_at > READ_BOUND:
        return f"{consumer.where}: last read {now - consumer.read_at:.1f} s ago"
    return ""
