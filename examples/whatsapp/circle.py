"""The whole circle of WhatsApp messages on one machine, in one command: ``python examples/whatsapp/circle.py``.

An embedded server, a sandbox in the place of Meta, its signed webhooks, a worker, and a tenant's endpoint. Messages are
queued, throttled, refused, held while an instance is disconnected, sent, delivered, read, and told to their tenants. At
the end every message is accounted for; the exit code is 1 if one is not. Nothing leaves the machine. Needs the extras
`embedded`, `cli` and `web`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from rich.console import Console
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streams.settings import Settings
from streams.whatsapp import (
    Application,
    Buttons,
    Messages,
    Template,
    Text,
    WhatsAppSettings,
)
from streams.whatsapp.outbox.endpoints import Endpoints
from streams.whatsapp.registry import InstanceRegistry
from streams.whatsapp.sandbox.app import Sandbox
from streams.whatsapp.sandbox.phone import Fault, Phone
from streams.whatsapp.status import STREAM
from streams.whatsapp.webhooks.app import WebhookApp

TENANTS = ("padaria", "clinica", "escola")
EACH = 40
BEGAN = time.monotonic()
console = Console(highlight=False)


def tell(text: str) -> None:
    console.print(f"{time.monotonic() - BEGAN:5.1f} s  {text}", soft_wrap=True)


class Receiver:
    """The server of a tenant: an endpoint that checks signatures and counts calls."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.told: dict[str, Counter[str]] = {tenant: Counter() for tenant in TENANTS}
        self.refused = 0
        self._seen: set[str] = set()
        self.app = Starlette(routes=[Route("/{tenant}", self._hear, methods=["POST"])])

    async def _hear(self, request: Request) -> Response:
        tenant, raw = request.path_params["tenant"], await request.body()
        ident, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        key = base64.b64decode(self.secrets[tenant].removeprefix("whsec_"))
        right = base64.b64encode(
            hmac.new(key, f"{ident}.{at}.".encode() + raw, hashlib.sha256).digest()
        ).decode()
        if f"v1,{right}" not in request.headers["webhook-signature"].split():
            self.refused += 1
            return PlainTextResponse("wrong signature", 401)
        if ident not in self._seen:
            self._seen.add(ident)
            self.told[tenant][json.loads(raw)["type"]] += 1
        return PlainTextResponse("ok")


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", ws="none", timeout_graceful_shutdown=1
            )
        )
        running = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


async def until(what: str, condition: Any, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > give_up:
            raise SystemExit(f"waited {seconds:g} s in vain until {what}")
        await asyncio.sleep(0.05)


async def queue_all(messages: Messages) -> list[str]:
    """The messages of three small businesses on a busy morning."""
    contents = (
        Text("Seu pedido saiu para entrega."),
        Template(
            "lembrete",
            components=[
                {"type": "body", "parameters": [{"type": "text", "text": "15h"}]}
            ],
        ),
        Buttons("Confirma o horário?", {"sim": "Sim", "nao": "Não"}),
    )
    return [
        await messages.add(
            f"55119{n % 10}{TENANTS.index(tenant)}000{n:03}",
            contents[n % len(contents)],
            tenant=tenant,
            instance=1 + n % 2,
            priority=(0, 1, 5, 10)[n % 4],
            max_retries=20,
            retry_delay=0.2,
        )
        for n in range(EACH)
        for tenant in TENANTS
    ]


async def circle(stack: AsyncExitStack, folder: str) -> bool:
    phone, receiver = Phone(), Receiver()
    hooks = await stack.enter_async_context(serving(receiver.app))
    settings = WhatsAppSettings(
        provider="cloud", token="any", phone_number_id="p", app_secret="meta", webhook_key="ours", lookup_key="ours",
        webhook_allow=hooks.removeprefix("http://"), timeout=2.0,
    )  # fmt: skip
    url = f"embedded://{folder}"
    webhooks = WebhookApp(
        Application(Settings(url=url), settings).pipeline.asynchronous, settings
    )
    webhook = await stack.enter_async_context(serving(webhooks.app))
    sandbox = await stack.enter_async_context(
        serving(
            Sandbox(
                phone, webhook_url=f"{webhook}/meta", app_secret="meta", latency=0.01
            ).app
        )
    )
    application = Application(
        Settings(url=url),
        replace(settings, base_url=sandbox),
        environ={"SHOP_TOKEN": "any"},
    )
    pipeline = await stack.enter_async_context(application.pipeline.asynchronous)
    messages, endpoints = Messages(pipeline, settings), Endpoints(pipeline, settings)
    for ident in ("1", "2"):
        await InstanceRegistry(pipeline).add(
            ident, {"provider": "cloud", "name": f"p{ident}", "token_env": "SHOP_TOKEN"}
        )
    for tenant in TENANTS:
        endpoint = await endpoints.add(tenant, f"{hooks}/{tenant}")
        receiver.secrets[tenant] = endpoints.secrets(endpoint)[0]
    tell(
        f"an embedded server, a sandbox at {sandbox}, its webhooks at {webhook}, the tenants' endpoint at {hooks}"
    )

    worker = asyncio.create_task(pipeline.run())
    phone.faults = [
        Fault(131000, share=0.1, status=500),
        Fault(130429, count=3, retry_after=1),
        Fault(131026, share=0.03),
    ]
    idents = await queue_all(messages)
    tell(
        f"queued {len(idents)} messages of {len(TENANTS)} tenants; one of ten answers is an error, some are throttles"
    )

    async def half_sent() -> bool:
        return len(phone.taken) > len(idents) / 3

    await until("a third is sent", half_sent)
    phone.disconnected.add("p2")
    tell(f"{len(phone.taken)} are sent; instance 2 is disconnected")

    async def held() -> bool:
        return (
            bool(await pipeline.pauses(STREAM).list())
            and (await messages.counts()).pending == 0
        )

    await until("only messages of instance 2 are left", held)
    (pause,) = await pipeline.pauses(STREAM).list()
    counts = await messages.counts()
    tell(
        f"the {pause.by} holds {pause.attribute} {pause.value}: {counts.retrying} messages wait"
    )
    phone.disconnected.clear()
    phone.faults = []
    tell(
        "instance 2 is connected again; within 15 s one message tries it, and the others follow"
    )

    async def all_read() -> bool:
        found = [await messages.status(ident) for ident in idents]
        return all(status in ("read", "failed") for status in found)

    await until("every message is read or failed", all_read)

    async def all_told() -> bool:
        return all(
            told["message.read"] + told["message.failed"] == EACH
            and told["message.sent"] == told["message.read"]
            for told in receiver.told.values()
        )

    await until("every tenant was told", all_told)
    pipeline.stop()
    await worker
    await application.providers.close()

    taken = Counter(message.callback for message in phone.taken)
    failed = [ident for ident in idents if await messages.status(ident) == "failed"]
    table = Table(
        "TENANT",
        "QUEUED",
        "SENT",
        "DELIVERED",
        "READ",
        "FAILED",
        "TOLD OF",
        box=None,
        header_style="bold",
    )
    for tenant in TENANTS:
        told = receiver.told[tenant]
        row = (
            EACH,
            *(
                told[f"message.{word}"]
                for word in ("sent", "delivered", "read", "failed")
            ),
            told.total(),
        )
        table.add_row(tenant, *map(str, row))
    console.print(table)
    balanced = (
        len(taken) + len(failed) == len(idents) and max(taken.values()) == 1 and not set(failed) & set(taken)
        and receiver.refused == 0
    )  # fmt: skip
    tell(
        f"{len(taken)} sent once, {len(failed)} failed, 0 twice, 0 lost"
        if balanced
        else "THE BOOKS DO NOT BALANCE"
    )
    return balanced


async def main() -> bool:
    with tempfile.TemporaryDirectory(prefix="wa", dir="/tmp") as folder:
        async with AsyncExitStack() as stack:
            return await circle(stack, f"{folder}/data")


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # The errors here are on purpose.
    sys.exit(0 if asyncio.run(main()) else 1)
