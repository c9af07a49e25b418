"""The viewer of a page, and a proxy that names the viewer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal

from starlette.requests import Request

from streams.dashboard.roles import Role


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person at a browser.

    Attributes:
        name: '' on a dashboard without accounts.
        role: their rights.
        token: their forms carry it.
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
        networks: where it may come from. Requests from anywhere else are refused, whatever
            their headers say.
        user: header with the name; one name.
        role: header with the role, or with groups, separated by commas.
        roles: the role that a value of that header means. A person with none is refused.
        several: the rule for a person whose groups mean more than one role. ``refuse``:
            the person is refused, since a proxy that appends to the browser's header
            makes such a list, too. ``highest``: the highest counts; only for a proxy of
            which it is known that it replaces the header.

    Each of the two headers has to be there once: of two, the proxy wrote one and the
    browser the other.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    user: str = "x-forwarded-user"
    role: str = "x-forwarded-groups"
    roles: Mapping[str, Role] = field(
        default_factory=lambda: {role.name.lower(): role for role in Role}
    )
    several: Literal["refuse", "highest"] = "refuse"

    def viewer(self, request: Request, token: Callable[[str], str]) -> Viewer | None:
        """The viewer that the proxy names.

        None if it names none, or if the request does not come from it.
        """
        try:
            place = ip_address(request.client.host if request.client else "")
        except ValueError:
            return None

        names = request.headers.getlist(self.user)
        groups = request.headers.getlist(self.role)
        is_once = len(names) == len(groups) == 1
        if not is_once or not any(place in network for network in self.networks):
            return None

        name, role = names[0].strip(), self._role(groups[0])
        # A comma in a name: something on the way made one header of two.
        if not name or "," in name or role is None:
            return None

        return Viewer(name[:200], role, token(name))

    def _role(self, groups: str) -> Role | None:
        named = [group.strip() for group in groups.split(",")]
        found = [self.roles[name] for name in named if name in self.roles]
        if not found or (self.several == "refuse" and len(found) > 1):
            return None

        return max(found)
