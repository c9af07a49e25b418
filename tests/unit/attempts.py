"""An attempt for a middleware."""

from __future__ import annotations

from streams.events.event import Event
from streams.middleware import Attempt, Chain


def attempt() -> Attempt:
    return Attempt(Event("order", {"id": 1}, id="e1"))


async def outcome(chain: Chain, handler=None) -> BaseException | None:
    async def nothing(event):
        return None

    try:
        await chain.run(attempt(), handler or nothing)
    except Exception as error:  # noqa: BLE001
        return error
    return None
