"""What the seeds have to come to: a composition that never meets a feature says nothing of it."""

from __future__ import annotations

OFTEN = (
    *(
        "levels-1",
        "levels-2",
        "levels-3",
        "groups-1",
        "groups-2",
        "weights",
        "max_wait",
        "breaker",
    ),
    *("dedupe", "published-again", "partitions-by-key", "partitions-by-tenant"),
    *(
        "order_by",
        "fair_by",
        "hold",
        "limit-slots",
        "limit-rate",
        "limit-both",
        "duplicate",
    ),
    *(
        "do-ok",
        "do-slow",
        "do-fail",
        "do-reject",
        "do-snooze",
        "do-throttle",
        "do-unavailable",
        "do-crash",
    ),
    *(
        "why-key-busy",
        "why-paused",
        "why-rate",
        "why-retry",
        "why-running",
        "why-scheduled",
        "why-snoozed",
    ),
    *("dead-expired", "dead-rejected", "dead-retries-used-up", "dead-stalled"),
    *(
        "step-deploy",
        "step-kill_worker",
        "step-stop_worker",
        "step-flush",
        "step-new-group",
        "step-limit",
        "erased",
    ),
)
"""What any fifty seeds come to; each of these is met by five or more of them."""
SELDOM = (
    *(
        "why-busy",
        "why-turn",
        "why-limit",
        "why-throttled",
        "why-key-held",
        "why-reserved",
        "why-starting",
        "why-none",
    ),
    *(
        "why-lost-lease",
        "why-level-unserved",
        "serve",
        "cancelled-retrying",
        "cancelled-scheduled",
    ),
    *("replay", "discard", "release", "skip", "levels-changed", "step-dropped-group"),
    *(
        "pause-stream",
        "pause-group",
        "pause-level",
        "pause-group-level",
        "pause-tenant",
        "pause-group-tenant",
    ),
    *("pause-instance", "pause-key", "lost", "left-to-a-sweep", "slot-that-expires"),
)
"""What thousands of seeds come to."""
MANY = 3000
"""From so many seeds on all of it has to be there."""
