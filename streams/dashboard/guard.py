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
from streams.dashboard.direct import is_direct
from streams.dashboard.problems import problem_of
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
_HEALTH = "/health"
_OPEN = ("/login", _HEALTH, "/static/")
_API = "/api/v1/"
_METRICS = "/metrics"
_LARGEST = 8 * 1024 * 1024
"""Bytes of a request; the API has a limit of its own below this."""
NEEDS_ACCOUNTS = (
    "this dashboard has no accounts, so it answers only requests that its own machine sends to it directly,"
    " under a loopback name: give it a file of accounts ('streams dashboard --hash-password' hashes a password,"
    " --users FILE reads the file; an application that mounts it gives DashboardOptions(Accounts.read(FILE)))"
)
_NEEDS_USERS = "this dashboard knows tokens only, so it has no pages: add [users.NAME] to its file, or use /api/v1"
Refusal = tuple[int, str]
"""A status, and a sentence that says what to do."""


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

    Each of the two headers has to be there once: of two, the proxy wrote one and the browser the other.
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
        names, groups = request.headers.getlist(self.user), request.headers.getlist(self.role)
        if len(names) != 1 or len(groups) != 1 or not any(place in network for network in self.networks):
            return None
        roles = [self.roles[name] for part in groups[0].split(",") if (name := part.strip()) in self.roles]
        return Viewer(names[0][:200], max(roles), token(names[0])) if names[0] and roles else None


class Guard:
    """Knows who makes a request, refuses what comes from elsewhere, and tells browsers what they must not do.

    Args:
        app: what is guarded.
        accounts: of people. Without any, and without tokens and a proxy, every request that this machine sends
            directly is an admin's, and all others are refused.
        tokens: of programs. With tokens, but without accounts and a proxy, there are no pages.
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
        if scope["type"] == "websocket":  # There is none, and nothing of ours is reached past the rules below.
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        refusal = self._refusal(request, path)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request, path: str) -> Response | None:
        is_api = path.startswith(_API) or path == _METRICS
        refused = self._not_for(request, path, is_api=is_api) or _unfit(request, is_api=is_api)
        if refused is not None:
            status, says = refused
            return problem_of(status, says) if path.startswith(_API) else PlainTextResponse(says, status)
        # Who asks the API shows a token, and no cookie counts.
        return None if is_api else self._unknown(request, path)

    def _not_for(self, request: Request, path: str, *, is_api: bool) -> Refusal | None:
        """A refusal of what is not for who asks, whoever that is."""
        if self._accounts or self._proxy is not None:
            return None
        if not self._tokens:
            return None if is_direct(request.scope) else (403, NEEDS_ACCOUNTS)
        return None if is_api or path == _HEALTH else (404, _NEEDS_USERS)

    def _unknown(self, request: Request, path: str) -> Response | None:
        """An answer to who has to say first who they are."""
        viewer = self._viewer(request)
        request.scope["viewer"] = viewer
        if viewer is not None or path.startswith(_OPEN):
            return None
        if self._proxy is not None:
            return PlainTextResponse("the proxy does not say who you are, or what you may do", 401)
        if request.method == "GET" and "text/html" in request.headers.get("accept", "text/html"):
            return RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
        return PlainTextResponse("log in", 401)

    def _viewer(self, request: Request) -> Viewer | None:
        if self._proxy is not None:
            return self._proxy.viewer(request, self._sessions.token_of)
        if not self._accounts:
            # Where nobody is known at all, the request is direct, or it would not have come so far.
            return None if self._tokens else Viewer("", Role.ADMIN, self._sessions.anonymous().token)
        session = self._sessions.read(request.cookies.get(COOKIE, ""))
        role = self._accounts.role_of(session.name) if session is not None else None
        return None if session is None or role is None else Viewer(session.name, role, session.token)


def _unfit(request: Request, *, is_api: bool) -> Refusal | None:
    """A refusal of what nobody may send."""
    changes = request.method not in ("GET", "HEAD")
    if changes and request.method != "POST" and not is_api:
        return 405, "method not allowed"
    if changes and (refused := _foreign(request)) is not None:
        return refused
    if request.method == "POST" and not is_api and not request.headers.get("content-length", "").isdigit():
        # A form is read whole, by the log-in even of strangers: it has to say first how long it is.
        return 411, "length required"
    return None


def _foreign(request: Request) -> Refusal | None:
    """A refusal of what another site makes a browser send; what is no browser sends no such header."""
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    if site not in ("", "same-origin", "none"):
        return 403, "the request comes from another site"
    if origin and origin != "null" and urlsplit(origin).netloc != request.headers.get("host", ""):
        return 403, "the request comes from another origin"
    if origin == "null":
        return 403, "the request comes from nowhere"
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _LARGEST:
        return 413, "too large"
    return None


def has_token(viewer: Viewer, given: object) -> bool:
    """Whether a form carries the token of who sends it."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), viewer.token.encode())
