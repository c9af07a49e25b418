"""Sessions, each in a signed cookie, and the tokens that their forms carry.

A cookie is signed with the account's password hash too, so a new password ends every
session of the name. Sessions that were logged out are remembered on the server of the
streams, where every process that serves the dashboard looks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.broker.admin.ended import EndedSessions
from streams.errors import BrokerUnavailable
from streams.pipeline import Pipeline

COOKIE = "streams_session"
BROWSER_COOKIE = "streams_browser"
LASTS = 12 * 3600.0
"""Seconds after which one logs in again."""
KNOWN_FOR = 180 * 86_400.0
"""Seconds for which a browser is known after a log-in."""
_TRUSTED = 600.0
_MOST_SEEN = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in of an account.

    Attributes:
        name: of the account.
        token: forms of this session carry it.
        id: made up, of this session alone; '' for one that is none.
        left: seconds until it ends by itself.
    """

    name: str
    token: str
    id: str = ""
    left: float = 0.0


class Sessions:
    """Makes and reads cookies.

    Args:
        secret: that they are signed with; made up if empty, and then they end with the
            process.
        password_of: the password hash of an account, '' if there is none (any more).
        pipeline: of the server where the sessions that are over are written down; None:
            they end by their age alone.
    """

    def __init__(
        self,
        secret: str,
        password_of: Callable[[str], str],
        pipeline: Pipeline | None = None,
    ) -> None:
        self._key = (
            hashlib.sha256(secret.encode()).digest() if secret else os.urandom(32)
        )
        self._password_of = password_of
        self._pipeline = pipeline
        self._seen: dict[str, float] = {}

    def make(self, name: str) -> str:
        """A cookie for an account that has just logged in."""
        return self._made("session", name)

    def make_browser(self, name: str) -> str:
        """A cookie by which the browser of a log-in is known again."""
        return self._made("browser", name)

    def browser(self, cookie: str, name: str) -> str:
        """The id of a browser that is known of a name; '' if it is not."""
        found = self._read("browser", cookie, KNOWN_FOR)

        return found.id if found is not None and found.name == name else ""

    async def read(self, cookie: str) -> Session | None:
        """The session of a cookie.

        None if the cookie is none of ours, too old, ended, or from before a change of
        the password.

        Raises:
            BrokerUnavailable: whether it was ended cannot be asked, and was not asked in
                the last ten minutes.
        """
        found = self._read("session", cookie, LASTS)
        if found is None or await self._is_over(found.id):
            return None

        return found

    async def end(self, session: Session) -> None:
        """End a session, in every process that serves the dashboard.

        Raises:
            BrokerUnavailable: it cannot be written down, so the session goes on.
        """
        if self._pipeline is not None and session.id:
            await EndedSessions(self._pipeline.broker).end(session.id, session.left)
            self._seen.pop(session.id, None)

    def anonymous(self) -> Session:
        """For a dashboard without accounts, whose viewers have no names."""
        return Session("", self._sign("form of nobody"))

    def token_of(self, name: str) -> str:
        """The token in the forms of a name that a proxy knows."""
        return self._sign(f"form of {name}")

    async def _is_over(self, ident: str) -> bool:
        if self._pipeline is None:
            return False

        try:
            is_over = await EndedSessions(self._pipeline.broker).is_over(ident)
        except BrokerUnavailable:
            # While a shard is away, operators who are at work there need the pages of the others.
            if time.monotonic() - self._seen.get(ident, -_TRUSTED) < _TRUSTED:
                return False

            raise

        self._seen.pop(ident, None)
        if not is_over:
            self._seen[ident] = time.monotonic()
            if len(self._seen) > _MOST_SEEN:
                del self._seen[next(iter(self._seen))]

        return is_over

    def _made(self, kind: str, name: str) -> str:
        encoded = base64.urlsafe_b64encode(name.encode()).decode()
        body = f"{int(time.time())}.{os.urandom(12).hex()}.{encoded}"

        return f"{body}.{self._sign_for(kind, name, body)}"

    def _read(self, kind: str, cookie: str, lasts: float) -> Session | None:
        body, _, signature = cookie.rpartition(".")
        try:
            at, ident, encoded = body.split(".")
            name = base64.urlsafe_b64decode(encoded).decode()
            left = int(at) + lasts - time.time()
        except (ValueError, binascii.Error):
            return None

        wanted = self._sign_for(kind, name, body)
        given = signature.encode("utf-8", "replace")
        if not hmac.compare_digest(wanted.encode(), given) or not 0 < left <= lasts:
            return None

        return Session(name, self._sign(f"form {body}"), ident, left)

    def _sign_for(self, kind: str, name: str, body: str) -> str:
        return self._sign(f"{kind} {body} {self._password_of(name)}")

    def _sign(self, text: str) -> str:
        data = text.encode("utf-8", "replace")
        return hmac.digest(self._key, data, "sha256").hex()
