"""``streams whatsapp endpoints``: the addresses that are told the states of messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from streams.cli.common import (
    cell,
    examples,
    moment,
    say,
    stdout,
    table,
    write_json,
)
from streams.cli.options import OnServer, Server, with_options

if TYPE_CHECKING:
    from streams.whatsapp.outbox.endpoints import Endpoint, Endpoints

T = TypeVar("T")
app = typer.Typer(
    help="Show, add and remove the endpoints of tenants.", no_args_is_help=True
)
Ident = Annotated[str, typer.Argument(metavar="ENDPOINT", show_default=False)]


def _ask(at: Server, act: Callable[[Endpoints], Awaitable[T]]) -> T:
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.outbox.endpoints import Endpoints

    return at.ask(
        lambda pipeline: act(Endpoints(pipeline, WhatsAppSettings.from_env()))
    )


@app.command(
    "add",
    help="Tell a tenant at this address."
    "\n\nhttps on port 443 and public addresses only, unless"
    " STREAMS_WHATSAPP_WEBHOOK_ALLOW names the host. Secrets are made from"
    " STREAMS_WHATSAPP_WEBHOOK_KEY; the one of the new endpoint is printed."
    + examples(
        "streams whatsapp endpoints add acme https://acme.example/hooks"
        " --event message.failed"
    ),
)
@with_options
def add(
    tenant: Annotated[str, typer.Argument(show_default=False)],
    address: Annotated[str, typer.Argument(metavar="URL", show_default=False)],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="Only this; repeatable.", show_default="all"),
    ] = None,
    at: OnServer,
) -> None:
    """Add an endpoint."""
    from streams.whatsapp.outbox.endpoints import TOLD

    async def act(endpoints: Endpoints) -> tuple[Endpoint, str]:
        made = await endpoints.add(
            tenant,
            address,
            event or TOLD,
        )

        return made, endpoints.secrets(made)[0]

    made, secret = _ask(at, act)

    if at.as_json:
        write_json({"endpoint": asdict(made), "secret": secret})
    else:
        say(f"added {made.id}; its secret is {secret}")


@app.command(
    "ls",
    help="Show the endpoints."
    + examples("streams whatsapp endpoints ls --tenant acme"),
)
@with_options
def ls(
    *,
    tenant: Annotated[
        str, typer.Option("--tenant", help="Only of this one.", show_default=False)
    ] = "",
    at: OnServer,
) -> None:
    """Show endpoints."""
    found = _ask(at, lambda endpoints: endpoints.all(tenant))

    if at.as_json:
        write_json({"endpoints": list(map(asdict, found))})

        return

    shown = table("ENDPOINT", "TENANT", "URL", "EVENTS", "FAILING SINCE", "DISABLED")

    for one in found:
        events = ", ".join(one.events)
        since = moment(one.failing_since) if one.failing_since else ""
        facts = (one.id, one.tenant, one.url, events, since, one.disabled)
        shown.add_row(*map(cell, facts))

    stdout().print(shown)


@app.command("rm", help="Forget an endpoint and drop the calls that wait for it.")
@with_options
def rm(ident: Ident, *, at: Server) -> None:
    """Remove an endpoint."""
    _ask(at, lambda endpoints: endpoints.remove(ident))
    say(f"removed {ident}")


@app.command(
    "rotate",
    help="Make a new secret and print it;"
    " for a day calls are signed with the old one, too.",
)
@with_options
def rotate(ident: Ident, *, at: Server) -> None:
    """Rotate a secret."""

    async def act(endpoints: Endpoints) -> str:
        return endpoints.secrets(await endpoints.rotate(ident))[0]

    say(f"the new secret of {ident} is {_ask(at, act)}")


@app.command("enable", help="Call an endpoint again that was disabled.")
@with_options
def enable(ident: Ident, *, at: Server) -> None:
    """Enable an endpoint."""
    _ask(at, lambda endpoints: endpoints.enable(ident))
    say(f"enabled {ident}")
