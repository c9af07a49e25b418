"""Where a request comes from, past a proxy that is trusted to say so."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import Request

Network = IPv4Network | IPv6Network
FORWARDED = "x-forwarded-for"


def place_of(request: Request, behind: Sequence[Network]) -> str:
    """The address that a request comes from; '' where the peer has none.

    Args:
        request: the request.
        behind: networks of proxies, of which each writes the address of its client at the
            end of ``X-Forwarded-For``. An address before these may be a browser's
            invention, and is not looked at.
    """
    place = request.client.host if request.client is not None else ""
    passed = [
        part.strip()
        for line in request.headers.getlist(FORWARDED)
        for part in line.split(",")
    ]

    while passed and _is_in(_address(place), behind):
        before = _address(passed.pop())
        if before is None:
            break

        place = str(before)

    return place


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_in(
    address: IPv4Address | IPv6Address | None, networks: Sequence[Network]
) -> bool:
    return address is not None and any(address in network for network in networks)
