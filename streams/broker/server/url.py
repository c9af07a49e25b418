"""Read the URL of a server, of its Sentinels, or of a cluster. Pure, without the client library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from streams.errors import ConfigurationError

SCHEMES = (
    "redis://",
    "rediss://",
    "valkey://",
    "unix://",
    "redis+sentinel://",
    "redis+cluster://",
    "embedded://",
    "memory://",
)
"""The beginnings of URLs. ``valkey`` may stand for ``redis``; ``rediss`` is TLS.

The embedded server reads the last two.
"""
_SCHEME = re.compile(
    r"(?P<product>redis|valkey)(?P<tls>s?)(?:\+(?P<topology>sentinel|cluster))?"
)
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,100}")
_DATABASE = re.compile(r"[0-9]{0,9}")
_OF_SENTINELS = ("sentinel_username", "sentinel_password")
_MEANT = {
    "sentinel": "redis+sentinel://HOST1,HOST2,HOST3/SERVICE/0",
    "cluster": "redis+cluster://HOST1,HOST2,HOST3",
}
"""The URL to write for a scheme of another program, by a word in that."""
_HOST = "localhost"
"""In the place of the host, which is given with each connection."""
_PORTS = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class ServerURL:
    """The parts of a URL.

    Attributes:
        topology: '' for one server, ``sentinel`` or ``cluster``.
        server: the URL of one server as the client library reads it; may hold a password.
        nodes: host and port of the Sentinels, or of the cluster's nodes that are asked first.
        service: name under which the Sentinels know the servers.
        sentinel: as ``server``, of one Sentinel, which has its own user and password or none.
    """

    topology: str
    server: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL; see ``SCHEMES``.

        Raises:
            ConfigurationError: it cannot be used. The message has only its scheme.
        """
        name, mark, rest = url.partition("://")
        if not mark:
            raise ConfigurationError(
                f"the URL has no scheme; it begins with one of {', '.join(SCHEMES)}"
            )
        if name == "unix":
            return cls("", url)

        found = _SCHEME.fullmatch(name)
        if found is None:
            raise _unknown_scheme(name)

        scheme = f"redis{found['tls']}://"
        if found["topology"]:
            return cls._several(name, scheme, found["topology"], rest)

        place = rest.rpartition("@")[2].partition("?")[0]
        hosts, _, database = place.partition("/")
        if not _DATABASE.fullmatch(database):
            # The parser would silently take database 0.
            raise unreadable(url)
        if "#" in rest:
            # The parser would drop the rest, which may be half of a password.
            raise unreadable(url)
        if "," in hosts:
            # The parser would look for a host with commas in its name.
            raise unreadable(url)

        return cls("", scheme + rest)

    @classmethod
    def _several(cls, name: str, scheme: str, topology: str, rest: str) -> Self:
        before, _, query = rest.partition("?")
        users, at, before = before.rpartition("@")
        hosts, _, path = before.partition("/")
        service, database = "", path

        if topology == "sentinel":
            service, _, database = path.partition("/")
            if not _SERVICE.fullmatch(unquote(service)):
                raise ConfigurationError(
                    f"the {name}:// URL names no service: {name}://HOST1,HOST2,HOST3/SERVICE/0"
                )
        elif database not in ("", "0"):
            raise ConfigurationError(
                "a cluster has database 0 only: leave the number out of the URL"
            )

        if not _DATABASE.fullmatch(database):
            raise unreadable(f"{name}://{rest}")

        try:
            nodes = tuple(_node(host, _PORTS[topology]) for host in hosts.split(","))
        except ValueError:
            raise unreadable(f"{name}://{rest}") from None

        pairs = parse_qsl(query, keep_blank_values=True)
        own = {key: value for key, value in pairs if key in _OF_SENTINELS}
        options = urlencode([pair for pair in pairs if pair[0] not in own])
        end = f"?{options}" if options else ""
        user, password = (quote(own.get(key, ""), safe="") for key in _OF_SENTINELS)
        credentials = f"{user}:{password}@" if own else ""

        return cls(
            topology=topology,
            server=f"{scheme}{users}{at}{_HOST}/{database or 0}{end}",
            nodes=nodes,
            service=unquote(service),
            sentinel=f"{scheme}{credentials}{_HOST}{end}",
        )


def _unknown_scheme(name: str) -> ConfigurationError:
    hint = ""
    for word, meant in _MEANT.items():
        if word in name:
            hint = f"write {meant}, or "
            break

    return ConfigurationError(
        f"URL scheme '{name}://' is unknown; {hint}use one of {', '.join(SCHEMES)}"
    )


def unreadable(url: str, option: str = "") -> ConfigurationError:
    """The error of a URL that cannot be read. It names the part, and quotes nothing of it.

    Args:
        url: as it was given; any part may be of a password.
        option: the name of the option that is wrong; '' for none.
    """
    scheme, _, rest = url.partition("://")
    return ConfigurationError(
        f"the {scheme}:// URL cannot be read: {_flaw(scheme, rest, option)}"
    )


def _flaw(scheme: str, rest: str, option: str) -> str:
    before, _, query = rest.partition("?")
    users, _, place = before.rpartition("@")

    if (
        "#" in rest
        or "/" in users
        or ("@" in query and "=" not in query.partition("@")[0])
    ):
        return "in a user or a password / ? # @ : % are written %2F %3F %23 %40 %3A %25"

    host, _, database = place.partition("/")
    _, colon, port = host.rpartition("]")[2].rpartition(":")

    if colon and port and not (port.isdigit() and int(port) < 65536):
        return (
            "the port is a number up to 65535, behind host and colon; with a password the URL is"
            " redis://USER:PASSWORD@HOST:PORT, in which / ? # @ : % of the password are written"
            " %2F %3F %23 %40 %3A %25"
        )

    if "," in host and "" in host.split(","):
        return "a host is missing: write HOST:PORT,HOST:PORT"
    if "," in host and "+" not in scheme:
        return f"it names several hosts: write {' or '.join(_MEANT.values())}"
    if "sentinel" in scheme:
        # The name of the service comes before it.
        database = database.partition("/")[2]
    if not _DATABASE.fullmatch(database):
        return "the database is a number: redis://HOST:PORT/0"

    if option.startswith("ssl_") and scheme.partition("+")[0] in ("redis", "valkey"):
        product, plus, topology = scheme.partition("+")
        tls = f"{product}s{plus}{topology}://"
        return (
            f"{option} is for TLS: write {tls} instead of {scheme}://, or leave it out"
        )

    if option == "ssl_cert_reqs":
        return "the option ssl_cert_reqs is required, optional or none"

    if option:
        return (
            f"there is no option {option}, or its value is none that it takes"
            " (write options behind a ?)"
        )

    return "check host, port, database and query"


def _node(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or "@" in text:
        raise ValueError(text)

    return parts.hostname, parts.port or port
