"""Log once that a server is away or refuses requests, and once that it is back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from streams.common import native
from streams.common.log_facts import logger_of
from streams.errors import BrokerUnavailable, CommandRefused, StreamsError

logger = logger_of("broker")

OUTAGE = (BrokerUnavailable, CommandRefused)
"""Errors after which roles try again: no answer, "not now", and refusals in unknown words.

Such words are a proxy's or a newer server's. Refusals for want of permissions, for credentials
and for keys of a wrong type are known, and have classes of their own.
"""


@dataclass(slots=True)
class _Outage:
    """The outage of one server; ``waiting`` are the roles that wait for its end."""

    since: float
    waiting: set[str] = field(default_factory=set)


class Outages:
    """The outages of one broker's servers. May be used from any thread.

    Args:
        address: of the server, or of a cluster, whose nodes are named by errors.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._going_on: dict[str, _Outage] = {}
        self._lock = native.new_lock()

    def away(self, who: str, error: StreamsError) -> None:
        """Note that the role ``who`` waits for a server. May be called again for each try."""
        with self._lock:
            if any(who in outage.waiting for outage in self._going_on.values()):
                return

            server = getattr(error, "server", "") or self._address
            is_new = server not in self._going_on
            if is_new:
                self._going_on[server] = _Outage(time.monotonic())

            self._going_on[server].waiting.add(who)

        if not is_new:
            return

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
        """Note that the role ``who`` goes on; the last one logs the end of the outage."""
        for server, outage in self._ended(who).items():
            seconds = round(time.monotonic() - outage.since, 1)
            logger.info(
                "the server is back", extra={"server": server, "seconds": seconds}
            )

    def leave(self, who: str) -> None:
        """Note that the role ``who`` ends."""
        self._ended(who)

    def _ended(self, who: str) -> dict[str, _Outage]:
        ended = {}
        with self._lock:
            for server, outage in list(self._going_on.items()):
                outage.waiting.discard(who)
                if not outage.waiting:
                    ended[server] = self._going_on.pop(server)

        return ended
