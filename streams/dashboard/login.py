"""Logging in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from streams.common.log_facts import logger_of
from streams.dashboard.accounts import Accounts
from streams.dashboard.guesses import BROWSER, NAME, PLACE, Guesses, Key
from streams.dashboard.place import Network, place_of
from streams.dashboard.sessions import (
    BROWSER_COOKIE,
    COOKIE,
    KNOWN_FOR,
    LASTS,
    Sessions,
)

logger = logger_of("dashboard")


class LogIn:
    """Lets people in by name and password, and out again.

    Args:
        accounts: who may log in; none, where nobody logs in here.
        sessions: of those who did.
        render: makes a page of a template and its values.
        secure: the cookies go over https only.
        behind: see ``DashboardOptions``.
        guesses: how often somebody may guess.
    """

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        render: Callable[..., Response],
        *,
        secure: bool,
        behind: Sequence[Network] = (),
        guesses: Guesses | None = None,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._render = render
        self._secure = secure
        self._behind = behind
        self._guesses = guesses or Guesses()

    async def enter(self, request: Request) -> Response:
        """Show the form, or take what was filled in."""
        root = request.scope.get("root_path", "")
        if not self._accounts:
            return RedirectResponse(f"{root}/", 303)
        if request.method == "GET":
            return self._form(request, 200, "")
        form = await request.form()
        name, password = str(form.get("name", "")), str(form.get("password", ""))
        keys = self._keys(request, name)
        wait = self._guesses.wait(keys)
        if wait > 0:
            return self._form(request, 429, "Too many attempts.", math.ceil(wait))
        if self._accounts.log_in(name, password) is None:
            self._guesses.wrong(keys)
            logger.warning(
                "a log-in was refused", extra={"place": self._place(request)}
            )
            return self._form(
                request,
                401,
                "Name or password is wrong.",
                math.ceil(self._guesses.wait(keys)),
            )
        for key in keys:
            if key.limit is not PLACE:
                self._guesses.forget(key)
        response = RedirectResponse(f"{root}/", 303)
        self._set(request, response, COOKIE, self._sessions.make(name), LASTS)
        self._set(
            request,
            response,
            BROWSER_COOKIE,
            self._sessions.make_browser(name),
            KNOWN_FOR,
        )
        return response

    async def leave(self, request: Request) -> Response:
        """End the session."""
        root = request.scope.get("root_path", "")
        session = await self._sessions.read(request.cookies.get(COOKIE, ""))
        if session is not None:
            await self._sessions.end(session)
        response = RedirectResponse(f"{root}/login", 303)
        response.delete_cookie(COOKIE, path=f"{root}/")
        return response

    def _keys(self, request: Request, name: str) -> list[Key]:
        """What a guess is counted by.

        A browser that somebody logged in with under this name is counted by itself: else strangers who guess could
        keep out those who work here.
        """
        browser = self._sessions.browser(request.cookies.get(BROWSER_COOKIE, ""), name)
        if browser:
            return [Key(f"browser {browser}", BROWSER)]
        return [
            Key(f"place {self._place(request)}", PLACE),
            Key(f"name {name[:100]}", NAME),
        ]

    def _form(
        self, request: Request, status: int, problem: str, wait: int = 0
    ) -> Response:
        response = self._render(
            request, "login.html", status, problem=problem, wait=wait
        )
        if status == 429:
            response.headers["Retry-After"] = str(wait)
        return response

    def _set(
        self,
        request: Request,
        response: Response,
        name: str,
        value: str,
        seconds: float,
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=int(seconds),
            path=f"{request.scope.get('root_path', '')}/",
            secure=self._secure or request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def _place(self, request: Request) -> str:
        return place_of(request, self._behind)
