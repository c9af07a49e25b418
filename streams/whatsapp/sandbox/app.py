"""The sandbox as an ASGI application."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from streams.quantities import counted
from streams.whatsapp.message import KINDS
from streams.whatsapp.recipient import masked
from streams.whatsapp.sandbox.phone import Fault, Phone, Taken

_HANG = 600.0
_FIRST = 200


class Sandbox:
    """Serves a sandbox.

    Args:
        phone: its state; a new one if None.
        webhook_url: address for status webhooks; '' sends none.
        app_secret: key of their signatures.
        latency: seconds from a request to its answer.
        statuses: seconds from the answer to each status webhook, by status.

    Attributes:
        app: the ASGI application.
    """

    def __init__(
        self,
        phone: Phone | None = None,
        *,
        webhook_url: str = "",
        app_secret: str = "sandbox",  # noqa: S107 - no secret: everybody may know it
        latency: float = 0.0,
        statuses: Mapping[str, float] | None = None,
    ) -> None:
        self.phone = phone or Phone()
        self._webhook_url = webhook_url
        self._secret = app_secret.encode()
        self._latency = latency
        self._statuses = (
            {"sent": 0.0, "delivered": 0.3, "read": 1.0}
            if statuses is None
            else dict(statuses)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/sandbox/messages", self._messages),
                Route("/sandbox/faults", self._set_faults, methods=["POST"]),
                Route("/sandbox/connection", self._set_connection, methods=["POST"]),
                Route(
                    "/{version}/{phone_number_id}/messages",
                    self._send,
                    methods=["POST"],
                ),
                Route("/{version}/{phone_number_id}", self._health),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=10.0) as client:
            self._client = client
            yield
            for task in list(self._tasks):
                task.cancel()

            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, request: Request) -> Response:
        phone_number_id = request.path_params["phone_number_id"]
        if self._latency:
            await asyncio.sleep(self._latency)

        if not request.headers.get("authorization", "").startswith("Bearer "):
            return self._error(Fault(190, status=401))

        try:
            body = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            return self._error(Fault(100))

        problem = _problem(body)
        if problem:
            return self._error(Fault(100), problem)

        fault = self.phone.fault(phone_number_id, body)
        if fault is not None and fault.code != -1:
            return self._error(fault)

        taken = self.phone.take(phone_number_id, body)
        self._later(self._tell(taken))
        if fault is not None:
            self.phone.answers["none"] += 1
            give_up = time.monotonic() + _HANG
            # Starlette has no event for a lost client.
            while not await request.is_disconnected():
                if time.monotonic() > give_up:
                    break

                await asyncio.sleep(0.02)

        self.phone.answers["accepted"] += 1
        contact = {"input": taken.to, "wa_id": taken.to.removeprefix("+")}
        return JSONResponse(
            {
                "messaging_product": "whatsapp",
                "contacts": [contact],
                "messages": [{"id": taken.wamid}],
            }
        )

    def _error(
        self, fault: Fault, details: str = "injected by the sandbox"
    ) -> Response:
        self.phone.answers[str(fault.code)] += 1
        headers = (
            {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        )

        if not fault.code:
            return Response("sandbox", fault.status, headers)

        error = {
            "message": f"(#{fault.code}) sandbox",
            "type": "OAuthException",
            "code": fault.code,
            "error_data": {"messaging_product": "whatsapp", "details": details},
            "fbtrace_id": f"sandbox{sum(self.phone.answers.values())}",
        }
        return JSONResponse({"error": error}, fault.status, headers)

    async def _health(self, request: Request) -> Response:
        closed = request.path_params["phone_number_id"] in self.phone.disconnected
        state = "BLOCKED" if closed else "AVAILABLE"
        return JSONResponse(
            {"health_status": {"can_send_message": state, "entities": []}}
        )

    async def _set_faults(self, request: Request) -> Response:
        rows = orjson.loads(await request.body())
        self.phone.faults = [Fault(**row) for row in rows]
        return JSONResponse({"faults": len(rows)})

    async def _set_connection(self, request: Request) -> Response:
        wanted = orjson.loads(await request.body())
        ident = str(wanted["phone_number_id"])
        if wanted["connected"]:
            self.phone.disconnected.discard(ident)
        else:
            self.phone.disconnected.add(ident)

        return JSONResponse({"disconnected": sorted(self.phone.disconnected)})

    async def _messages(self, _: Request) -> Response:
        rows = [
            {
                "at": taken.at,
                "from": taken.phone_number_id,
                "to": taken.to,
                "kind": taken.kind,
                "wamid": taken.wamid,
                "callback": taken.callback,
            }
            for taken in self.phone.taken
        ]
        return JSONResponse({"messages": rows, "answers": dict(self.phone.answers)})

    async def _page(self, _: Request) -> Response:
        latest = list(self.phone.taken)[-_FIRST:]
        rows = "".join(map(_table_row, reversed(latest)))
        answers = ", ".join(
            f"{html.escape(name)}: {count}"
            for name, count in sorted(self.phone.answers.items())
        )
        taken = counted(len(self.phone.taken), "message was", "messages were")

        return HTMLResponse(
            "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2>"
            "<title>WhatsApp sandbox</title>"
            "<style>body{font:14px system-ui;margin:2rem}"
            "td,th{padding:.2rem 1rem .2rem 0;text-align:left}</style>"
            f"<h1>WhatsApp sandbox</h1><p>Nothing is sent. {taken} taken. {answers}</p>"
            f"<table><tr><th>time<th>from<th>to<th>kind<th>id</tr>{rows}</table>"
        )

    async def _tell(self, taken: Taken) -> None:
        """Send each status webhook of a message when it is due."""
        if not self._webhook_url:
            return

        begin = time.monotonic()
        for status, after in sorted(self._statuses.items(), key=lambda row: row[1]):
            await asyncio.sleep(max(0.0, begin + after - time.monotonic()))
            row = {
                "id": taken.wamid,
                "status": status,
                "timestamp": str(int(time.time())),
                "recipient_id": taken.to.removeprefix("+"),
                "biz_opaque_callback_data": taken.callback,
            }
            await self._deliver(taken.phone_number_id, {"statuses": [row]})

    async def _deliver(self, phone_number_id: str, value: Mapping[str, Any]) -> None:
        metadata = {
            "display_phone_number": "15550000000",
            "phone_number_id": phone_number_id,
        }
        whole = {"messaging_product": "whatsapp", "metadata": metadata, **value}
        change = {"id": "sandbox", "changes": [{"field": "messages", "value": whole}]}
        raw = orjson.dumps({"object": "whatsapp_business_account", "entry": [change]})
        signature = hmac.new(self._secret, raw, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": f"sha256={signature}",
        }

        if self._client is not None:
            for pause in (0.2, 1.0, 5.0):
                try:
                    answer = await self._client.post(
                        self._webhook_url, content=raw, headers=headers
                    )
                except httpx.HTTPError:
                    await asyncio.sleep(pause)
                else:
                    if answer.is_success:
                        return

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _problem(body: Any) -> str:
    """The reason for which Meta would refuse a request; '' if it would accept it."""
    if not isinstance(body, dict) or body.get("messaging_product") != "whatsapp":
        return "messaging_product is whatsapp"

    if body.get("recipient_type") != "individual":
        return "recipient_type is individual"

    if not body.get("to") and not body.get("recipient"):
        return "to or recipient is missing"

    kind = body.get("type")
    if kind not in KINDS or not body.get(kind):
        return "type names a kind, and a field of that name has the content"

    return ""


def _table_row(taken: Taken) -> str:
    cells = (
        time.strftime("%H:%M:%S", time.localtime(taken.at)),
        taken.phone_number_id,
        masked(taken.to),
        taken.kind,
        taken.wamid,
    )
    return "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in cells)
