"""Whether a request comes from this machine itself.

A dashboard without accounts goes by nothing else. A client writes the ``Host`` header
itself, so that header alone proves nothing: the peer of the connection has to be on this
machine, too. And a proxy on this machine is such a peer for the whole world, so the
headers that a proxy adds count as well.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

_NAMES = frozenset(
    {
        "forwarded",
        "via",
        "client-ip",
        "true-client-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "remote-user",
        "cdn-loop",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-proxyuser-ip",
        "x-remote-user",
        "x-scheme",
        "x-host",
        "x-varnish",
        "x-url-scheme",
        "front-end-https",
    }
)
_PREFIXES = (
    "x-forwarded",
    "x-original-",
    "x-real-",
    "x-remote-",
    "x-proxy-",
    "proxy-",
    "cf-",
    "x-amzn-",
    "x-azure-",
    "x-appengine-",
    "x-arr-",
    "x-envoy-",
    "x-goog-",
    "x-vercel-",
    "x-amz-cf-",
    "cloudfront-",
    "x-akamai-",
    "akamai-",
    "incap-",
    "x-sucuri-",
    "x-nginx-",
    "x-ms-client-",
    "x-auth-request-",
    "x-authentik-",
    "x-pomerium-",
    "x-webauth-",
    "tailscale-",
)
"""Beginnings of the headers that proxies, content networks and log-ins add to a request."""
_HOST = re.compile(
    r"(?:(?P<name>[a-z0-9.-]+)|\[(?P<six>[0-9a-f:.]+)\])(?::[0-9]{1,5})?", re.ASCII
)


def is_direct(scope: Scope) -> bool:
    """Whether this machine sent a request to itself, with nothing between.

    A peer without an address does not count: behind a Unix socket there is usually a proxy.
    """
    peer = scope.get("client")

    return (
        peer is not None
        and is_loopback(str(peer[0]))
        and _names_this_machine(scope)
        and not _is_forwarded(scope)
        # nginx adds no header to what it passes on, unless it is told to. But before
        # 1.29.7 it speaks HTTP/1.0 there, which no browser does.
        and scope.get("http_version") != "1.0"
    )


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own for itself.

    That is 127.0.0.0/8, the same as IPv6, or ``::1``.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False

    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None

    return (mapped or found).is_loopback


def _names_this_machine(scope: Scope) -> bool:
    """Whether the one ``Host`` header is a loopback name.

    Else a page of a stranger could lead its own name here.
    """
    hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
    match = (
        _HOST.fullmatch(hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else None
    )
    if match is None:
        return False

    if match["six"]:
        return is_loopback(match["six"])

    return match["name"] in ("localhost", "localhost.") or is_loopback(match["name"])


def _is_forwarded(scope: Scope) -> bool:
    # An underscore stands for a dash: some servers make the same variable of both.
    names = [
        name.decode("latin-1").lower().replace("_", "-") for name, _ in scope["headers"]
    ]
    return any(name in _NAMES or name.startswith(_PREFIXES) for name in names)
