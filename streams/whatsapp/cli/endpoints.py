"""``streams whatsapp endpoints``: where tenants are told what became of their messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    cell,
    connected,
    examples,
    moment,
    run,
    say,
    stdout,
    table,
    write_json,
)

if TYPE_CHECKING:
    from streams.whatsapp.outbox.endpoints import Endpoint, Endpoints

T = TypeVar("T")
app = typer.Typer(
    help="Show, add and remove the endpoints of tenants.", no_args_is_help=True
)
Ident = Annotated[str, typer.Argument(metavar="ENDPOINT", show_default=False)]


def _ask(
    url: str | None, namespace: str | None, act: Callable[[Endpoints], Awaitable[T]]
) -> T:
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.outbox.endpoints import Endpoints

    async def main() -> T:
        async with connected(url, namespace) as pipeline:
            return await act(Endpoints(pipeline, WhatsAppSettings.from_env()))

    return run(main)


@app.command(
    "add",
    help="Tell a tenant at this address."
    "\n\nhttps on port 443 and public addresses only, unless STREAMS_WHATSAPP_WEBHOOK_ALLOW names the host. Secrets are"
    " made from STREAMS_WHATSAPP_WEBHOOK_KEY; the one of the new endpoint is printed."
    + examples(
        "streams whatsapp endpoints add acme https://acme.example/hooks --event message.failed"
    ),
)
def add(
    tenant: Annotated[str, typer.Argument(show_default=False)],
    address: Annotated[str, typer.Argument(metavar="URL", show_default=False)],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="Only this; repeatable.", show_default="all"),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Add an endpoint."""

    async def act(endpoints: Endpoints) -> tuple[Endpoint, str]:
        made = await (
            endpoints.add(tenant, address, event)
            if event
            else endpoints.add(tenant, address)
        )
        return made, endpoints.secrets(made)[0]

    made, secret = _ask(url, namespace, act)
    if as_json:
        write_json({"endpoint": made.as_record(), "secret": secret})
    else:
        say(f"added {made.id}; its secret is {secret}")


@app.command(
    "ls",
    help="Show the endpoints."
    + examples("streams whatsapp endpoints ls --tenant acme"),
)
def ls(
    *,
    tenant: Annotated[
        str, typer.Option("--tenant", help="Only of this one.", show_default=False)
    ] = "",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show endpoints."""
    found = _ask(url, namespace, lambda endpoints: endpoints.all(tenant))
    if as_json:
        write_json({"endpoints": [endpoint.as_record() for endpoint in found]})
        return
    shown = table("ENDPOINT", "TENANT", "URL", "EVENTS", "FAILING SINCE", "DISABLED")
    for one in found:
        since = moment(one.failing_since) if one.failing_since else ""
        shown.add_row(
            *map(
                cell,
                (
                    one.id,
                    one.tenant,
                    one.url,
                    ", ".join(one.events),
                    since,
                    one.disabled,
                ),
            )
        )
    stdout().print(shown)


@app.command("rm", help="Forget an endpoint; what waits for it is dropped.")
def rm(ident: Ident, *, url: Url = None, namespace: Namespace = None) -> None:
    """Remove an endpoint."""
    _ask(url, namespace, lambda endpoints: endpoints.remove(ident))
    say(f"removed {ident}")


@app.command(
    "rotate",
    help="Make a new secret and print it; for a day calls are signed with the old one, too.",
)
def rotate(ident: Ident, *, url: Url = None, namespace: Namespace = None) -> None:
    """Rotate a secret."""

    async def act(endpoints: Endpoints) -> str:
        return endpoints.secrets(await endpoints.rotate(ident))[0]

    say(f"the new secret of {ident} is {_ask(url, namespace, act)}")


@app.command("enable", help="Call an endpoint again that was disabled.")
def enable(ident: Ident, *, url: Url = None, namespace: Namespace = None) -> None:
    """Enable an endpoint."""
    _ask(url, namespace, lambda endpoints: endpoints.enable(ident))
    say(f"enabled {ident}")
