"""``streams whatsapp``: send, follow, and look after the instances; and the sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from streams.cli.common import (
    Waiting,
    cell,
    examples,
    finish,
    moment,
    override,
    remark,
    say,
    seconds,
    settings_of,
    stderr,
    stdout,
    table,
    write_json,
)
from streams.cli.exit_codes import Exit
from streams.cli.options import OnServer, Server, with_options
from streams.cli.serving import serve
from streams.errors import ConfigurationError
from streams.quantities import counted
from streams.whatsapp.cli import endpoints, figures, instances, privacy

# The commands that send import the rest themselves: the others start sooner.
if TYPE_CHECKING:
    from streams.whatsapp import MessageOptions, MessageRecord, Messages

T = TypeVar("T")
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

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """The messages that are made of a file."""

    file: Annotated[
        Path | None,
        typer.Option("--csv", help="One message per row.", show_default=False),
    ] = None
    template: Annotated[
        str, typer.Option("--template", help="Of the rows.", show_default=False)
    ] = ""
    language: Annotated[str, typer.Option("--language", help="Of the template.")] = (
        "pt_BR"
    )
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", help="Column of a parameter; repeatable.", show_default=False
        ),
    ] = None
    text: Annotated[
        str,
        typer.Option("--text", help="Of the rows, with {column}.", show_default=False),
    ] = ""
    campaign: Annotated[
        str,
        typer.Option("--campaign", help="Name of the run.", show_default="of the file"),
    ] = ""
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the rows, queue none.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SendingOptions:
    """How each message is sent."""

    tenant: Annotated[str, typer.Option("--tenant", help="Whose message it is.")] = "1"
    instance: Annotated[str, typer.Option("--instance", help="The sender.")] = "1"
    priority: Annotated[
        int,
        typer.Option(
            "--priority", help="0 normal, 1 automatic reply, 5 important, 10 critical."
        ),
    ] = 0
    delay: Annotated[
        float,
        typer.Option(
            "--delay",
            parser=seconds(),
            metavar="SPAN",
            help="Time until it may go out: seconds, 5m, 2h.",
        ),
    ] = 0.0
    marketing: Annotated[
        bool, typer.Option("--marketing", help="People who stopped marketing get none.")
    ] = False

    def for_messages(self) -> MessageOptions:
        """The options of ``Messages.add``."""
        return {
            "tenant": self.tenant,
            "instance": self.instance,
            "priority": self.priority,
            "delay": self.delay,
            "category": "marketing" if self.marketing else "",
        }


def _ask(at: Server, act: Callable[[Messages], Awaitable[T]]) -> T:
    from streams.whatsapp import Messages, WhatsAppSettings

    return at.ask(lambda pipeline: act(Messages(pipeline, WhatsAppSettings.from_env())))


@app.command(
    "send",
    help="Queue a message, or one for each row of a CSV file."
    "\n\nA file has a header with a column phone; other columns are parameters of the"
    " template, or {column} in the text. Comma or semicolon. --dry-run checks every row"
    " and queues none. A run that was interrupted is repeated as it was: no row is"
    " queued twice within seven days, unless --campaign says that it is another one."
    + examples(
        "streams whatsapp send 5511999999999 'Olá!' --tenant acme",
        "streams whatsapp send --csv contacts.csv --template pedido"
        " --parameter nome --dry-run",
        "streams whatsapp send --csv contacts.csv --text 'Olá {nome}!'"
        " --campaign natal",
    ),
)
@with_options
def send(
    phone: Annotated[
        str, typer.Argument(help="With country code, or a user id.", show_default=False)
    ] = "",
    words: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text.", show_default=False)
    ] = "",
    *,
    rows: RowOptions,
    how: SendingOptions,
    at: OnServer,
) -> None:
    """Queue messages."""
    from streams.whatsapp import Text

    if rows.file is not None:
        if phone:
            raise ConfigurationError("--csv names the recipients: give no phone")

        _send_file(rows.file, rows, how, at)
        return

    if not phone or not words or rows.template or rows.text:
        raise ConfigurationError(
            "give a phone and a text, or --csv with --template or --text"
        )

    ident = _ask(
        at,
        lambda messages: messages.add(phone, Text(words), **how.for_messages()),
    )
    if at.as_json:
        write_json({"message_id": ident})
    else:
        say(f"queued {ident}")


def _send_file(
    file: Path, given: RowOptions, how: SendingOptions, at: OnServer
) -> None:
    from rich.progress import Progress

    from streams.whatsapp.bulk import Plan, campaign_of, queue_rows, read

    parameters = tuple(given.parameter or ())
    plan = Plan(given.template, given.language, parameters, given.text, given.campaign)
    rows = list(read(file, plan))
    bad = [row for row in rows if row.problem]
    good = len(rows) - len(bad)

    for row in bad[:_SHOWN]:
        remark(f"line {row.line}: {row.problem}")

    if len(bad) > _SHOWN:
        remark(f"and {len(bad) - _SHOWN} more")

    counts = {"rows": len(rows), "refused": len(bad), "queued": 0, "queued_before": 0}

    async def queue_all(messages: Messages) -> None:
        campaign = plan.campaign or campaign_of(file, plan)
        with Progress(console=stderr(), transient=True) as progress:
            task = progress.add_task("queueing", total=good)
            async for queued in queue_rows(
                messages, rows, campaign, how.for_messages()
            ):
                counts["queued" if queued.is_new else "queued_before"] += 1
                progress.advance(task)

    if not given.dry_run:
        _ask(at, queue_all)

    whole = counted(len(rows), "row")
    earlier = counts["queued_before"]
    if at.as_json:
        write_json({**counts, "dry_run": given.dry_run})
    elif given.dry_run:
        say(f"{good} of {whole} could be queued; nothing was")
    else:
        before = f", {earlier} had been before" if earlier else ""
        say(f"queued {counts['queued']} of {whole}{before}, refused {len(bad)}")

    if bad:
        finish(Exit.FAILED)


@app.command(
    "status",
    help="Where a message stands, by its id or the provider's;"
    " or all messages to a recipient."
    + examples(
        "streams whatsapp status ID", "streams whatsapp status --phone 5511999999999"
    ),
)
@with_options
def status(
    ident: Annotated[str, typer.Argument(metavar="ID", show_default=False)] = "",
    *,
    phone: Annotated[
        str,
        typer.Option(
            "--phone", help="All messages to a recipient.", show_default=False
        ),
    ] = "",
    at: OnServer,
) -> None:
    """Show a message."""
    if bool(ident) == bool(phone):
        raise ConfigurationError("give an id, or --phone")

    if phone:
        _show_all(_ask(at, lambda messages: messages.sent_to(phone)), at)
        return

    record = _ask(at, lambda messages: messages.show(ident))
    if at.as_json:
        write_json(asdict(record))
        return

    reason = f" ({record.reason})" if record.reason else ""
    say(f"{record.id}: {record.status}{reason}")
    shown = table("TIME", "STATE", ">ATTEMPT", "CODE", "REASON", "PROVIDER'S ID")

    for row in record.timeline:
        names = ("state", "attempt", "code", "reason", "provider_id")
        shown.add_row(moment(row["at"]), *(cell(row.get(name, "")) for name in names))

    stdout().print(shown)


def _show_all(records: list[MessageRecord], at: OnServer) -> None:
    if at.as_json:
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
    "\n\nSet STREAMS_WHATSAPP_PROVIDER=cloud, STREAMS_WHATSAPP_BASE_URL to its address,"
    " and any token and phone number id. Its page shows what it took."
    " --fault 130429=0.05 lets one request of twenty fail with that code."
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
    "\n\nSTREAMS_WHATSAPP_VERIFY_TOKEN and STREAMS_WHATSAPP_APP_SECRET are Meta's;"
    " Evolution servers send STREAMS_WHATSAPP_WEBHOOK_SECRET in the header"
    " X-Webhook-Secret."
    + examples("streams whatsapp webhook --host 0.0.0.0 --port 8080"),
)
@with_options
def webhook(
    *,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8898,
    server: Server,
    wait: Waiting = None,
) -> None:
    """Serve webhooks."""
    from streams import logs
    from streams.pipeline import Pipeline
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.webhooks.app import WebhookApp

    settings = WhatsAppSettings.from_env()
    if not settings.app_secret and not settings.webhook_secret:
        raise ConfigurationError(
            "every call would be refused: set STREAMS_WHATSAPP_APP_SECRET"
            " or _WEBHOOK_SECRET"
        )

    own = override(settings_of(server.url, server.namespace), wait=wait)
    logs.set_up(own.log, own.log_level)
    pipeline = Pipeline(settings=own)
    serve(WebhookApp(pipeline, settings).app, host, port, "webhooks", pipeline)
