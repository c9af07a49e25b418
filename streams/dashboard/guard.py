"""The guard: what every request to the dashboard passes, before any page is asked."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.common.log_facts import logger_of
from streams.common.masking import masked
from streams.dashboard.direct import is_direct
from streams.dashboard.options import DashboardOptions
from streams.dashboard.patience import NotRead, receiving, sending
from streams.dashboard.place import place_of
from streams.dashboard.problems import problem_of
from streams.dashboard.roles import Role
from streams.dashboard.sessions import COOKIE, Sessions
from streams.dashboard.viewer import Viewer
from streams.errors import StreamsError

logger = logger_of("dashboard")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' "
        "data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
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
_BELIEVED = frozenset(
    {
        "host",
        "origin",
        "sec-fetch-site",
        "authorization",
        "content-length",
        "content-type",
        "idempotency-key",
    }
)
"""Headers that something is decided by, so one of them has to be there once."""
_LARGEST = 8 * 1024 * 1024
"""Bytes of a request; the API has a limit of its own below this."""
NEEDS_ACCOUNTS = (
    "this dashboard has no accounts, so it answers only requests that its own machine "
    "sends to it directly,"
    " under a loopback name: give it a file of accounts ('streams dashboard "
    "--hash-password' hashes a password,"
    " --users FILE reads the file; an application that mounts it gives "
    "DashboardOptions(Accounts.read(FILE)))"
)
_NEEDS_USERS = (
    "this dashboard knows tokens only, so it has no pages: add [users.NAME] to its file, "
    "or use /api/v1"
)
_PROXY_IS_SILENT = (
    "the proxy does not say who you are, or what you may do: its headers give one name,"
    " and one group that means a role"
)
_HOST_AS_SENT = (
    "if this page is its own, a proxy between does not pass the header Host on as the "
    "browser sent it; with nginx:"
    " proxy_set_header Host $http_host"
)
_NO_CORS = (
    "pages of other sites may not use this API (CORS): let a program of yours ask for "
    "them, or let the proxy of their"
    " site pass a path of that site on to here, with its header Host"
)
_LOGGED_EVERY = 60.0
"""Seconds between two lines of the same refusal: strangers must not fill the log."""
Refusal = tuple[int, str]
"""A status, and a sentence that says what to do."""


class Gatekeeper:
    """Finds the viewer of a request, refuses strangers, and gives browsers their rules.

    Args:
        app: the application behind it.
        options: the accounts, tokens and proxy. Without any of them every request that
            this machine sends directly is an admin's, and all others are refused. With
            tokens, but without accounts and a proxy, there are no pages.
        sessions: of those who are logged in.
        failed: the answer to a request of which the server of the streams cannot say
            whose it is.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: DashboardOptions,
        sessions: Sessions,
        failed: Callable[..., Awaitable[Response]],
    ) -> None:
        self._app = app
        self._accounts = options.accounts
        self._tokens = options.tokens
        self._sessions = sessions
        self._proxy = proxy = options.proxy
        self._behind = options.behind
        self._failed = failed
        self._logged: dict[str, float] = {}
        self._believed = _BELIEVED | (
            {proxy.user.lower(), proxy.role.lower()} if proxy is not None else set()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        # There is none, and nothing of ours is reached past the rules below.
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.append(name, value)

            await deliver(message)

        receive, deliver = receiving(receive), sending(send, scope)
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"

        try:
            refusal = await self._refusal(request, path)
        except StreamsError as error:
            refusal = await self._failed(request, error)

        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except* (NotRead, ClientDisconnect):
            pass  # The client is gone.

    async def _refusal(self, request: Request, path: str) -> Response | None:
        is_api = path.startswith(_API) or path == _METRICS
        refused = (
            self._not_for(request, path, is_api=is_api)
            or _doubled(request.scope, self._believed)
            or _unfit(request, is_api=is_api)
        )

        if refused is not None:
            status, says = refused
            if status == 403:
                self._log(says, request)

            answer = problem_of if path.startswith(_API) else _plain

            return answer(status, says)

        # Programs show the API a token, and no cookie counts there.
        return None if is_api else await self._unknown(request, path)

    def _log(self, says: str, request: Request) -> None:
        """Tell operators of it, since the browser that is refused may not show the sentence."""
        kind, now = says.partition(":")[0][:60], time.monotonic()
        if now - self._logged.get(kind, -_LOGGED_EVERY) < _LOGGED_EVERY:
            return

        self._logged[kind] = now
        place = place_of(request, self._behind)
        logger.warning("a request was refused: %s", says, extra={"place": place})

    def _not_for(self, request: Request, path: str, *, is_api: bool) -> Refusal | None:
        """A refusal of a request that this dashboard takes from no caller of its kind."""
        if self._accounts or self._proxy is not None:
            return None

        if not self._tokens:
            return None if is_direct(request.scope) else (403, NEEDS_ACCOUNTS)

        return None if is_api or path == _HEALTH else (404, _NEEDS_USERS)

    async def _unknown(self, request: Request, path: str) -> Response | None:
        """The answer to a request without a viewer, on a page that needs one."""
        request.scope["viewer"] = None
        if path.startswith(_OPEN):
            return None

        request.scope["viewer"] = viewer = await self._viewer(request)
        if viewer is not None:
            return None

        if self._proxy is not None:
            return PlainTextResponse(_PROXY_IS_SILENT, 401)

        accepts = request.headers.get("accept", "text/html")
        if request.method == "GET" and "text/html" in accepts:
            return RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)

        return PlainTextResponse("log in", 401)

    async def _viewer(self, request: Request) -> Viewer | None:
        if self._proxy is not None:
            return self._proxy.viewer(request, self._sessions.token_of)

        if not self._accounts:
            if self._tokens:
                return None

            # The request is direct, or it would not have come so far.
            return Viewer("", Role.ADMIN, self._sessions.anonymous().token)

        session = await self._sessions.read(request.cookies.get(COOKIE, ""))
        if session is None:
            return None

        role = self._accounts.role_of(session.name)

        return None if role is None else Viewer(session.name, role, session.token)


def _plain(status: int, says: str) -> Response:
    return PlainTextResponse(says, status)


def _doubled(scope: Scope, believed: frozenset[str]) -> Refusal | None:
    """A refusal of a header that decides something, and is there twice.

    A spelling with an underscore is refused, too: some servers take it for the same.
    """
    seen: set[str] = set()

    for raw, _ in scope["headers"]:
        name = raw.decode("latin-1").lower()
        plain = name.replace("_", "-")
        if plain not in believed:
            continue

        if plain in seen:
            says = "a proxy has to replace what comes from outside"
            return 400, f"the header {plain} is there twice: {says}"

        if name != plain:
            return 400, f"the header {plain} is spelled with an underscore"

        seen.add(plain)

    return None


def _unfit(request: Request, *, is_api: bool) -> Refusal | None:
    """A refusal of a request whose method, origin or size is not allowed."""
    changes = request.method not in ("GET", "HEAD")
    if not changes:
        return None

    if request.method != "POST" and not is_api:
        return 405, "method not allowed"

    refused = _foreign(request)
    length = request.headers.get("content-length", "")
    if refused is None and not is_api and not length.isdigit():
        # A form is read whole, by the log-in even of strangers: it has to say first how
        # long it is.
        return 411, "length required"

    return refused


def _foreign(request: Request) -> Refusal | None:
    """A refusal of a request that another site makes a browser send.

    Programs that are no browsers send no such header.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if request.method == "OPTIONS" and "access-control-request-method" in headers:
        return 403, _NO_CORS

    if site not in ("", "same-origin", "none"):
        return 403, f"the request comes from another site: {_NO_CORS}"

    host, length = headers.get("host", ""), headers.get("content-length", "0")
    if origin and origin != "null" and urlsplit(origin).netloc != host:
        names = f"Origin is {_word(origin)}, and Host is {_word(host)}"
        return 403, f"the request comes from another origin: {names}; {_HOST_AS_SENT}"

    if origin == "null":
        return 403, "the request comes from nowhere"

    if not length.isdigit() or int(length) > _LARGEST:
        return 413, "too large"

    return None


def _word(text: str) -> str:
    """A header of a stranger, fit for a sentence."""
    return repr(masked("".join(c for c in text[:100] if c.isprintable())))


def has_token(viewer: Viewer, given: object) -> bool:
    """Whether a form carries the token of its viewer."""
    return isinstance(given, str) and hmac.compare_digest(
        given.encode("utf-8", "replace"), viewer.token.encode()
    )
