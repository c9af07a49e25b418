"""The dashboard: a server's streams and the actions of operators, in a browser.

It needs the extra ``web``.
"""

from streams.dashboard.accounts import Accounts, hash_password
from streams.dashboard.app import Dashboard
from streams.dashboard.board import Board, Hit, Host
from streams.dashboard.operations import Operation, Told
from streams.dashboard.options import DashboardOptions
from streams.dashboard.page_action import PageAction
from streams.dashboard.roles import Role
from streams.dashboard.tokens import Token, Tokens, new_token
from streams.dashboard.viewer import Proxy

__all__ = [
    "Accounts",
    "Board",
    "Dashboard",
    "DashboardOptions",
    "Hit",
    "Host",
    "Operation",
    "PageAction",
    "Proxy",
    "Role",
    "Token",
    "Tokens",
    "Told",
    "hash_password",
    "new_token",
]
