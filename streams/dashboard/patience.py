"""Limits of time for a request to come, and for an answer to be read.

They hold whatever server the dashboard runs under.
"""

from __future__ import annotations

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from streams.common.log_facts import logger_of

logger = logger_of("dashboard")
BODY = 20.0
"""Seconds in which a body has to come; one more for each ``_RATE`` bytes of it."""
_RATE = 16_384
UNREAD = 30.0
"""Seconds for which a part of an answer may wait for a client that does not read."""


class NotRead(Exception):  # noqa: N818 - what happened, not a defect
    """The client does not read its answer."""


def receiving(receive: Receive) -> Receive:
    """``receive``, but a body that comes too slowly is refused."""
    began, size, is_whole = 0.0, 0, False

    async def patient() -> Message:
        nonlocal began, size, is_whole
        if is_whole:
            return await receive()  # It waits for the client to leave.

        began = began or time.monotonic()

        try:
            async with asyncio.timeout(began + BODY + size / _RATE - time.monotonic()):
                message = await receive()
        except TimeoutError:
            is_whole = True
            raise HTTPException(
                408, "the body did not come in time", {"Connection": "close"}
            ) from None

        size += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)

        return message

    return patient


def sending(send: Send, scope: Scope) -> Send:
    """``send``, but a client that does not read is let go.

    Raises:
        NotRead: by what is sent, after a while.
    """

    async def patient(message: Message) -> None:
        try:
            async with asyncio.timeout(UNREAD):
                await send(message)
        except TimeoutError:
            place, _ = scope.get("client") or ("", 0)
            says = "a client does not read its answer"
            logger.warning(says, extra={"place": place})
            raise NotRead from None

    return patient
