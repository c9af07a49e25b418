"""``streams dashboard``: the pages for operators."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streams import logs
from streams.cli.common import (
    Namespace,
    Url,
    Waiting,
    examples,
    option,
    override,
    remark,
    say,
    settings_of,
)
from streams.cli.options import with_options
from streams.cli.serving import serve
from streams.errors import ConfigurationError

HELP = (
    "Serve the dashboard: streams, dead letters, workers, messages; and what "
    "operators do with them."
    "\n\nWithout --users it answers only requests that this machine sends to it "
    "directly, and these may do everything:"
    " put no proxy before it then. The file has [users.NAME] tables with a hashed "
    "password and a role (viewer, operator"
    " or admin), and [tokens.NAME] tables for programs; with tokens alone there are "
    "no pages. STREAMS_DASHBOARD_SECRET"
    " keeps people logged in when it is started again, and over several processes. "
    "With --proxy a proxy before it says"
    " who is logged in, in the headers X-Forwarded-User and X-Forwarded-Groups: it "
    "must take these out of what browsers"
    " send. A person with groups of several roles does not get in, as a proxy that "
    "appends makes such lists, too; with"
    " --proxy-groups highest their highest role counts."
    + examples(
        "streams dashboard --url redis://localhost:6379/0",
        "streams dashboard --hash-password",
        "streams dashboard --host 0.0.0.0 --users users.toml --secure-cookie",
        "streams dashboard --openapi > streams.json",
    )
)


class SeveralGroups(StrEnum):
    """The role of a person whose groups mean several roles."""

    REFUSE = "refuse"
    HIGHEST = "highest"


_NOBODY = (
    "without --users every program on this machine may do everything there: "
    "put no proxy before it"
)
_TOKENS_ONLY = (
    "the file has tokens only: the API answers programs, and there are no pages"
)


@dataclass(frozen=True, kw_only=True)
class DashboardCommand:
    """Options of ``dashboard``."""

    host: Annotated[str, typer.Option()] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8897
    users: Annotated[Path | None, option("File of accounts.")] = None
    read_only: Annotated[bool, option("Nobody may change anything.", "--read-only")] = (
        False
    )
    secure_cookie: Annotated[
        bool, option("It is reached by https only.", "--secure-cookie")
    ] = False
    proxy: Annotated[
        list[str] | None,
        option("Network of the proxy, e.g. 10.0.0.0/8; repeatable."),
    ] = None
    proxy_groups: Annotated[
        SeveralGroups,
        typer.Option(help="What happens to somebody whose groups mean several roles."),
    ] = SeveralGroups.REFUSE
    behind: Annotated[
        list[str] | None,
        option(
            "Network of a proxy that only passes requests on, and says in "
            "X-Forwarded-For where they come from; repeatable."
        ),
    ] = None
    hash_it: Annotated[
        bool, option("Hash a password for the file, and end.", "--hash-password")
    ] = False
    make_token: Annotated[
        bool, option("Make a token for the file, and end.", "--new-token")
    ] = False
    openapi: Annotated[
        bool, option("Print the document of the API, and end.", "--openapi")
    ] = False
    url: Url = None
    namespace: Namespace = None
    wait: Waiting = None


@with_options
def dashboard(how: DashboardCommand) -> None:
    """Serve the dashboard."""
    try:
        from streams.dashboard import (
            Accounts,
            Dashboard,
            DashboardOptions,
            Proxy,
            Role,
            Token,
            Tokens,
            hash_password,
            new_token,
        )
    except ImportError as error:
        raise ConfigurationError(
            "the dashboard needs the extra web: pip install 'streams[web]' "
            f"({error.name})"
        ) from None
    from streams.dashboard.direct import is_loopback
    from streams.pipeline import Pipeline

    if how.hash_it:
        say(hash_password(_password()))
        return
    if how.make_token:
        token, hashed = new_token()
        remark(f"for the program: {token}")
        say(f'sha256 = "{hashed}"')
        return
    if how.openapi:
        # Nothing is asked of the server: it need not be there.
        programs = DashboardOptions(tokens=Tokens({"": Token("", Role.VIEWER)}))
        pipeline = Pipeline("redis://127.0.0.1/0")
        say(Dashboard(pipeline, programs).api.document().decode())
        return

    accounts = Accounts.read(how.users) if how.users is not None else Accounts({})
    proxy = None
    if how.proxy:
        networks = tuple(_network("--proxy", text) for text in how.proxy)
        proxy = Proxy(networks, several=how.proxy_groups.value)
    note = ""
    if not accounts and proxy is None:
        note = _TOKENS_ONLY if accounts.tokens else _NOBODY
        if note == _NOBODY and how.host != "localhost" and not is_loopback(how.host):
            raise ConfigurationError(
                f"without --users the dashboard is for this machine only: {how.host} "
                "can be reached by others"
            )
    options = DashboardOptions(
        accounts,
        accounts.tokens,
        os.environ.get("STREAMS_DASHBOARD_SECRET", ""),
        how.read_only,
        how.secure_cookie,
        proxy,
        tuple(_network("--behind", text) for text in how.behind or ()),
    )
    settings = override(settings_of(how.url, how.namespace), wait=how.wait)
    logs.set_up(settings.log, settings.log_level)
    pipeline = Pipeline(settings=settings)
    served = Dashboard(pipeline, options).app
    serve(served, how.host, how.port, "the dashboard", pipeline, note=note)


def _password() -> str:
    """The password to hash: asked for twice at a terminal, else a line of standard input."""
    if sys.stdin.isatty():
        return str(
            typer.prompt(
                "Password", hide_input=True, confirmation_prompt=True, err=True
            )
        )
    lines = {line.rstrip("\r") for line in sys.stdin.read().split("\n")}
    found = lines - {""}
    if len(found) != 1:
        raise ConfigurationError(
            "standard input holds no password, or several: give it in one line"
        )
    return found.pop()


def _network(option: str, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ConfigurationError(
            f"{option} is a network such as 10.0.0.0/8 or an address, not {text!r}"
        ) from None
