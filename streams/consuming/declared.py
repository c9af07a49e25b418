"""The options of a consumer in words, to compare with those of other workers."""

from __future__ import annotations

from collections.abc import Mapping

from streams.handlers.routes import Router
from streams.policy.levels import Levels
from streams.policy.limit import Limit
from streams.policy.ordering import Lanes
from streams.policy.retry import Retry, RetryPolicy


def in_words(
    levels: Levels,
    lease: float,
    lanes: Lanes,
    router: Router,
    weights: Mapping[int, int] | None,
    max_wait: float | None,
) -> dict[str, str]:
    """Each part of a declaration by its name; only what workers of a group should have in common.

    How many handlers run at once, which levels are served, and what a handler does are
    each worker's own.
    """
    by_type = [
        (kind, route.retry)
        for route in router.routes()
        for kind in sorted(route.types or ("*",))
    ]
    shares = [
        f"{level}={weight}"
        for level, weight in sorted((weights or {}).items(), reverse=True)
    ]
    return {
        "levels": ",".join(map(str, levels.ascending)),
        "lease": f"{lease:g} s",
        "order_by": ",".join(lanes.order_by),
        "fair_by": ",".join(lanes.fair_by),
        "on_dead": lanes.on_dead if lanes.order_by else "",
        "limits": "; ".join(
            sorted(
                f"{limit.name} {_by(limit)}{limit.text}" for limit in router.limits()
            )
        ),
        "retry": "; ".join(
            f"{kind} {_retries(retry)}"
            for kind, retry in sorted(by_type, key=lambda row: row[0])
        ),
        "weights": ",".join(shares),
        "max_wait": "" if max_wait is None else f"{max_wait:g} s",
    }


def _by(limit: Limit) -> str:
    names = (limit.by,) if isinstance(limit.by, str) else limit.by
    return f"by {','.join(names)} " if isinstance(names, tuple) else ""


def _retries(retry: RetryPolicy) -> str:
    if not isinstance(retry, Retry):
        return type(retry).__name__
    return f"{retry.max_retries} {retry.backoff} {retry.delay:g} s"
