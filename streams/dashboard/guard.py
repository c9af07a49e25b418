"""The guard: what every request to the dashboard passes, before any page is asked."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.dashboard.accounts import Accounts, Role
from streams.dashboard.sessions import COOKIE, Sessions
from streams.dashboard.tokens import Tokens

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every response."""
_OPEN = ("/login", "/health", "/static/")
_API = "/api/v1/"
_METRICS = "/metrics"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LARGEST = 8 * 1024 * 1024
"""Bytes of a request; the API has a limit of its own below this."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who makes a request.

    Attributes:
        name: '' on a dashboard without accounts.
        role: what they may do.
        token: what their forms carry.
    """

    name: str
    role: Role
    token: str

    def may(self, role: Role) -> bool:
        """Whether they may do what needs a role."""
        return self.role >= role


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that knows who is logged in.

    Attributes:
        networks: where it may come from. From anywhere else its headers are not believed, and nobody gets in.
        user: header with the name.
        role: header with the role, or with groups, separated by commas.
        roles: what a value of that header means; the highest counts. Who has none of them gets in nowhere.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    user: str = "x-forwarded-user"
    role: str = "x-forwarded-groups"
    roles: Mapping[str, Role] = field(default_factory=lambda: {role.name.lower(): role for role in Role})

    def viewer(self, request: Request, token: Callable[[str], str]) -> Viewer | None:
        """Who makes a request; None if the proxy does not say, or it is not the proxy."""
        try:
            place = ip_address(request.client.host if request.client is not None else "")
        except ValueError:
            return None
        names = request.headers.getlist(self.user)
        given = [part.strip() for text in request.headers.getlist(self.role) for part in text.split(",")]
        roles = [self.roles[name] for name in given if name in self.roles]
        # Twice the same header: one of them is not the proxy's.
        if not any(place in network for network in self.networks) or len(names) != 1 or not names[0] or not roles:
            return None
        return Viewer(names[0][:200], max(roles), token(names[0]))


class Guard:
    """Knows who makes a request, refuses what comes from elsewhere, and tells browsers what they must not do.

    Args:
        app: what is guarded.
        accounts: without any, everybody on this machine is an admin, and nobody else gets in.
        tokens: of programs; without any, and without accounts, programs on this machine need none.
        sessions: of those who are logged in.
        proxy: who knows who is logged in; None: we do.
    """

    def __init__(
        self, app: ASGIApp, accounts: Accounts, tokens: Tokens, sessions: Sessions, proxy: Proxy | None = None
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._tokens = tokens
        self._sessions = sessions
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        request = Request(scope, receive)
        refusal = self._refusal(request)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        scope = request.scope
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        is_api = path.startswith(_API) or path == _METRICS
        known = self._tokens if is_api else self._accounts or self._proxy
        if not known and _host(request.headers.get("host", "")) not in _LOOPBACK:
            # Else a page of anybody could lead a name of its own to this machine, and read what is here.
            return PlainTextResponse("this dashboard has no accounts: it answers on this machine only", 403)
        if request.method not in ("GET", "HEAD", "POST") and not is_api:
            return PlainTextResponse("method not allowed", 405)
        if request.method not in ("GET", "HEAD") and (refusal := self._foreign(request)) is not None:
            return refusal
        if request.method == "POST" and not is_api and not request.headers.get("content-length", "").isdigit():
            # A form is read whole, by the log-in even of strangers: it has to say first how long it is.
            return PlainTextResponse("length required", 411)
        if is_api:
            return None  # Who asks there shows a token, and no cookie counts.
        viewer = self._viewer(request)
        scope["viewer"] = viewer
        if viewer is None and not path.startswith(_OPEN):
            if self._proxy is not None:
                return PlainTextResponse("the proxy does not say who you are, or what you may do", 401)
            if request.method == "GET" and "text/html" in request.headers.get("accept", "text/html"):
                return RedirectResponse(f"{scope.get('root_path', '')}/login", 303)
            return PlainTextResponse("log in", 401)
        return None

    def _viewer(self, request: Request) -> Viewer | None:
        if self._proxy is not None:
            return self._proxy.viewer(request, self._sessions.token_of)
        if not self._accounts:
            return Viewer("", Role.ADMIN, self._sessions.anonymous().token)
        session = self._sessions.read(request.cookies.get(COOKIE, ""))
        role = self._accounts.role_of(session.name) if session is not None else None
        return None if session is None or role is None else Viewer(session.name, role, session.token)

    @staticmethod
    def _foreign(request: Request) -> Response | None:
        """A refusal of what another site makes a browser send; what is no browser sends no such header."""
        site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
        if site not in ("", "same-origin", "none"):
            return PlainTextResponse("the request comes from another site", 403)
        if origin and origin != "null" and urlsplit(origin).netloc != request.headers.get("host", ""):
            return PlainTextResponse("the request comes from another origin", 403)
        if origin == "null":
            return PlainTextResponse("the request comes from nowhere", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _LARGEST:
            return PlainTextResponse("too large", 413)
        return None


def has_token(viewer: Viewer, given: object) -> bool:
    """Whether a form carries the token of who sends it."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), viewer.token.encode())


def _host(header: str) -> str:
    return (urlsplit(f"//{header}").hostname or "").lower()
