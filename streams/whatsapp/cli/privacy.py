"""``streams whatsapp erase``, ``new-key`` and ``suppressions``: the wishes of people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.common import (
    cell,
    examples,
    moment,
    person,
    say,
    stdout,
    table,
    write_json,
)
from streams.cli.options import OnServer, Server, with_options

if TYPE_CHECKING:
    from streams.whatsapp.recipient import Recipient

app = typer.Typer(help="Whom tenants do not write to.", no_args_is_help=True)

Phone = Annotated[
    str,
    typer.Argument(
        metavar="PHONE", help="With country code, or a user id.", show_default=False
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose messages.")]

ERASE = (
    "Delete everything about a person: messages of every tenant, wherever they stand,"
    " statuses, and what they wrote."
    "\n\nCounters keep their sums, and a suppression stays. It reads all that is stored;"
    " run it again when it is done: a message that was on its way meanwhile writes down"
    " what became of it. Backups of the server are not touched."
    + examples("streams whatsapp erase --phone 5511999999999")
)
NEW_KEY = (
    "Make a key for STREAMS_WHATSAPP_ENCRYPTION_KEYS."
    "\n\nPut it before the keys that are there, in every program; take an old one away"
    " when no message of its time waits any more."
    + examples("streams whatsapp new-key")
)


@with_options
def erase(
    *,
    phone: Annotated[
        str,
        typer.Option(
            "--phone", help="With country code, or a user id.", show_default=False
        ),
    ],
    at: OnServer,
) -> None:
    """Forget a person."""
    from streams.whatsapp import Recipient, WhatsAppSettings
    from streams.whatsapp.privacy import forget

    settings, recipient = WhatsAppSettings.from_env(), Recipient.parse(phone)
    gone = at.ask(
        lambda pipeline: forget(pipeline, settings, recipient, by=person()),
    )
    found = {
        "waiting": gone.messages.stored,
        "scheduled": gone.messages.scheduled,
        "dead": gone.messages.dead,
        "inbound": gone.inbound.total,
        "statuses": gone.tracked,
    }

    if at.as_json:
        write_json({"erased": found})
    elif gone.total:
        parts = ", ".join(f"{count} {name}" for name, count in found.items())
        say(f"erased of {recipient.masked}: {parts}")
    else:
        say(f"nothing is stored of {recipient.masked}")


def new_key() -> None:
    """Make a key."""
    from streams.whatsapp.vault import new_key as made

    say(made(f"k{datetime.now(UTC):%Y%m%d}"))


@app.command(
    "add",
    help="Write to a recipient no more: no marketing, or with --all nothing."
    + examples(
        "streams whatsapp suppressions add 5511999999999 --tenant acme --reason asked"
    ),
)
@with_options
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
    at: Server,
) -> None:
    """Suppress a recipient."""
    from streams.whatsapp.suppressions import MARKETING, Suppressions

    recipient, hashed = _hashed(phone)
    is_new = at.ask(
        lambda pipeline: Suppressions(pipeline).add(
            hashed,
            tenant,
            "all" if everything else MARKETING,
            reason=reason,
            by=person(),
        )
    )
    kind = "message" if everything else "marketing"
    before = "" if is_new else ", as before"
    say(f"no {kind} of tenant {tenant} goes to {recipient.masked}{before}")


@app.command(
    "rm",
    help="Write to a recipient again."
    + examples("streams whatsapp suppressions rm 5511999999999 --tenant acme"),
)
@with_options
def remove(phone: Phone, *, tenant: Tenant = "1", at: Server) -> None:
    """Take a suppression back."""
    from streams.whatsapp.suppressions import Suppressions

    recipient, hashed = _hashed(phone)
    if at.ask(lambda pipeline: Suppressions(pipeline).remove(hashed, tenant)):
        say(f"tenant {tenant} writes to {recipient.masked} again")
    else:
        say(f"nothing suppressed {recipient.masked}")


@app.command(
    "ls", help="Show whom tenants do not write to; recipients as keyed hashes."
)
@with_options
def ls(
    *,
    tenant: Annotated[
        str, typer.Option("--tenant", help="Of this one only.", show_default="all")
    ] = "",
    at: OnServer,
) -> None:
    """Show suppressions."""
    from streams.whatsapp.suppressions import Suppressions

    found = at.ask(lambda pipeline: Suppressions(pipeline).all())
    rows = [
        {"tenant": owner, "recipient": hashed, **asdict(suppression)}
        for (owner, hashed), suppression in found.items()
        if tenant in ("", owner)
    ]
    if at.as_json:
        write_json({"suppressions": rows})
        return

    shown = table("TENANT", "RECIPIENT", "SCOPE", "REASON", "BY", "SINCE")
    for row in rows:
        row["at"] = moment(row["at"])
        shown.add_row(*map(cell, row.values()))

    stdout().print(shown)


def _hashed(phone: str) -> tuple[Recipient, str]:
    """A recipient, and its pseudonym on the server."""
    from streams.whatsapp import Recipient, WhatsAppSettings

    recipient = Recipient.parse(phone)
    return recipient, recipient.hashed(WhatsAppSettings.from_env().lookup_key)
