"""A living system with some trouble in it, and the dashboard to look at: ``python examples/living.py``.

An embedded server, workers, orders that fail now and then, and messages of three tenants through a sandbox whose
second number drops out every few minutes. It runs until Ctrl-C and leaves nothing behind. Needs the extras `embedded`,
`cli` and `web`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import uvicorn

from streams import Event, Pipeline, Reject, Retry, Settings
from streams.dashboard import Dashboard
from streams.whatsapp import Application, Messages, Text, WhatsAppSettings
from streams.whatsapp.registry import InstanceRegistry
from streams.whatsapp.sandbox.app import Sandbox
from streams.whatsapp.sandbox.phone import Fault, Phone
from streams.whatsapp.webhooks.app import WebhookApp

TENANTS = ("padaria", "clinica", "escola")


def shop(url: str) -> Pipeline:
    """Orders, some of which fail."""
    pipeline = Pipeline(url)

    @pipeline.handler(
        "orders", group="billing", concurrency=20, retry=Retry(max_retries=2, delay=5.0)
    )
    async def charge(event: Event[Any]) -> None:
        await asyncio.sleep(random.expovariate(20))
        if event.data["total"] < 0:
            raise Reject("an order with a negative total")
        if random.random() < 0.06:
            raise OSError("the bank does not answer")

    @pipeline.handler("orders", group="shipping", concurrency=5)
    async def ship(event: Event[Any]) -> None:
        await asyncio.sleep(random.expovariate(10))

    pipeline.stream("orders", retention="fanout", groups=["billing", "shipping"])
    return pipeline


async def order_now_and_then(pipeline: Pipeline) -> None:
    """Some orders a second, more at times."""
    number = 0
    while True:
        for _ in range(random.choice((1, 2, 3, 12))):
            number += 1
            total = -1 if random.random() < 0.02 else random.randint(1, 500)
            await pipeline.publish(
                "orders",
                {"number": number, "total": total},
                type="order.created",
                tenant=random.choice(TENANTS),
                priority=random.choice((0, 0, 0, 1, 5, 10)),
                delay=random.choice((0.0, 0.0, 0.0, 0.0, 120.0)),
            )
        await asyncio.sleep(random.expovariate(2))


async def write_now_and_then(messages: Messages, phone: Phone) -> None:
    """Some messages a second; the second number drops out for a while every few minutes."""
    for n in range(10**9):
        await messages.add(
            f"55119{random.randrange(10**7):08}",
            Text("Seu pedido saiu para entrega."),
            tenant=random.choice(TENANTS),
            instance=random.choice((1, 2)),
            priority=random.choice((0, 0, 1, 5)),
            max_retries=3,
            retry_delay=2.0,
        )
        if n % 300 == 200:
            phone.disconnected.add("p2")
        elif n % 300 == 250:
            phone.disconnected.clear()
        await asyncio.sleep(random.expovariate(3))


@asynccontextmanager
async def serving(app: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application on this machine."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            app, log_level="critical", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment] # Ctrl-C is for the whole
        running = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


async def live(port: int, seconds: float) -> None:
    """Run everything."""
    with tempfile.TemporaryDirectory(prefix="lv") as folder:
        async with AsyncExitStack() as stack:
            url, phone = f"embedded://{folder}/data", Phone()
            phone.faults = [
                Fault(131000, share=0.05, status=500),
                Fault(131026, share=0.02),
            ]
            settings = WhatsAppSettings(
                provider="cloud",
                token="any",
                phone_number_id="p",
                app_secret="meta",
                lookup_key="ours",
            )
            hooks = WebhookApp(
                Application(Settings(url=url), settings).pipeline.asynchronous, settings
            )
            webhook = await stack.enter_async_context(serving(hooks.app))
            made = Sandbox(
                phone, webhook_url=f"{webhook}/meta", app_secret="meta", latency=0.05
            )
            sandbox = await stack.enter_async_context(serving(made.app))
            application = Application(
                Settings(url=url),
                replace(settings, base_url=sandbox),
                environ={"SHOP_TOKEN": "any"},
            )
            pipeline = await stack.enter_async_context(
                application.pipeline.asynchronous
            )
            for ident in ("1", "2"):
                row = {
                    "provider": "cloud",
                    "name": f"p{ident}",
                    "token_env": "SHOP_TOKEN",
                }
                await InstanceRegistry(pipeline).add(ident, row)
            orders = shop(url)
            publishing = await stack.enter_async_context(orders.twin())
            dashboard = await stack.enter_async_context(
                serving(Dashboard(Pipeline(url)).app, port)
            )
            workers = [
                asyncio.create_task(pipeline.run()),
                asyncio.create_task(orders.run()),
            ]
            traffic = [
                asyncio.create_task(order_now_and_then(publishing)),
                asyncio.create_task(
                    write_now_and_then(Messages(pipeline, settings), phone)
                ),
            ]
            print(f"the dashboard at {dashboard}; Ctrl-C ends it", flush=True)
            done, _ = await asyncio.wait(
                [*workers, *traffic],
                timeout=seconds or None,
                return_when="FIRST_COMPLETED",
            )
            for task in traffic:
                task.cancel()
            for running in (pipeline, orders):
                running.stop()
            await asyncio.gather(*workers, *traffic, return_exceptions=True)
            await application.providers.close()
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="A living system with some trouble in it."
    )
    parser.add_argument("--port", type=int, default=8897, help="of the dashboard")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="end after so many; 0: with Ctrl-C"
    )
    given = parser.parse_args()
    logging.disable(logging.ERROR)  # The errors here are on purpose.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(live(given.port, given.seconds))
