"""``streams whatsapp``: send, follow, and look after the instances; and the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.common import (
    AsJson,
    Namespace,
    Url,
    Waiting,
    cell,
    connected,
    examples,
    finish,
    moment,
    remark,
    run,
    say,
    seconds,
    stderr,
    stdout,
    table,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.cli.serving import serve
from streams.errors import ConfigurationError
from streams.quantities import counted
from streams.whatsapp.cli import endpoints, figures, instances, privacy

# What sends is imported by the commands that need it: the others start sooner.
if TYPE_CHECKING:
    from streams.whatsapp import MessageOptions, MessageRecord, Messages
    from streams.whatsapp.bulk import Plan

app = typer.Typer(
    help="Send WhatsApp messages, follow them, and look after the instances.",
    no_args_is_help=True,
)
app.add_typer(instances.app, name="instances")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(privacy.app, name="suppressions")
app.command("erase", help=privacy.ERASE)(privacy.erase)
app.command("new-key", help=privacy.NEW_KEY)(privacy.new_key)
app.command("stats", help=figures.HELP)(figures.stats)

Tenant = Annotated[str, typer.Option("--tenant", help="Whose message it is.")]
InstanceId = Annotated[str, typer.Option("--instance", help="The sender.")]
Priority = Annotated[
    int,
    typer.Option(
        "--priority", help="0 normal, 1 automatic reply, 5 important, 10 critical."
    ),
]
_SHOWN = 20


@asynccontextmanager
async def _messages(url: str | None, namespace: str | None) -> AsyncIterator[Messages]:
    from streams.whatsapp import Messages, WhatsAppSettings

    async with connected(url, namespace) as pipeline:
        yield Messages(pipeline, WhatsAppSettings.from_env())


@app.command(
    "send",
    help="Queue a message, or one for each row of a CSV file."
    "\n\nA file has a header with a column phone; other columns are parameters of the template, or {column} in the"
    " text. Comma or semicolon. --dry-run checks every row and queues none. A run that was interrupted is repeated as"
    " it was: no row is queued twice within seven days, unless --campaign says that it is another one."
    + examples(
        "streams whatsapp send 5511999999999 'Olá!' --tenant acme",
        "streams whatsapp send --csv contacts.csv --template pedido --parameter nome --dry-run",
        "streams whatsapp send --csv contacts.csv --text 'Olá {nome}!' --campaign natal",
    ),
)
def send(  # noqa: PLR0913 - each is an option of the command
    phone: Annotated[
        str, typer.Argument(help="With country code, or a user id.", show_default=False)
    ] = "",
    words: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text.", show_default=False)
    ] = "",
    *,
    file: Annotated[
        Path | None,
        typer.Option("--csv", help="One message per row.", show_default=False),
    ] = None,
    template: Annotated[
        str, typer.Option("--template", help="Of the rows.", show_default=False)
    ] = "",
    language: Annotated[
        str, typer.Option("--language", help="Of the template.")
    ] = "pt_BR",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", help="Column of a parameter; repeatable.", show_default=False
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option("--text", help="Of the rows, with {column}.", show_default=False),
    ] = "",
    campaign: Annotated[
        str,
        typer.Option("--campaign", help="Name of the run.", show_default="of the file"),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the rows, queue none.")
    ] = False,
    tenant: Tenant = "1",
    instance: InstanceId = "1",
    priority: Priority = 0,
    delay: Annotated[
        float,
        typer.Option(
            "--delay",
            parser=seconds(),
            metavar="SPAN",
            help="Time until it may go out: seconds, 5m, 2h.",
        ),
    ] = 0.0,
    marketing: Annotated[
        bool, typer.Option("--marketing", help="People who stopped marketing get none.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Queue messages."""
    from streams.whatsapp import Text
    from streams.whatsapp.bulk import Plan

    options: MessageOptions = {
        "tenant": tenant,
        "instance": instance,
        "priority": priority,
        "delay": delay,
    }
    if marketing:
        options["category"] = "marketing"
    if file is None:
        if not phone or not words or template or text:
            raise ConfigurationError(
                "give a phone and a text, or --csv with --template or --text"
            )

        async def one() -> str:
            async with _messages(url, namespace) as messages:
                return await messages.add(phone, Text(words), **options)

        ident = run(one)
        write_json({"message_id": ident}) if as_json else say(f"queued {ident}")
        return
    if phone:
        raise ConfigurationError("--csv names the recipients: give no phone")
    plan = Plan(template, language, tuple(parameter or ()), text, campaign)
    _send_file(
        file, plan, options, dry_run=dry_run, as_json=as_json, server=(url, namespace)
    )


def _send_file(
    file: Path,
    plan: Plan,
    options: MessageOptions,
    *,
    dry_run: bool,
    as_json: bool,
    server: tuple[str | None, str | None],
) -> None:
    from rich.progress import Progress

    from streams.whatsapp.bulk import campaign_of, queue_rows, read

    rows = list(read(file, plan))
    bad = [row for row in rows if row.problem]
    for row in bad[:_SHOWN]:
        remark(f"line {row.line}: {row.problem}")
    if len(bad) > _SHOWN:
        remark(f"and {len(bad) - _SHOWN} more")
    counts = {"rows": len(rows), "refused": len(bad), "queued": 0, "queued_before": 0}

    async def all_of_them() -> None:
        async with _messages(*server) as messages:
            with Progress(console=stderr(), transient=True) as progress:
                task = progress.add_task("queueing", total=len(rows) - len(bad))
                async for queued in queue_rows(
                    messages, rows, plan.campaign or campaign_of(file, plan), options
                ):
                    counts["queued" if queued.is_new else "queued_before"] += 1
                    progress.advance(task)

    if not dry_run:
        run(all_of_them)
    if as_json:
        write_json({**counts, "dry_run": dry_run})
    elif dry_run:
        say(
            f"{len(rows) - len(bad)} of {counted(len(rows), 'row')} could be queued; nothing was"
        )
    else:
        before = (
            f", {counts['queued_before']} had been before"
            if counts["queued_before"]
            else ""
        )
        say(
            f"queued {counts['queued']} of {counted(len(rows), 'row')}{before}, refused {len(bad)}"
        )
    if bad:
        finish(Exit.FAILED)


@app.command(
    "status",
    help="Where a message stands, by its id or the provider's; or all messages to a recipient."
    + examples(
        "streams whatsapp status ID", "streams whatsapp status --phone 5511999999999"
    ),
)
def status(
    ident: Annotated[str, typer.Argument(metavar="ID", show_default=False)] = "",
    *,
    phone: Annotated[
        str,
        typer.Option(
            "--phone", help="All messages to a recipient.", show_default=False
        ),
    ] = "",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show a message."""
    if bool(ident) == bool(phone):
        raise ConfigurationError("give an id, or --phone")

    async def main() -> Any:
        async with _messages(url, namespace) as messages:
            return await (messages.sent_to(phone) if phone else messages.show(ident))

    record = run(main)
    if phone:
        _show_all(record, as_json=as_json)
        return
    if as_json:
        write_json(asdict(record))
        return
    say(
        f"{record.id}: {record.status}"
        + (f" ({record.reason})" if record.reason else "")
    )
    shown = table("TIME", "STATE", ">ATTEMPT", "CODE", "REASON", "PROVIDER'S ID")
    for row in record.timeline:
        facts = [
            str(row.get(name, ""))
            for name in ("attempt", "code", "reason", "provider_id")
        ]
        shown.add_row(moment(row["at"]), cell(row["state"]), *map(cell, facts))
    stdout().print(shown)


def _show_all(records: list[MessageRecord], *, as_json: bool) -> None:
    if as_json:
        write_json({"messages": [asdict(record) for record in records]})
        return
    shown = table("MESSAGE", "STATUS", "REASON", "LATEST")
    for record in records:
        latest = moment(record.timeline[-1]["at"]) if record.timeline else ""
        shown.add_row(record.id, record.status, cell(record.reason), latest)
    stdout().print(shown)


@app.command(
    "sandbox",
    help="Serve a provider that speaks the Cloud API and sends nothing."
    "\n\nSet STREAMS_WHATSAPP_PROVIDER=cloud, STREAMS_WHATSAPP_BASE_URL to its address, and any token and phone number"
    " id. Its page shows what it took. --fault 130429=0.05 lets one request of twenty fail with that code."
    + examples(
        "streams whatsapp sandbox",
        "streams whatsapp sandbox --port 9000 --fault 131000=0.1 --latency 0.2",
    ),
)
def sandbox(
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8899,
    webhook_url: Annotated[
        str,
        typer.Option("--webhook-url", help="For signed statuses.", show_default=False),
    ] = "",
    app_secret: Annotated[
        str, typer.Option("--app-secret", help="That they are signed with.")
    ] = "sandbox",  # noqa: S107 - no secret
    latency: Annotated[
        float,
        typer.Option(
            "--latency",
            parser=seconds(),
            metavar="SPAN",
            help="Time per request: seconds, 200ms.",
        ),
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="CODE=SHARE", show_default=False),
    ] = None,
) -> None:
    """Serve the sandbox."""
    from streams.whatsapp.sandbox.app import Sandbox
    from streams.whatsapp.sandbox.phone import Fault, Phone

    phone = Phone()
    for text in fault or ():
        code, _, share = text.partition("=")
        try:
            phone.faults.append(Fault(int(code), float(share or 1)))
        except ValueError:
            raise ConfigurationError(
                f"--fault is CODE=SHARE, e.g. 131000=0.1, not {text!r}"
            ) from None
    made = Sandbox(
        phone, webhook_url=webhook_url, app_secret=app_secret, latency=latency
    )
    serve(made.app, "127.0.0.1", port, "the sandbox")


@app.command(
    "webhook",
    help="Serve the endpoints that providers call: /meta and /evolution."
    "\n\nSTREAMS_WHATSAPP_VERIFY_TOKEN and STREAMS_WHATSAPP_APP_SECRET are Meta's; Evolution servers send"
    " STREAMS_WHATSAPP_WEBHOOK_SECRET in the header X-Webhook-Secret."
    + examples("streams whatsapp webhook --host 0.0.0.0 --port 8080"),
)
def webhook(
    *,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8898,
    url: Url = None,
    namespace: Namespace = None,
    wait: Waiting = None,
) -> None:
    """Serve webhooks."""
    from streams import logs
    from streams.cli.common import override, settings_of
    from streams.pipeline import Pipeline
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.webhooks.app import WebhookApp

    settings = WhatsAppSettings.from_env()
    if not settings.app_secret and not settings.webhook_secret:
        raise ConfigurationError(
            "every call would be refused: set STREAMS_WHATSAPP_APP_SECRET or _WEBHOOK_SECRET"
        )
    own = override(settings_of(url, namespace), wait=wait)
    logs.set_up(own.log, own.log_level)
    pipeline = Pipeline(settings=own)
    serve(WebhookApp(pipeline, settings).app, host, port, "webhooks", pipeline)
