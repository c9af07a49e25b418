"""The figures that a consumer counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Stats:
    """Counters since the consumer started.

    Every entry fetched ends in exactly one of the others but ``skipped``.

    Attributes:
        fetched: entries given to this consumer, retries included.
        done: handled and acknowledged.
        retried: failed, and waiting for a retry.
        dead: moved to the dead letters.
        snoozed: put back by ``Snooze``.
        limited: over a limit, and put back until the time that was reserved.
        held: deferred because a pause covers an attribute of the event.
        released: given back without an attempt (shutdown).
        lost: leases lost; another worker may have run these entries too.
        vanished: deleted by another client while they were held.
        abandoned: handlers that did not end when told to.
        skipped: of those done, how many without their handler (``Skip``), e.g. because
            they were handled before.
    """

    fetched: int = 0
    done: int = 0
    retried: int = 0
    dead: int = 0
    snoozed: int = 0
    limited: int = 0
    held: int = 0
    released: int = 0
    lost: int = 0
    vanished: int = 0
    abandoned: int = 0
    skipped: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)
