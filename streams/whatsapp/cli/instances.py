"""``streams whatsapp instances``: the senders, and whether they can send."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.common import (
    cell,
    examples,
    moment,
    person,
    remark,
    say,
    stdout,
    table,
    write_json,
)
from streams.cli.options import OnServer, Server, with_options
from streams.common.masking import masked

if TYPE_CHECKING:
    from streams.pipeline import Pipeline

app = typer.Typer(
    help="Show, check, add, remove, pause and resume instances.", no_args_is_help=True
)
Ident = Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)]


@app.command(
    "ls",
    help="Show the instances, what was last heard of their connection,"
    " and whether they are paused.",
)
@with_options
def instances_ls(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the providers now.")
    ] = False,
    at: OnServer,
) -> None:
    """Show instances."""
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.connections import Connections
    from streams.whatsapp.instances import Instances, Providers
    from streams.whatsapp.pausing import paused_instances

    settings = WhatsAppSettings.from_env()

    async def main(pipeline: Pipeline) -> list[dict[str, Any]]:
        instances, providers = Instances(settings), Providers(settings)
        await instances.refresh(pipeline)
        pauses = {pause.value: pause for pause in await paused_instances(pipeline)}
        connections = Connections(pipeline)
        known = instances.all()

        if not known:
            heard_of = sorted({"1", *pauses, *await connections.all()})
            known = list(filter(None, map(instances.get, heard_of)))

        try:
            for one in known if check else ():
                state = await providers.of(one).connection(one)
                await connections.note(one.id, state, "check")
        finally:
            await providers.close()

        reports = await connections.all()
        rows = []

        for one in known:
            seen, pause = reports.get(one.id), pauses.get(one.id)

            row = {
                "id": one.id,
                "provider": one.provider,
                "name": masked(one.called),
                "connection": str(seen.state) if seen else "",
                "reason": seen.reason if seen else "",
                "seen": seen.at if seen else None,
                "paused": f"{pause.by}: {pause.reason}" if pause else "",
            }

            rows.append(row)

        return rows

    rows = at.ask(main)

    if at.as_json:
        write_json({"instances": rows})

        return

    shown = table(
        "INSTANCE", "PROVIDER", "NAME", "CONNECTION", "REASON", "SEEN", "PAUSED"
    )

    for row in rows:
        row["seen"] = moment(row["seen"]) if row["seen"] else ""
        shown.add_row(*map(cell, row.values()))

    stdout().print(shown)


@dataclass(frozen=True, kw_only=True)
class InstanceOptions:
    """The fields of an instance, as options."""

    provider: Annotated[
        str, typer.Option("--provider", help="cloud, evolution or sandbox.")
    ] = "cloud"
    name: Annotated[
        str,
        typer.Option(
            "--name", help="Phone number id or session.", show_default="the id"
        ),
    ] = ""
    base_url: Annotated[
        str, typer.Option("--base-url", help="Of the provider.", show_default="its own")
    ] = ""
    waba: Annotated[
        str,
        typer.Option(
            "--waba", help="Business account, for its limits.", show_default=False
        ),
    ] = ""
    token_env: Annotated[
        str,
        typer.Option(
            "--token-env", help="Variable with the secret.", show_default=False
        ),
    ] = ""
    token_file: Annotated[
        str,
        typer.Option("--token-file", help="File with the secret.", show_default=False),
    ] = ""


@app.command(
    "add",
    help="Write an instance down on the server, or change one."
    "\n\nThe secret is named, not given: a variable or a file that every worker has."
    " From the first one on only instances that are written down send."
    + examples(
        "streams whatsapp instances add 7 --provider cloud"
        " --name 106540352242922 --token-env SHOP_TOKEN"
    ),
)
@with_options
def instances_add(ident: Ident, *, fields: InstanceOptions, at: Server) -> None:
    """Add an instance."""
    from streams.whatsapp.registry import InstanceRegistry

    row = {name: value for name, value in asdict(fields).items() if value}

    async def main(pipeline: Pipeline) -> tuple[bool, int]:
        registry = InstanceRegistry(pipeline)

        return await registry.add(ident, row), len(await registry.all())

    is_new, count = at.ask(main)
    say(f"{'added' if is_new else 'changed'} instance {ident}")

    if is_new and count == 1:
        remark(
            "from now on only instances that are written down send;"
            " messages of others fail"
        )


@app.command(
    "rm",
    help="Forget an instance; its messages fail from then on."
    + examples("streams whatsapp instances rm 7"),
)
@with_options
def instances_rm(ident: Ident, *, at: Server) -> None:
    """Remove an instance."""
    from streams.whatsapp.registry import InstanceRegistry

    at.ask(lambda pipeline: InstanceRegistry(pipeline).remove(ident))
    say(f"removed instance {ident}")


@app.command(
    "pause",
    help="Hold every message of an instance."
    + examples("streams whatsapp instances pause 7"),
)
@with_options
def instances_pause(
    ident: Ident,
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why.", show_default=False)
    ] = "",
    at: Server,
) -> None:
    """Pause an instance."""
    from streams.whatsapp.status import STREAM

    async def main(pipeline: Pipeline) -> bool:
        pauses = pipeline.pauses(STREAM, by=person())

        return (await pauses.pause(instance=ident, reason=reason)).new

    is_new = at.ask(main)
    say(
        f"paused instance {ident}" if is_new else f"instance {ident} was paused already"
    )


@app.command(
    "resume",
    help="Let its messages go out again after any pause."
    + examples("streams whatsapp instances resume 7"),
)
@with_options
def instances_resume(ident: Ident, *, at: Server) -> None:
    """Resume an instance, from an operator's pause and from the breaker's."""
    from streams.whatsapp.pausing import resume

    count = at.ask(lambda pipeline: resume(pipeline, ident, by=person()))
    say(f"resumed instance {ident}" if count else f"instance {ident} is not paused")
