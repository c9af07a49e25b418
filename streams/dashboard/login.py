"""Logging in and out."""

from __future__ import annotations

import math
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from streams.common.log_facts import logger_of
from streams.dashboard.accounts import Accounts
from streams.dashboard.guesses import BROWSER, NAME, PLACE, Guesses, Key
from streams.dashboard.options import DashboardOptions
from streams.dashboard.place import place_of
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
        accounts: of the people; none, where a proxy or this machine decides.
        sessions: make the cookies.
        render: makes a page of a template and its values.
        options: say whether cookies go over https only, and name the proxies.
    """

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        render: Callable[..., Response],
        options: DashboardOptions,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._render = render
        self._secure = options.secure_cookie
        self._behind = options.behind
        self._guesses = Guesses()

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
            place = place_of(request, self._behind)
            logger.warning("a log-in was refused", extra={"place": place})
            wait = self._guesses.wait(keys)
            says = "Name or password is wrong."

            return self._form(request, 401, says, math.ceil(wait))

        for key in keys:
            if key.limit is not PLACE:
                self._guesses.forget(key)

        response = RedirectResponse(f"{root}/", 303)
        cookies = (
            (COOKIE, self._sessions.make(name), LASTS),
            (BROWSER_COOKIE, self._sessions.make_browser(name), KNOWN_FOR),
        )

        for cookie, value, seconds in cookies:
            response.set_cookie(
                cookie,
                value,
                max_age=int(seconds),
                path=f"{root}/",
                secure=self._secure or request.url.scheme == "https",
                httponly=True,
                samesite="strict",
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
        """The keys that a guess is counted by.

        A browser with a log-in under this name is counted by itself: else strangers with
        their guesses could keep out the people of this dashboard.
        """
        browser = self._sessions.browser(request.cookies.get(BROWSER_COOKIE, ""), name)
        if browser:
            return [Key(f"browser {browser}", BROWSER)]

        return [
            Key(f"place {place_of(request, self._behind)}", PLACE),
            Key(f"name {name[:100]}", NAME),
        ]

    def _form(
        self, request: Request, status: int, problem: str, wait: int = 0
    ) -> Response:
        told = {"problem": problem, "wait": wait}
        response = self._render(request, "login.html", status, **told)
        if status == 429:
            response.headers["Retry-After"] = str(wait)

        return response
