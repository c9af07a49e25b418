"""What the seeds have to come to: a composition that never meets a feature says nothing of it."""

from __future__ import annotations

OFTEN = (
    *("levels-1", "levels-2", "levels-3", "groups-1", "groups-2", "weights", "max_wait", "breaker", "serve"),
    *("order_by", "fair_by", "hold", "limit-slots", "limit-rate", "limit-both", "duplicate"),
    *("do-ok", "do-slow", "do-fail", "do-reject", "do-snooze", "do-throttle", "do-unavailable", "do-crash"),
    *("why-busy", "why-key-busy", "why-key-held", "why-limit", "why-paused", "why-rate", "why-retry", "why-running"),
    *("why-scheduled", "why-snoozed", "why-throttled", "why-turn", "why-reserved"),
    *("dead-expired", "dead-rejected", "dead-retries-used-up", "dead-stalled"),
    *("step-deploy", "step-kill_worker", "step-stop_worker", "step-flush", "step-new-group", "step-limit"),
    *("cancelled-retrying", "erased", "replay", "discard"),
)
"""What any fifty seeds come to."""
SELDOM = (
    *("pause-stream", "pause-group", "pause-level", "pause-group-level", "pause-tenant", "pause-group-tenant"),
    *("pause-instance", "pause-key", "levels-changed", "step-dropped-group", "cancelled-scheduled", "release", "skip"),
    *("lost", "left-to-a-sweep", "slot-that-expires", "why-lost-lease", "why-none", "why-starting"),
    *("why-level-unserved",),
)
"""What a thousand seeds come to."""
