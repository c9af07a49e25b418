"""leave: a consumer that stops in order takes its name off its group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.broker.server.scripts import Script
from streams.errors import BrokerError

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_LEAVE = Script("leave")
PATIENCE = 1.0
"""Seconds that the server gets. A name that stays is removed by a reclaimer after an hour."""


async def leave(
    link: Link, leases: str, streams: Sequence[str], group: str, consumer: str
) -> bool:
    """Take a consumer off a group wherever nothing is pending with it. One command.

    An error of the server is no error here.
    To be called when nothing that the consumer sent is under way any more. Returns
    whether something is pending.
    """
    with contextlib.suppress(BrokerError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            gone = await link.call(*_LEAVE.command((leases, *streams), group, consumer))
            return bool(gone < len(streams))
    return False
