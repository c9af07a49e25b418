"""claim, claim done, claim release: an event id is handled once within a window.

One attempt at a time handles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.outages import OUTAGE
from streams.broker.server.scripts import Script
from streams.errors import BrokerError

_CLAIM = Script("claim")
_DONE = Script("claim_done")
_RELEASE = Script("claim_release")

HELD, HANDLED, TAKEN, NO_MEMORY = 1, 0, -1, -2


class Claim(NamedTuple):
    """An event id, and the delivery that claims it.

    The delivery is ``level|entry id``, and how often the entry was delivered.
    """

    event_id: str
    entry: str
    delivered: int


class Claiming:
    """Writes the claims of one group.

    Args:
        broker: the server.
        keys: of the stream.
        group: its name.
        hold: seconds for which a claim holds unless it is claimed again.
        window: seconds for which a handled event id is remembered.
    """

    def __init__(
        self, broker: Broker, keys: Keys, group: str, *, hold: float, window: float
    ) -> None:
        self._keys = keys
        self._group = group
        self._hold_ms = max(1, round(hold * 1000))
        self._window_ms = max(1, round(window * 1000))
        self._link = broker.link()

    async def exchange(
        self,
        claims: Sequence[Claim],
        done: Sequence[Claim] = (),
        released: Sequence[Claim] = (),
    ) -> tuple[list[int] | BrokerError, list[int] | BrokerError]:
        """Release, mark as handled and claim, in one write; all of it can safely be sent again.

        Returns:
            For ``claims`` and for ``done``, in their order: ``HELD``, ``HANDLED`` (for
            ``done``: not this attempt's any more), ``TAKEN`` or ``NO_MEMORY``; or the
            refusal of that part.

        Raises:
            BrokerUnavailable, CommandRefused: the connection failed, or a part was
                refused in a way that passes.
        """
        commands: list[Any] = []
        for script, part, first in (
            (_RELEASE, released, ()),
            (_DONE, done, (self._window_ms,)),
            (_CLAIM, claims, (self._hold_ms,)),
        ):
            if part:
                commands.append(self._command(script, part, first))
        replies = await self._link.batch(commands)
        if passing := next(
            (reply for reply in replies if isinstance(reply, OUTAGE)), None
        ):
            raise passing
        claimed: list[int] | BrokerError = replies.pop() if claims else []
        return claimed, replies.pop() if done else []

    async def close(self) -> None:
        """Close its connection."""
        await self._link.close()

    def _command(
        self, script: Script, claims: Sequence[Claim], first: Sequence[int]
    ) -> tuple[Any, ...]:
        arguments: list[Any] = [*first]
        for claim in claims:
            arguments += (claim.entry, claim.delivered)
        return script.command(
            [self._keys.handled(self._group, claim.event_id) for claim in claims],
            *arguments,
        )
