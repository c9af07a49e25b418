"""The dashboard: what operators see of a server, and what they may do, in a browser. Needs the extra ``web``."""

from streams.dashboard.accounts import Accounts, Role, hash_password
from streams.dashboard.app import Dashboard, DashboardOptions
from streams.dashboard.guard import Proxy
from streams.dashboard.tokens import Token, Tokens, new_token

__all__ = [
    "Accounts",
    "Dashboard",
    "DashboardOptions",
    "Proxy",
    "Role",
    "Token",
    "Tokens",
    "hash_password",
    "new_token",
]
