"""Sessions: who is logged in, in a signed cookie, and the tokens that their forms carry."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from dataclasses import dataclass

COOKIE = "streams_session"
LASTS = 12 * 3600.0
"""Seconds after which one logs in again."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in.

    Attributes:
        name: who.
        token: what forms of this session carry.
    """

    name: str
    token: str


class Sessions:
    """Makes and reads cookies.

    Args:
        secret: that they are signed with; made up if empty, and then they end with the process.
    """

    def __init__(self, secret: str = "") -> None:
        self._key = hashlib.sha256(secret.encode()).digest() if secret else os.urandom(32)

    def make(self, name: str) -> str:
        """A cookie for somebody who has just logged in."""
        body = f"{int(time.time())}.{os.urandom(12).hex()}.{base64.urlsafe_b64encode(name.encode()).decode()}"
        return f"{body}.{self._sign(body)}"

    def read(self, cookie: str) -> Session | None:
        """Whose cookie it is; None if it is none of ours, or too old."""
        body, _, signature = cookie.rpartition(".")
        if not body or not hmac.compare_digest(self._sign(body).encode(), signature.encode("utf-8", "replace")):
            return None
        try:
            at, _, name = body.split(".")
            if not 0 <= time.time() - int(at) < LASTS:
                return None
            return Session(base64.urlsafe_b64decode(name).decode(), self._sign(f"form {body}"))
        except (ValueError, binascii.Error):
            return None

    def anonymous(self) -> Session:
        """For a dashboard without accounts, whose viewers have no names."""
        return Session("", self._sign("form of nobody"))

    def token_of(self, name: str) -> str:
        """What the forms of somebody carry whom a proxy knows."""
        return self._sign(f"form of {name}")

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
