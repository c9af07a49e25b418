"""Analytics: what was queued, sent, delivered, read and failed, per tenant, instance, day and hour."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from streams.admin.tracking import Count
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.whatsapp.settings import DAY
from streams.whatsapp.status import RANKS, STREAM, MessageStatus

KEPT_DAYS, KEPT_HOURS = 400 * DAY, 32 * DAY
"""Seconds for which the counters of a day, and those of its hours, are kept."""
_STEP = 1.25
_SHORTEST = 0.01
_COUNTED = {
    MessageStatus.RETRYING: "retried",
    MessageStatus.SENT: "sent",
    MessageStatus.DELIVERED: "delivered",
    MessageStatus.READ: "read",
    MessageStatus.FAILED: "failed",
}
_NAMES = ("queued", *_COUNTED.values())


@dataclass(slots=True)
class Figures:
    """Counts of some span and scope.

    Attributes:
        queued, sent, delivered, read, failed: messages that reached the state.
        retried: messages that had to be tried again, once for each time.
        reasons: of failures, with their counts.
        waits: bucket to count of messages, by the time from queue to provider; see ``percentile``.
    """

    queued: int = 0
    sent: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    retried: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    waits: Counter[int] = field(default_factory=Counter)

    def add(self, name: str, count: int) -> None:
        """Add a counter as it is stored."""
        if name.startswith("failed:"):
            self.reasons[name.removeprefix("failed:")] += count
        elif name.startswith("wait:"):
            self.waits[int(name.removeprefix("wait:"))] += count
        elif name in _NAMES:
            setattr(self, name, getattr(self, name) + count)

    def percentile(self, share: float) -> float | None:
        """Seconds from queue to provider that ``share`` (0 to 1) of the messages stayed below.

        Exact to a quarter; None if nothing was sent.
        """
        wanted, seen = share * sum(self.waits.values()), 0
        for bucket in sorted(self.waits):
            seen += self.waits[bucket]
            if seen >= wanted:
                return round(_SHORTEST * _STEP**bucket, 3)
        return None


def counts_of(
    status: MessageStatus,
    tenant: str,
    instance: str,
    *,
    now: float,
    reason: str = "",
    waited: float | None = None,
) -> list[Count]:
    """The counters that grow when a message reaches a state; the first note of a message counts it as queued."""
    if not tenant:
        return []
    at = datetime.fromtimestamp(now, UTC)
    day, hour = f"{at:%Y-%m-%d}", f"{at:%Y-%m-%dT%H}"
    queued = [
        Count(day, f"{tenant}/queued", 1, KEPT_DAYS, first=True),
        Count(f"{hour}/{tenant}", "queued", 1, KEPT_HOURS, first=True),
        Count(f"{day}/{tenant}", f"{instance}/queued", 1, KEPT_DAYS, first=True),
    ]
    name = _COUNTED.get(status)
    if name is None:
        return queued
    fields = [name]
    if status is MessageStatus.FAILED:
        fields.append(f"failed:{reason[:60] or 'unknown'}")
    if status is MessageStatus.SENT and waited is not None:
        fields.append(f"wait:{bucket_of(waited)}")
    rows = [
        Count(day, f"{tenant}/{name}", 1, KEPT_DAYS),
        Count(f"{hour}/{tenant}", name, 1, KEPT_HOURS),
    ]
    return (
        queued
        + rows
        + [
            Count(f"{day}/{tenant}", f"{instance}/{each}", 1, KEPT_DAYS)
            for each in fields
        ]
    )


def bucket_of(seconds: float) -> int:
    """The bucket of a wait: each is a quarter longer than the one before."""
    return (
        0
        if seconds <= _SHORTEST
        else min(100, math.ceil(math.log(seconds / _SHORTEST, _STEP)))
    )


class Analytics:
    """Reads what was counted.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._tracking = pipeline.tracking(
            STREAM, {str(state): rank for state, rank in RANKS.items()}, KEPT_DAYS
        )

    async def tenants(self, first: date, last: date) -> dict[str, Figures]:
        """Figures of every tenant over the days from ``first`` to ``last``, without reasons and waits."""
        found: dict[str, Figures] = {}
        for counted in await self._tracking.counted(
            [f"{day}" for day in _days(first, last)]
        ):
            for name, count in counted.items():
                tenant, _, what = name.rpartition("/")
                found.setdefault(tenant, Figures()).add(what, count)
        return dict(sorted(found.items()))

    async def instances(
        self, tenant: str, first: date, last: date
    ) -> dict[str, Figures]:
        """Figures of every instance of a tenant over some days."""
        found: dict[str, Figures] = {}
        for counted in await self._tracking.counted(
            [f"{day}/{tenant}" for day in _days(first, last)]
        ):
            for name, count in counted.items():
                instance, _, what = name.partition("/")
                found.setdefault(instance, Figures()).add(what, count)
        return dict(sorted(found.items()))

    async def days(self, tenant: str, first: date, last: date) -> dict[str, Figures]:
        """Figures of a tenant, day by day."""
        days = _days(first, last)
        found = {f"{day}": Figures() for day in days}
        names = [f"{day}/{tenant}" for day in days]
        for figures, counted in zip(
            found.values(), await self._tracking.counted(names), strict=True
        ):
            for name, count in counted.items():
                figures.add(name.partition("/")[2], count)
        return found

    async def hours(self, tenant: str, day: date) -> dict[str, Figures]:
        """Figures of a tenant, hour by hour (UTC), without reasons and waits; kept for 32 days."""
        names = [f"{day}T{hour:02}" for hour in range(24)]
        found = {name: Figures() for name in names}
        for figures, counted in zip(
            found.values(),
            await self._tracking.counted([f"{name}/{tenant}" for name in names]),
            strict=True,
        ):
            _add(figures, counted)
        return found


def total(figures: Iterable[Figures]) -> Figures:
    """All of them together."""
    whole = Figures()
    for each in figures:
        for name in _NAMES:
            setattr(whole, name, getattr(whole, name) + getattr(each, name))
        whole.reasons += each.reasons
        whole.waits += each.waits
    return whole


def _add(figures: Figures, counted: Mapping[str, int]) -> None:
    for name, count in counted.items():
        figures.add(name, count)


def _days(first: date, last: date) -> list[date]:
    span = (last - first).days
    if not 0 <= span <= 400:
        raise ConfigurationError("from the first day to the last are 0 to 400 days")
    return [first + timedelta(days=n) for n in range(span + 1)]
