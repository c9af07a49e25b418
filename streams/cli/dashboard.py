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
    """What happens to somebody whose groups mean several roles."""

    REFUSE = "refuse"
    HIGHEST = "highest"


_NOBODY = "without --users every program on this machine may do everything there: put no proxy before it"
_TOKENS_ONLY = (
    "the file has tokens only: the API answers programs, and there are no pages"
)


@dataclass(frozen=True, kw_only=True)
class DashboardCommand:
    """Options of ``dashboard``."""

    host: Annotated[str, typer.Option("--host")] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8897
    users: Annotated[
        Path | None,
        typer.Option("--users", help="File of accounts.", show_default=False),
    ] = None
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Nobody may change anything.")
    ] = False
    secure_cookie: Annotated[
        bool, typer.Option("--secure-cookie", help="It is reached by https only.")
    ] = False
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            help="Network of the proxy, e.g. 10.0.0.0/8; repeatable.",
            show_default=False,
        ),
    ] = None
    proxy_groups: Annotated[
        SeveralGroups,
        typer.Option(
            "--proxy-groups",
            help="What happens to somebody whose groups mean several roles.",
        ),
    ] = SeveralGroups.REFUSE
    behind: Annotated[
        list[str] | None,
        typer.Option(
            "--behind",
            help="Network of a proxy that only passes requests on, and says in X-Forwarded-For where they come from;"
            " repeatable.",
            show_default=False,
        ),
    ] = None
    hash_it: Annotated[
        bool,
        typer.Option("--hash-password", help="Hash a password for the file, and end."),
    ] = False
    make_token: Annotated[
        bool, typer.Option("--new-token", help="Make a token for the file, and end.")
    ] = False
    openapi: Annotated[
        bool, typer.Option("--openapi", help="Print the document of the API, and end.")
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
        say(
            Dashboard(Pipeline("redis://127.0.0.1/0"), programs).api.document().decode()
        )
        return
    accounts = Accounts.read(how.users) if how.users is not None else Accounts({})
    tokens = accounts.tokens
    knows = (
        Proxy(
            tuple(_network("--proxy", text) for text in how.proxy),
            several=how.proxy_groups.value,
        )
        if how.proxy
        else None
    )
    note = ""
    if not accounts and knows is None:
        note = _TOKENS_ONLY if tokens else _NOBODY
        if not tokens and how.host != "localhost" and not is_loopback(how.host):
            raise ConfigurationError(
                f"without --users the dashboard is for this machine only: {how.host} "
                "can be reached by others"
            )
    passing = tuple(_network("--behind", text) for text in how.behind or ())
    options = DashboardOptions(
        accounts,
        tokens,
        os.environ.get("STREAMS_DASHBOARD_SECRET", ""),
        how.read_only,
        how.secure_cookie,
        knows,
        passing,
    )
    settings = override(settings_of(how.url, how.namespace), wait=how.wait)
    logs.set_up(settings.log, settings.log_level)
    pipeline = Pipeline(settings=settings)
    serve(
        Dashboard(pipeline, options).app,
        how.host,
        how.port,
        "the dashboard",
        pipeline,
        note=note,
    )


def _password() -> str:
    """The password that is to be hashed: asked for twice at a terminal, else the one line of standard input."""
    if sys.stdin.isatty():
        return str(
            typer.prompt(
                "Password", hide_input=True, confirmation_prompt=True, err=True
            )
        )
    lines = [line.rstrip("\r") for line in sys.stdin.read().split("\n")]
    found = {line for line in lines if line}
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
