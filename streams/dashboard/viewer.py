"""Who makes a request, and a proxy that knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal

from starlette.requests import Request

from streams.dashboard.roles import Role


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
        user: header with the name; one name.
        role: header with the role, or with groups, separated by commas.
        roles: what a value of that header means. Who has none of them gets in nowhere.
        several: what happens to somebody whose groups mean more than one role. ``refuse``: they do not get in, since a
            proxy that appends to what a browser sent makes such a list, too. ``highest``: the highest counts; only for
            a proxy of which it is known that it replaces the header.

    Each of the two headers has to be there once: of two, the proxy wrote one and the browser the other.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    user: str = "x-forwarded-user"
    role: str = "x-forwarded-groups"
    roles: Mapping[str, Role] = field(
        default_factory=lambda: {role.name.lower(): role for role in Role}
    )
    several: Literal["refuse", "highest"] = "refuse"

    def viewer(self, request: Request, token: Callable[[str], str]) -> Viewer | None:
        """Who makes a request; None if the proxy does not say, or it is not the proxy."""
        try:
            place = ip_address(
                request.client.host if request.client is not None else ""
            )
        except ValueError:
            return None
        names, groups = (
            request.headers.getlist(self.user),
            request.headers.getlist(self.role),
        )
        if (
            len(names) != 1
            or len(groups) != 1
            or not any(place in network for network in self.networks)
        ):
            return None
        name, role = names[0].strip(), self._role(groups[0])
        # Two names with a comma between are two headers that something on the way made one of.
        return (
            Viewer(name[:200], role, token(name))
            if name and "," not in name and role is not None
            else None
        )

    def _role(self, groups: str) -> Role | None:
        found = [
            self.roles[name]
            for part in groups.split(",")
            if (name := part.strip()) in self.roles
        ]
        if not found or (self.several == "refuse" and len(found) > 1):
            return None
        return max(found)
