"""A sandbox for programs in processes of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from streams.whatsapp.sandbox.app import Sandbox
from streams.whatsapp.sandbox.phone import Phone
from tests.whatsapp.servers import serving


class Sandboxes:
    """A sandbox that is served; ``environment`` lets a program send to it."""

    def __init__(self) -> None:
        self.phone = Phone()
        self.environment: dict[str, str] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        url = await self._stack.enter_async_context(serving(Sandbox(self.phone).app))
        self.environment = {
            "STREAMS_WHATSAPP_PROVIDER": "cloud",
            "STREAMS_WHATSAPP_BASE_URL": url,
            "STREAMS_WHATSAPP_TOKEN": "t",
            "STREAMS_WHATSAPP_PHONE_NUMBER_ID": "p1",
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
