"""The dashboard as an ASGI application: its routes, and what its templates use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    PrefixLoader,
    StrictUndefined,
    select_autoescape,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from streams.admin.queries import Chart, ident, shown, shown_facts, sign_of
from streams.common.log_facts import logger_of
from streams.dashboard.accounts import Accounts
from streams.dashboard.api import Api, problem
from streams.dashboard.board import Host, Page, boards
from streams.dashboard.guard import Gatekeeper, has_token
from streams.dashboard.jobs import Jobs
from streams.dashboard.login import LogIn
from streams.dashboard.options import DashboardOptions
from streams.dashboard.page_actions import PageActions
from streams.dashboard.pages import Pages
from streams.dashboard.roles import Role
from streams.dashboard.scraping import Scraping
from streams.dashboard.sessions import Sessions
from streams.dashboard.viewer import Viewer
from streams.dashboard.words import PORTUGUESE, language_of, translated
from streams.errors import (
    BrokerError,
    BrokerUnavailable,
    GroupDropped,
    NotFound,
    StreamsError,
    WrongCredentials,
)
from streams.pipeline import Pipeline
from streams.quantities import counted
from streams.worker.patience import Recovering

logger = logger_of("dashboard")


class Dashboard:
    """Serves the pages of one server.

    Args:
        pipeline: of that server; opened while the application runs. Its handlers are not
            needed.
        options: see ``DashboardOptions``.

    Attributes:
        api: the part below ``/api/v1``.
        app: the ASGI application; mount it anywhere, and give ``lifespan`` to the
            application around it.
    """

    def __init__(
        self, pipeline: Pipeline, options: DashboardOptions | None = None
    ) -> None:
        self._pipeline = pipeline
        pipeline.patience = pipeline.settings.wait
        self._options = options = options or DashboardOptions()
        self._known = options.accounts if options.proxy is None else Accounts({})
        sessions = Sessions(options.secret, self._known.password_of, pipeline)
        self._log_in = LogIn(self._known, sessions, self.render, options)
        self._jobs = Jobs()
        self._recovering: Recovering | None = None
        self._scraping = Scraping(pipeline)
        host = Host(pipeline, self.render, self.fragment)
        named = boards(host)
        self._boards = list(named.values())
        self._portuguese = dict(PORTUGUESE)

        for board in self._boards:
            self._portuguese = {**board.words, **self._portuguese}

        self._pages = Pages(host, self._jobs, named)
        self._deeds = PageActions(
            pipeline, self.render, self._pages.show_event, self._jobs, self._boards
        )
        self.api = Api(
            pipeline,
            options.tokens,
            is_local=not (options.accounts or options.tokens or options.proxy),
            read_only=options.read_only,
            boards=self._boards,
        )

        theirs = {
            name: FileSystemLoader(board.templates)
            for name, board in named.items()
            if board.templates is not None
        }

        self._templates = Environment(
            loader=ChoiceLoader(
                [PackageLoader("streams.dashboard"), PrefixLoader(theirs)]
            ),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

        self._templates.filters |= {
            "moment": moment,
            "age": age,
            "shown": shown,
            "ident": ident,
            "facts": shown_facts,
            "sign": sign_of,
            "host": host_of,
            "figures": figures,
        }

        self._templates.globals["counted"] = counted
        inner = Starlette(
            routes=self._routes(),
            exception_handlers={
                HTTPException: self._failed,
                StreamsError: self._failed,
            },
            lifespan=self.lifespan,
        )

        self.app: ASGIApp = Gatekeeper(inner, options, sessions, self._failed)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Open the pipeline while the application runs, whether the server is there or not."""
        async with self._pipeline:
            self._recovering = recovering = Recovering(
                self._pipeline.broker, "dashboard"
            )
            if not self._pipeline.broker.was_reached:
                recovering.start()

            try:
                yield
            finally:
                await recovering.close()
                await self._jobs.close()
                self._scraping.close()

    @property
    def routes(self) -> list[Route]:
        """Every route but the static files."""
        return [route for route in self._routes() if isinstance(route, Route)]

    def render(
        self, request: Request, template: str, status: int = 200, **values: Any
    ) -> Response:
        """A page."""
        viewer: Viewer | None = request.scope.get("viewer")
        read_only = self._options.read_only
        may = 0 if viewer is None or read_only else viewer.role
        told = self._common(request) | {
            "viewer": viewer,
            "entries": [
                entry for board in self._boards for entry in board.entries.items()
            ],
            "acts": may >= Role.OPERATOR,
            "reveals": may >= Role.ADMIN,
            "read_only": read_only,
            "has_accounts": bool(self._known),
            "title": values.get("title", ""),
        }

        page = self._templates.get_template(template).render(values | told)

        return HTMLResponse(page, status)

    def fragment(self, request: Request, template: str, **values: Any) -> str:
        """A part of a page, the same for all viewers with this language."""
        told = self._common(request) | {"acts": False}

        return self._templates.get_template(template).render(values | told)

    def _common(self, request: Request) -> dict[str, Any]:
        """The values that every template may use."""
        language = language_of(request.headers.get("accept-language", ""))

        return {
            "_": lambda text: translated(text, language, self._portuguese),
            "language": language,
            "root": request.scope.get("root_path", ""),
        }

    def _routes(self) -> list[Route | Mount]:
        pages = self._pages
        stream = "/streams/{stream}"
        static = StaticFiles(directory=Path(__file__).parent / "static")

        return [
            Route("/login", self._log_in.enter, methods=["GET", "POST"]),
            Route("/logout", self._log_in.leave, methods=["POST"]),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            Mount("/static", static),
            Mount("/api/v1", self.api.app),
            Route("/", pages.overview),
            Route("/workers", pages.workers),
            Route("/doctor", pages.doctor),
            Route("/audit", pages.audit),
            Route("/search", pages.search),
            Route(stream, pages.stream),
            Route(f"{stream}/event", pages.event),
            Route(f"{stream}/dead", pages.dead),
            Route(f"{stream}/consumer", pages.consumer),
            Route("/live/overview", pages.live_overview),
            Route("/live/workers", pages.live_workers),
            Route("/live/streams/{stream}", pages.live_stream),
            Route("/live/streams/{stream}/chart", pages.chart),
            *(
                Route(f"{stream}/{name}", self._acting(name, role), methods=["POST"])
                for name, (role, _) in self._deeds.all.items()
            ),
            *(
                Route(path, page)
                for board in self._boards
                for path, page in board.pages.items()
            ),
        ]

    def _acting(self, name: str, role: Role) -> Page:
        """The route of an action: it needs a role, and the token of the session."""

        async def guarded(request: Request) -> Response:
            viewer: Viewer = request.scope["viewer"]
            form = await request.form()
            if (
                self._options.read_only
                or not viewer.may(role)
                or not has_token(viewer, form.get("token"))
            ):
                raise HTTPException(403)

            return await self._deeds.answer(request, name)

        return guarded

    async def _metrics(self, request: Request) -> Response:
        """For Prometheus; it shows a token, as programs do."""
        try:
            token = self.api.check_token(request)
        except HTTPException as refused:
            return PlainTextResponse(
                refused.detail, refused.status_code, refused.headers
            )

        if not token.reaches(""):
            return PlainTextResponse(
                "this token is for some streams only, and figures are of all", 403
            )

        text = await self._scraping.text()
        if not text:
            return PlainTextResponse(
                "this needs the extra prometheus: pip install 'streams[prometheus]'",
                404,
            )

        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _failed(self, request: Request, error: Exception) -> Response:
        """A page for what went wrong; it repeats nothing of what was asked."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if path.startswith("/api/v1/") and isinstance(error, HTTPException):
            return await problem(request, error)

        if isinstance(error, (BrokerUnavailable, WrongCredentials)):
            if self._recovering is not None:
                self._recovering.report(error)
        elif isinstance(error, BrokerError):
            logger.warning("the server refuses", extra={"error": str(error)})

        status, says = _fault(error)

        return self.render(request, "problem.html", status, problem=says)


_SAYS = {
    403: "You may not do this.",
    404: "Not found.",
    409: "Somebody else was faster.",
    503: "The server does not answer.",
}


def _fault(error: Exception) -> tuple[int, str]:
    """The status and the sentence for a page that failed."""
    if isinstance(error, GroupDropped):
        return 409, str(error)

    if isinstance(error, WrongCredentials):
        return 503, "The server refuses the credentials."

    status = 400
    if isinstance(error, HTTPException):
        status = error.status_code
    elif isinstance(error, NotFound):
        status = 404
    elif isinstance(error, BrokerError):
        status = 503

    return status, _SAYS.get(status, "The request is not valid.")


def moment(at: float | str | None) -> str:
    """A Unix time as ISO 8601; the page shows it in the reader's zone."""
    if not at:
        return ""

    try:
        found = datetime.fromtimestamp(float(at), UTC)
    except (ValueError, OverflowError, OSError):
        return ""

    return found.isoformat(timespec="milliseconds")


def age(seconds: float | None) -> str:
    """A span in one unit."""
    if seconds is None:
        return ""

    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"

    return f"{max(0.0, seconds):.1f} s"


def host_of(url: str) -> str:
    """The host of an address: what stands behind it may be a secret."""
    return urlsplit(url).hostname or ""


def figures(chart: Chart) -> str:
    """A chart as JSON, for the script that draws it."""
    rows = [
        [row.get(name, 0) for row in chart.rows] for name in ("done", "retried", "dead")
    ]

    return orjson.dumps(
        {"since": chart.since, "span": chart.span, "rows": rows}
    ).decode()
