"""The part of the dashboard that shows messages, instances and endpoints."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from streams.dashboard.board import Board, Hit, Host
from streams.dashboard.page_action import PageAction, audit, who
from streams.dashboard.reading import name_of, text
from streams.dashboard.roles import Role
from streams.errors import NotFound
from streams.whatsapp.outbox.endpoints import Endpoints
from streams.whatsapp.pages.operations import MessageOperations
from streams.whatsapp.pages.queries import MessageQueries
from streams.whatsapp.settings import WhatsAppSettings
from streams.whatsapp.status import STREAM

_HERE = Path(__file__).parent
PORTUGUESE: dict[str, str] = tomllib.loads(
    (_HERE / "portuguese.toml").read_text("utf-8")
)
TEMPLATES = _HERE / "templates"


class MessagePages:
    """The pages of messages.

    Args:
        host: makes the pages.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pipeline = host.pipeline
        self._queries = MessageQueries(host.pipeline)

    def board(self) -> Board:
        """The part of the dashboard."""
        return Board(
            entries={"WhatsApp": "/whatsapp"},
            pages={
                "/whatsapp": self.overview,
                "/whatsapp/endpoints": self.endpoints,
                "/whatsapp/message": self.message,
                "/live/whatsapp": self.live_figures,
            },
            templates=TEMPLATES,
            words=PORTUGUESE,
            actions={"endpoint": (Role.OPERATOR, self.enable)},
            operations=MessageOperations(self._pipeline, self._queries).all(),
            tags={"messages": "WhatsApp messages."},
            search=self.search,
            values=self.values,
        )

    async def overview(self, request: Request) -> Response:
        """Instances, and the states of the messages of today, by tenant."""
        values = await self._queries.overview()
        return self._host.render(
            request, "whatsapp/overview.html", stream=STREAM, **values
        )

    async def live_figures(self, request: Request) -> Response:
        """Figures of messages, as they change."""
        return await self._host.follow(
            request, "whatsapp/figures.html", self._queries.overview
        )

    async def endpoints(self, request: Request) -> Response:
        """Where tenants are told, and how that goes."""
        values = await self._queries.endpoints()
        return self._host.render(request, "whatsapp/endpoints.html", **values)

    async def message(self, request: Request) -> Response:
        """One message, with its timeline."""
        ident = text(request, "id", 500)
        is_text = bool(ident) and ident.isprintable()
        message = await self._queries.message(ident) if is_text else None
        if message is None:
            raise NotFound("no such message")
        return self._host.render(request, "whatsapp/message.html", message=message)

    async def search(self, wanted: str) -> Hit | None:
        """The message that has an id, its own or the provider's."""
        found = await self._queries.message(wanted)
        if found is None:
            return None
        path = f"/whatsapp/message?id={quote(found.id)}"
        return Hit("Message", found.id, found.status, path)

    async def values(self, attribute: str) -> Iterable[str]:
        """The ids of the instances."""
        if attribute != "instance":
            return ()
        return [str(one["id"]) for one in (await self._queries.overview())["instances"]]

    async def enable(self, request: Request, form: FormData) -> PageAction:
        """Call an endpoint again that was disabled."""
        ident = str(form.get("endpoint", ""))[:60]
        endpoints = Endpoints(self._pipeline, WhatsAppSettings())
        if await endpoints.get(ident) is None:
            raise NotFound("no such endpoint")

        async def do() -> str:
            await endpoints.enable(ident)
            await audit(
                self._pipeline,
                name_of(request),
                action="enable-endpoint",
                by=who(request),
                event=ident,
            )
            return "goes on"

        return PageAction("Enable", ident, "It is called again.", do)
