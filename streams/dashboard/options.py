"""How a dashboard is served."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.dashboard.accounts import Accounts
from streams.dashboard.place import Network
from streams.dashboard.tokens import Tokens
from streams.dashboard.viewer import Proxy


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """How a dashboard is served.

    Attributes:
        accounts: of the people who log in. Without any, and without tokens and a proxy,
            requests that this machine sends directly may do everything, and all others
            are refused.
        tokens: of programs that use the API; those of ``accounts`` if none are given.
            With tokens alone there are no pages.
        secret: that cookies are signed with, the same in every process that serves it;
            made up if empty.
        read_only: every change is refused.
        secure_cookie: the cookie goes over https only.
        proxy: a proxy before the dashboard that names the viewer in headers.
        behind: networks of proxies that only pass requests on, and say in
            ``X-Forwarded-For`` where these come from. Wrong passwords are counted by that
            address, and logged with it. Empty: by the peer's.
    """

    accounts: Accounts = field(default_factory=lambda: Accounts({}))
    tokens: Tokens = field(default_factory=lambda: Tokens({}))
    secret: str = field(default="", repr=False)
    read_only: bool = False
    secure_cookie: bool = False
    proxy: Proxy | None = None
    behind: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        """Take the tokens of the file.

        An application that reads the file means that its tokens are asked for.
        """
        if not self.tokens:
            object.__setattr__(self, "tokens", self.accounts.tokens)
