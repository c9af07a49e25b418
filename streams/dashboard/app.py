"""The dashboard as an ASGI application: routes, pages and who may see them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from streams.dashboard.accounts import Accounts, Role
from streams.dashboard.api import Api
from streams.dashboard.guard import Guard, Viewer, has_token
from streams.dashboard.pages import Pages
from streams.dashboard.sessions import COOKIE, LASTS, Sessions
from streams.dashboard.tokens import Tokens
from streams.dashboard.words import language_of, translated
from streams.errors import BrokerError, ConfigurationError, NotFound, StreamsError
from streams.pipeline import Pipeline
from streams.queries import shown, sign_of

logger = logging.getLogger("streams.dashboard")
Page = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """How a dashboard is served.

    Attributes:
        accounts: who may log in; without any, everybody on this machine may do everything, and nobody else gets in.
        tokens: of programs that use the API.
        secret: that cookies are signed with, the same in every process that serves it; made up if empty.
        read_only: nobody may change anything.
        secure_cookie: the cookie goes over https only.
    """

    accounts: Accounts = field(default_factory=lambda: Accounts({}))
    tokens: Tokens = field(default_factory=lambda: Tokens({}))
    secret: str = field(default="", repr=False)
    read_only: bool = False
    secure_cookie: bool = False


class Dashboard:
    """Serves the pages of one server.

    Args:
        pipeline: of that server; opened while the application runs. Its handlers are not needed.
        options: see ``DashboardOptions``.

    Attributes:
        api: what is served below ``/api/v1``.
        app: the ASGI application; mount it anywhere, and give ``lifespan`` to the application around it.
    """

    def __init__(self, pipeline: Pipeline, options: DashboardOptions | None = None) -> None:
        self._pipeline = pipeline
        self._options = options or DashboardOptions()
        self._sessions = Sessions(self._options.secret)
        self._pages = Pages(pipeline, self.render)
        options = self._options
        is_local = not options.accounts and not options.tokens
        self.api = Api(pipeline, options.tokens, is_local=is_local, read_only=options.read_only)
        self._templates = Environment(
            loader=PackageLoader("streams.dashboard"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"moment": moment, "age": age, "shown": shown, "sign": sign_of}
        inner = Starlette(
            routes=self._routes(),
            exception_handlers={
                HTTPException: self._failed,
                NotFound: self._failed,
                ConfigurationError: self._failed,
                StreamsError: self._failed,
                BrokerError: self._failed,
            },
        )
        self.app = Starlette(
            routes=[Mount("/", Guard(inner, self._options.accounts, self._options.tokens, self._sessions))],
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Open the pipeline for as long as the application runs."""
        async with self._pipeline:
            yield

    @property
    def routes(self) -> list[Route]:
        """Every route but the static files."""
        return [route for route in self._routes() if isinstance(route, Route)]

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page."""
        language = language_of(request.headers.get("accept-language", ""))
        viewer: Viewer | None = request.scope.get("viewer")
        page = self._templates.get_template(template).render(
            values
            | {
                "_": lambda text: translated(text, language),
                "language": language,
                "viewer": viewer,
                "root": request.scope.get("root_path", ""),
                "acts": viewer is not None and viewer.may(Role.OPERATOR) and not self._options.read_only,
                "reveals": viewer is not None and viewer.may(Role.ADMIN) and not self._options.read_only,
                "read_only": self._options.read_only,
                "has_accounts": bool(self._options.accounts),
                "title": values.get("title", ""),
            }
        )
        return HTMLResponse(page, status)

    def _routes(self) -> list[Route | Mount]:
        pages, acts = self._pages, self._acting
        stream = "/streams/{stream}"
        static = StaticFiles(directory=Path(__file__).parent / "static")
        return [
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/health", self._health),
            Mount("/static", static),
            Mount("/api/v1", self.api.app),
            Route("/", pages.overview),
            Route("/workers", pages.workers),
            Route("/doctor", pages.doctor),
            Route("/audit", pages.audit),
            Route("/search", pages.search),
            Route("/whatsapp", pages.whatsapp),
            Route("/whatsapp/message", pages.message),
            Route(stream, pages.stream),
            Route(f"{stream}/event", pages.event),
            Route(f"{stream}/dead", pages.dead),
            Route(f"{stream}/reveal", acts(Role.ADMIN, pages.reveal), methods=["POST"]),
            Route(f"{stream}/replay", acts(Role.OPERATOR, pages.replay), methods=["POST"]),
            Route(f"{stream}/discard", acts(Role.OPERATOR, pages.discard), methods=["POST"]),
            Route(f"{stream}/cancel", acts(Role.OPERATOR, pages.cancel), methods=["POST"]),
            Route(f"{stream}/pause", acts(Role.OPERATOR, pages.pause), methods=["POST"]),
            Route(f"{stream}/resume", acts(Role.OPERATOR, pages.resume), methods=["POST"]),
            Route(f"{stream}/release", acts(Role.OPERATOR, pages.release), methods=["POST"]),
            Route(f"{stream}/skip", acts(Role.OPERATOR, pages.skip), methods=["POST"]),
        ]

    def _acting(self, role: Role, page: Page) -> Page:
        """A page that changes something: for those who may, with the token of their session."""

        async def guarded(request: Request) -> Response:
            viewer: Viewer = request.scope["viewer"]
            form = await request.form()
            if self._options.read_only or not viewer.may(role) or not has_token(viewer, form.get("token")):
                raise HTTPException(403)
            return await page(request)

        return guarded

    async def _login(self, request: Request) -> Response:
        accounts, root = self._options.accounts, request.scope.get("root_path", "")
        if not accounts:
            return RedirectResponse(f"{root}/", 303)
        if request.method == "GET":
            return self.render(request, "login.html", problem="")
        form = await request.form()
        name, password = str(form.get("name", "")), str(form.get("password", ""))
        place = request.client.host if request.client is not None else ""
        if accounts.wait(name, place) > 0:
            return self.render(request, "login.html", 429, problem="Too many attempts. Wait a moment.")
        if accounts.log_in(name, password, place) is None:
            logger.warning("a log-in was refused", extra={"place": place})
            return self.render(request, "login.html", 401, problem="Name or password is wrong.")
        response = RedirectResponse(f"{root}/", 303)
        response.set_cookie(
            COOKIE,
            self._sessions.make(name),
            max_age=int(LASTS),
            path=f"{root}/",
            secure=self._options.secure_cookie or request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    async def _logout(self, request: Request) -> Response:
        root = request.scope.get("root_path", "")
        response = RedirectResponse(f"{root}/login", 303)
        response.delete_cookie(COOKIE, path=f"{root}/")
        return response

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _failed(self, request: Request, error: Exception) -> Response:
        """A page for what went wrong; it repeats nothing of what was asked."""
        status, text = 400, "The request is not valid."
        if isinstance(error, HTTPException):
            status = error.status_code
        elif isinstance(error, NotFound):
            status = 404
        elif isinstance(error, BrokerError):
            logger.warning("the server does not answer", extra={"error": str(error)})
            status = 503
        known = {403: "You may not do this.", 404: "Not found.", 503: "The server does not answer."}
        return self.render(request, "problem.html", status, problem=known.get(status, text))


def moment(at: float | str | None) -> str:
    """A Unix time as ISO 8601; the page shows it in the reader's zone."""
    try:
        return datetime.fromtimestamp(float(at or 0), UTC).isoformat(timespec="milliseconds") if at else ""
    except (ValueError, OverflowError, OSError):
        return ""


def age(seconds: float | None) -> str:
    """A span in one unit."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.1f} s"
