"""``streams whatsapp erase``, ``new-key`` and ``suppressions``: what people may ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    cell,
    connected,
    examples,
    moment,
    person,
    run,
    say,
    stdout,
    table,
    write_json,
)

app = typer.Typer(help="Whom tenants do not write to.", no_args_is_help=True)

Phone = Annotated[
    str,
    typer.Argument(
        metavar="PHONE", help="With country code, or a user id.", show_default=False
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose messages.")]

ERASE = (
    "Delete everything about a person: messages of every tenant, wherever they stand, statuses, and what they wrote."
    "\n\nCounters keep their sums, and a suppression stays. It reads all that is stored; run it again when it is done:"
    " a message that was on its way meanwhile writes down what became of it. Backups of the server are not touched."
    + examples("streams whatsapp erase --phone 5511999999999")
)
NEW_KEY = (
    "Make a key for STREAMS_WHATSAPP_ENCRYPTION_KEYS."
    "\n\nPut it before the keys that are there, in every program; take an old one away when no message of its time"
    " waits any more." + examples("streams whatsapp new-key")
)


def erase(
    *,
    phone: Annotated[
        str,
        typer.Option(
            "--phone", help="With country code, or a user id.", show_default=False
        ),
    ],
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Forget a person."""
    from streams.whatsapp import Recipient, WhatsAppSettings
    from streams.whatsapp.privacy import Forgotten, forget

    settings, recipient = WhatsAppSettings.from_env(), Recipient.parse(phone)

    async def main() -> Forgotten:
        async with connected(url, namespace) as pipeline:
            return await forget(pipeline, settings, recipient, by=person())

    gone = run(main)
    found = {
        "waiting": gone.messages.stored,
        "scheduled": gone.messages.scheduled,
        "dead": gone.messages.dead,
        "inbound": gone.inbound.total,
        "statuses": gone.tracked,
    }
    if as_json:
        write_json({"erased": found})
        return
    parts = ", ".join(f"{count} {what}" for what, count in found.items())
    say(
        f"erased of {recipient.masked}: {parts}"
        if gone.total
        else f"nothing is stored of {recipient.masked}"
    )


def new_key() -> None:
    """Make a key."""
    from streams.whatsapp.vault import new_key as made

    say(made(f"k{datetime.now(UTC):%Y%m%d}"))


@app.command(
    "add",
    help="Write to somebody no more: no marketing, or with --all nothing."
    + examples(
        "streams whatsapp suppressions add 5511999999999 --tenant acme --reason asked"
    ),
)
def add(
    phone: Phone,
    *,
    tenant: Tenant = "1",
    everything: Annotated[
        bool, typer.Option("--all", help="No message at all.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, in a word.")
    ] = "operator",
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Suppress a recipient."""
    from streams.whatsapp import Recipient, WhatsAppSettings
    from streams.whatsapp.suppressions import MARKETING, Suppressions, SuppressionScope

    settings, recipient = WhatsAppSettings.from_env(), Recipient.parse(phone)

    async def main() -> bool:
        async with connected(url, namespace) as pipeline:
            hashed = recipient.hashed(settings.lookup_key)
            scope: SuppressionScope = "all" if everything else MARKETING
            return await Suppressions(pipeline).add(
                hashed, tenant, scope, reason=reason, by=person()
            )

    what = "no message" if everything else "no marketing"
    say(
        f"{what} of tenant {tenant} goes to {recipient.masked}"
        + ("" if run(main) else ", as before")
    )


@app.command(
    "rm",
    help="Write to somebody again."
    + examples("streams whatsapp suppressions rm 5511999999999 --tenant acme"),
)
def remove(
    phone: Phone, *, tenant: Tenant = "1", url: Url = None, namespace: Namespace = None
) -> None:
    """Take a suppression back."""
    from streams.whatsapp import Recipient, WhatsAppSettings
    from streams.whatsapp.suppressions import Suppressions

    settings, recipient = WhatsAppSettings.from_env(), Recipient.parse(phone)

    async def main() -> bool:
        async with connected(url, namespace) as pipeline:
            return await Suppressions(pipeline).remove(
                recipient.hashed(settings.lookup_key), tenant
            )

    found = run(main)
    say(
        f"tenant {tenant} writes to {recipient.masked} again"
        if found
        else f"nothing suppressed {recipient.masked}"
    )


@app.command(
    "ls", help="Show whom tenants do not write to; recipients as keyed hashes."
)
def ls(
    *,
    tenant: Annotated[
        str, typer.Option("--tenant", help="Of this one only.", show_default="all")
    ] = "",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show suppressions."""
    from streams.whatsapp.suppressions import Suppression, Suppressions

    async def main() -> list[tuple[str, str, Suppression]]:
        async with connected(url, namespace) as pipeline:
            found = await Suppressions(pipeline).all()
            return [
                (whose, hashed, row)
                for (whose, hashed), row in found.items()
                if not tenant or whose == tenant
            ]

    rows = run(main)
    if as_json:
        names = ("scope", "reason", "by", "at")
        write_json(
            {
                "suppressions": [
                    {"tenant": whose, "recipient": hashed}
                    | {name: getattr(row, name) for name in names}
                    for whose, hashed, row in rows
                ]
            }
        )
        return
    shown = table("TENANT", "RECIPIENT", "SCOPE", "REASON", "BY", "SINCE")
    for whose, hashed, row in rows:
        shown.add_row(
            cell(whose),
            cell(hashed),
            row.scope,
            cell(row.reason),
            cell(row.by),
            moment(row.at),
        )
    stdout().print(shown)
