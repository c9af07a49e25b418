"""Counters of messages by state, per tenant, instance, day and hour."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from streams.admin.tracking import Count
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.whatsapp.settings import DAY
from streams.whatsapp.status import MessageStatus, tracking

KEPT_DAYS, KEPT_HOURS = 400 * DAY, 32 * DAY
"""Seconds for which the counters of a day, and those of its hours, are kept."""
_STEP = 1.25
_SHORTEST = 0.01
_COUNTED = {
    MessageStatus.SENT: "sent",
    MessageStatus.DELIVERED: "delivered",
    MessageStatus.READ: "read",
    MessageStatus.FAILED: "failed",
    MessageStatus.RETRYING: "retried",
}
COUNTS = ("queued", *_COUNTED.values())
"""The counts of ``Figures``, in the order in which they are shown."""


@dataclass(slots=True)
class Figures:
    """Counts of a span of time and a scope.

    Attributes:
        queued, sent, delivered, read, failed: messages that reached the state.
        retried: retries.
        reasons: of failures, with their counts.
        waits: messages by bucket of the time from queue to provider; see ``percentile``.
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
        """Add a stored counter."""
        if name.startswith("failed:"):
            self.reasons[name.removeprefix("failed:")] += count
        elif name.startswith("wait:"):
            self.waits[int(name.removeprefix("wait:"))] += count
        elif name in COUNTS:
            setattr(self, name, getattr(self, name) + count)

    def counts(self) -> dict[str, Any]:
        """The counts by their names, without reasons and waits."""
        return {name: getattr(self, name) for name in COUNTS}

    def percentile(self, share: float) -> float | None:
        """Seconds from queue to provider that ``share`` (0 to 1) of the messages needed.

        At most a quarter too high; None if nothing was sent.
        """
        wanted = share * sum(self.waits.values())
        seen = 0

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
    """The counters that grow when a message reaches a state.

    Its first state also counts it as queued.
    """
    if not tenant:
        return []

    at = datetime.fromtimestamp(now, UTC)
    day, hour = f"{at:%Y-%m-%d}", f"{at:%Y-%m-%dT%H}"

    def detail(name: str, *, first: bool = False) -> Count:
        """A counter that is kept per instance and day only."""
        record = f"{day}/{tenant}"

        return Count(
            record,
            f"{instance}/{name}",
            1,
            KEPT_DAYS,
            first=first,
        )

    def all_of(name: str, *, first: bool = False) -> list[Count]:
        return [
            Count(day, f"{tenant}/{name}", 1, KEPT_DAYS, first=first),
            Count(f"{hour}/{tenant}", name, 1, KEPT_HOURS, first=first),
            detail(name, first=first),
        ]

    counts = all_of("queued", first=True)

    if status in _COUNTED:
        counts += all_of(_COUNTED[status])

    if status is MessageStatus.FAILED:
        counts.append(detail(f"failed:{reason[:60] or 'unknown'}"))

    if status is MessageStatus.SENT and waited is not None:
        counts.append(detail(f"wait:{bucket_of(waited)}"))

    return counts


def bucket_of(seconds: float) -> int:
    """The bucket of a wait. Each bucket is a quarter longer than the one before."""
    if seconds <= _SHORTEST:
        return 0

    steps = math.log(seconds / _SHORTEST, _STEP)

    return min(100, math.ceil(steps))


class Analytics:
    """Reads the counters.

    Args:
        pipeline: open.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._tracking = tracking(pipeline, KEPT_DAYS)

    async def tenants(self, first: date, last: date) -> dict[str, Figures]:
        """Figures of each tenant from ``first`` to ``last``, without reasons and waits."""
        days = [str(day) for day in _days(first, last)]

        return await self._grouped(days, str.rpartition)

    async def instances(
        self, tenant: str, first: date, last: date
    ) -> dict[str, Figures]:
        """Figures of each instance of a tenant from ``first`` to ``last``."""
        records = [f"{day}/{tenant}" for day in _days(first, last)]

        return await self._grouped(records, str.partition)

    async def days(self, tenant: str, first: date, last: date) -> dict[str, Figures]:
        """Figures of a tenant, day by day."""
        days = [str(day) for day in _days(first, last)]

        return await self._series(days, tenant)

    async def hours(self, tenant: str, day: date) -> dict[str, Figures]:
        """Figures of a tenant, hour by hour (UTC), without reasons and waits.

        They are kept for 32 days.
        """
        return await self._series(
            [f"{day}T{hour:02}" for hour in range(24)],
            tenant,
        )

    async def _grouped(
        self, names: list[str], split: Callable[[str, str], tuple[str, str, str]]
    ) -> dict[str, Figures]:
        """Sum the counters of some records by tenant or instance.

        ``split`` finds the slash behind it: tenants and reasons may have slashes, too.
        """
        found: defaultdict[str, Figures] = defaultdict(Figures)

        for counted in await self._tracking.counted(names):
            for name, count in counted.items():
                group, _, counter = split(name, "/")
                found[group].add(counter, count)

        return dict(sorted(found.items()))

    async def _series(self, spans: list[str], tenant: str) -> dict[str, Figures]:
        """Sum the counters of a tenant in each span, over its instances."""
        found = {}
        records = await self._tracking.counted([f"{span}/{tenant}" for span in spans])

        for span, counted in zip(spans, records, strict=True):
            figures = found[span] = Figures()

            for name, count in counted.items():
                _, _, counter = name.partition("/")
                figures.add(counter or name, count)

        return found


def total(figures: Iterable[Figures]) -> Figures:
    """The sum of several figures."""
    whole = Figures()

    for each in figures:
        for name, count in each.counts().items():
            whole.add(name, count)

        whole.reasons += each.reasons
        whole.waits += each.waits

    return whole


def _days(first: date, last: date) -> list[date]:
    span = (last - first).days

    if not 0 <= span <= 400:
        raise ConfigurationError("from the first day to the last are 0 to 400 days")

    return [first + timedelta(days=n) for n in range(span + 1)]
