"""A sender at work in front of a sandbox, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from streams.settings import Settings
from streams.whatsapp import Application, Messages, WhatsAppSettings
from streams.whatsapp.sandbox.app import Sandbox
from streams.whatsapp.sandbox.phone import Phone
from tests.servers import Server
from tests.whatsapp.servers import serving

PHONE = "5511999990000"
QUICK = WhatsAppSettings(
    provider="cloud", token="t", phone_number_id="p1", rate="1000/s", burst=1000, pair_rate="1000/s", pair_burst=1000,
    retry_delay=0.05, timeout=2.0, unknown_after=1.0,
)  # fmt: skip


class Stage:
    """What a test has in hand.

    Attributes:
        phone: the state of the sandbox.
        messages: for queueing and asking.
        application: whose sender runs.
    """

    def __init__(
        self, phone: Phone, application: Application, messages: Messages, url: str
    ) -> None:
        self.phone = phone
        self.application = application
        self.messages = messages
        self.url = url

    def sent(self, message_id: str) -> int:
        """How often the sandbox took a message."""
        return sum(taken.callback == message_id for taken in self.phone.taken)


@asynccontextmanager
async def stage(
    server: Server,
    namespace: str,
    settings: WhatsAppSettings = QUICK,
    phone: Phone | None = None,
    **options: object,
) -> AsyncIterator[Stage]:
    """An application whose worker runs, and a sandbox for it."""
    phone = phone or Phone()
    async with serving(Sandbox(phone, **options).app) as url:
        application = Application(
            Settings(url=server.url, namespace=namespace),
            replace(settings, base_url=url),
            environ={},
        )
        pipeline = application.pipeline.asynchronous
        async with pipeline:
            running = asyncio.create_task(pipeline.run())
            try:
                yield Stage(
                    phone, application, Messages(pipeline, application.settings), url
                )
            finally:
                pipeline.stop()
                await running
                await application.providers.close()
