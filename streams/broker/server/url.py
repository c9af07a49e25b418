"""Reading the URL of a server, of its Sentinels, or of a cluster. Pure, and without the client library."""

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
"""How URLs begin. ``valkey`` may stand for ``redis``, and ``rediss+…`` is TLS. The last two are not read here."""
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
"""What a scheme of another program is here, by a word in it."""
_HOST = "localhost"
"""Stands for the host that is told with each connection."""
_PORTS = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class ServerURL:
    """What a URL says.

    Attributes:
        topology: '' for one server, ``sentinel`` or ``cluster``.
        server: the URL in the client library's words, of the server or of any of them; may hold a password.
        nodes: host and port of the Sentinels, or of the cluster's nodes that are asked first.
        service: name under which the Sentinels know the servers.
        sentinel: as ``server``, of any of the Sentinels, which have users and passwords of their own or none.
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
            ConfigurationError: it cannot be used; nothing of it is in the message but its scheme.
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
            hint = next(
                (
                    f"write {meant}, or "
                    for word, meant in _MEANT.items()
                    if word in name
                ),
                "",
            )
            raise ConfigurationError(
                f"URL scheme {name + mark!r} is unknown; {hint}use one of {', '.join(SCHEMES)}"
            )
        scheme = f"redis{found['tls']}://"
        if not found["topology"]:
            database = rest.rpartition("@")[2].partition("?")[0].partition("/")[2]
            if not _DATABASE.fullmatch(database):
                # The parser would take database 0 without a word.
                raise unreadable(url)
            if "#" in rest:
                # The parser would drop what follows, be it half of a password.
                raise unreadable(url)
            if "," in rest.rpartition("@")[2].partition("/")[0].partition("?")[0]:
                # The parser would look for a host with commas in its name.
                raise unreadable(url)
            return cls("", scheme + rest)
        return cls._several(name, scheme, found["topology"], rest)

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
        server = f"{scheme}{users}{at}{_HOST}/{database or 0}{end}"
        user, password = (quote(own.get(key, ""), safe="") for key in _OF_SENTINELS)
        return cls(
            topology,
            server,
            nodes,
            unquote(service),
            f"{scheme}{f'{user}:{password}@' if own else ''}{_HOST}{end}",
        )


def unreadable(url: str, option: str = "") -> ConfigurationError:
    """What is said of a URL that cannot be read: which part, and none of its words, which may be of a password.

    Args:
        url: as it was given.
        option: the name of the one after the ``?`` that is wrong.
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
    port = (
        host.rpartition("]")[2].rpartition(":")[2]
        if ":" in host.rpartition("]")[2]
        else ""
    )
    if port and not (port.isdigit() and int(port) < 65536):
        return (
            "the port is a number up to 65535, behind host and colon; with a password the URL is "
            "redis://USER:PASSWORD@HOST:PORT, in which / ? # @ : % of the password are written %2F %3F %23 %40 %3A %25"
        )
    if "," in host and "" in host.split(","):
        return "a host is missing: write HOST:PORT,HOST:PORT"
    if "," in host and "+" not in scheme:
        return f"it names several hosts: write {' or '.join(_MEANT.values())}"
    if "sentinel" in scheme:
        # The name of the service stands before it.
        database = database.partition("/")[2]
    if not _DATABASE.fullmatch(database):
        return "the database is a number: redis://HOST:PORT/0"
    if option.startswith("ssl_") and scheme.partition("+")[0] in ("redis", "valkey"):
        product, plus, topology = scheme.partition("+")
        return f"{option} is for TLS: write {product}s{plus}{topology}:// instead of {scheme}://, or leave it out"
    if option == "ssl_cert_reqs":
        return "the option ssl_cert_reqs is required, optional or none"
    if option:
        return f"there is no option {option}, or its value is none that it takes (write options behind a ?)"
    return "check host, port, database and query"


def _node(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or "@" in text:
        raise ValueError(text)
    return parts.hostname, parts.port or port
