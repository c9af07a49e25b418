"""Says once that a server is away, or refuses what it is asked, and once that it is back, however many notice."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from streams.common import native
from streams.common.log_facts import logger_of
from streams.errors import BrokerUnavailable, CommandRefused, StreamsError

logger = logger_of("broker")

OUTAGE = (BrokerUnavailable, CommandRefused)
"""What roles wait out: no answer, "not now", and a refusal in unknown words, a proxy's or a newer server's.

Permissions, credentials and keys of a wrong kind are known, and told as what they are.
"""


@dataclass(slots=True)
class _Outage:
    """One server's; ``waiting``: who waits for its end."""

    since: float
    waiting: set[str] = field(default_factory=set)


class Outages:
    """The outages of one broker's servers. May be told in any thread.

    Args:
        address: of the server, or of all of them; a node of a cluster is named by the error.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._going_on: dict[str, _Outage] = {}
        self._lock = native.new_lock()

    def away(self, who: str, error: StreamsError) -> None:
        """Somebody cannot go on for want of a server, and tries again; told as often as one likes."""
        with self._lock:
            if any(who in outage.waiting for outage in self._going_on.values()):
                return
            server = getattr(error, "server", "") or self._address
            known = self._going_on.get(server)
            outage = known or self._going_on.setdefault(
                server, _Outage(time.monotonic())
            )
            outage.waiting.add(who)
        if known is None:
            facts = {"server": server, "error": str(error)}
            if isinstance(error, CommandRefused):
                logger.error(
                    "the server refuses what it is asked, trying again until it does not",
                    extra=facts,
                )
            else:
                logger.warning(
                    "the server is away, trying again until it is back", extra=facts
                )

    def back(self, who: str) -> None:
        """Somebody goes on; the last one that waited says so for all."""
        for server, outage in self._ended(who).items():
            seconds = round(time.monotonic() - outage.since, 1)
            logger.info(
                "the server is back", extra={"server": server, "seconds": seconds}
            )

    def leave(self, who: str) -> None:
        """Somebody ends, and waits no more."""
        self._ended(who)

    def _ended(self, who: str) -> dict[str, _Outage]:
        with self._lock:
            mine = {
                server: outage
                for server, outage in self._going_on.items()
                if who in outage.waiting
            }
            for outage in mine.values():
                outage.waiting.discard(who)
            ended = {
                server: outage for server, outage in mine.items() if not outage.waiting
            }
            for server in ended:
                del self._going_on[server]
        return ended
