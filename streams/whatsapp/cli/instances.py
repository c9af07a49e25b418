"""``streams whatsapp instances``: what sends, and whether it can."""

from __future__ import annotations

from typing import Annotated, Any

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
    remark,
    run,
    say,
    stdout,
    table,
    write_json,
)
from streams.common.masking import masked

app = typer.Typer(
    help="Show, check, add, remove, pause and resume instances.", no_args_is_help=True
)


@app.command(
    "ls",
    help="Show the instances, what was last heard of their connection, and whether they are paused.",
)
def instances_ls(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the providers now.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show instances."""
    from streams.whatsapp import WhatsAppSettings
    from streams.whatsapp.connections import Connections
    from streams.whatsapp.instances import Instances, Providers
    from streams.whatsapp.status import STREAM

    settings = WhatsAppSettings.from_env()

    async def main() -> list[dict[str, Any]]:
        instances, providers = Instances(settings), Providers(settings)
        async with connected(url, namespace) as pipeline:
            await instances.refresh(pipeline)
            pauses = {
                p.value: p
                for p in await pipeline.pauses(STREAM).list()
                if p.attribute == "instance"
            }
            connections = Connections(pipeline)
            known = instances.all() or [
                found
                for ident in sorted({"1", *pauses, *await connections.all()})
                if (found := instances.get(ident)) is not None
            ]
            try:
                for one in known if check else ():
                    await connections.note(
                        one.id, await providers.of(one).connection(one), "check"
                    )
            finally:
                await providers.close()
            seen = await connections.all()
        return [
            {
                "id": one.id,
                "provider": one.provider,
                "name": masked(one.called),
                "connection": str(seen[one.id].state) if one.id in seen else "",
                "reason": seen[one.id].reason if one.id in seen else "",
                "seen": seen[one.id].at if one.id in seen else None,
                "paused": f"{pauses[one.id].by}: {pauses[one.id].reason}"
                if one.id in pauses
                else "",
            }
            for one in known
        ]

    rows = run(main)
    if as_json:
        write_json({"instances": rows})
        return
    shown = table(
        "INSTANCE", "PROVIDER", "NAME", "CONNECTION", "REASON", "SEEN", "PAUSED"
    )
    for row in rows:
        row["seen"] = moment(row["seen"]) if row["seen"] else ""
        shown.add_row(*map(cell, row.values()))
    stdout().print(shown)


@app.command(
    "add",
    help="Write an instance down on the server, or what has changed of it."
    "\n\nThe secret is named, not given: a variable or a file that every worker has. From the first one on only"
    " instances that are written down send."
    + examples(
        "streams whatsapp instances add 7 --provider cloud --name 106540352242922 --token-env SHOP_TOKEN"
    ),
)
def instances_add(  # noqa: PLR0913 - each is an option of the command
    ident: Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)],
    *,
    provider: Annotated[
        str, typer.Option("--provider", help="cloud, evolution or sandbox.")
    ] = "cloud",
    name: Annotated[
        str,
        typer.Option(
            "--name", help="Phone number id or session.", show_default="the id"
        ),
    ] = "",
    base_url: Annotated[
        str, typer.Option("--base-url", help="Of the provider.", show_default="its own")
    ] = "",
    waba: Annotated[
        str,
        typer.Option(
            "--waba", help="Business account, for its limits.", show_default=False
        ),
    ] = "",
    token_env: Annotated[
        str,
        typer.Option(
            "--token-env", help="Variable with the secret.", show_default=False
        ),
    ] = "",
    token_file: Annotated[
        str,
        typer.Option("--token-file", help="File with the secret.", show_default=False),
    ] = "",
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Add an instance."""
    from streams.whatsapp.registry import InstanceRegistry

    said = {"provider": provider, "name": name, "base_url": base_url, "waba": waba}
    row = {
        key: value
        for key, value in (
            said | {"token_env": token_env, "token_file": token_file}
        ).items()
        if value
    }

    async def main() -> tuple[bool, int]:
        async with connected(url, namespace) as pipeline:
            registry = InstanceRegistry(pipeline)
            return await registry.add(ident, row), len(await registry.all())

    is_new, count = run(main)
    say(f"added instance {ident}" if is_new else f"changed instance {ident}")
    if is_new and count == 1:
        remark(
            "from now on only instances that are written down send; messages of others fail"
        )


@app.command(
    "rm",
    help="Forget an instance; its messages fail from then on."
    + examples("streams whatsapp instances rm 7"),
)
def instances_rm(
    ident: Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)],
    *,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Remove an instance."""
    from streams.whatsapp.registry import InstanceRegistry

    async def main() -> None:
        async with connected(url, namespace) as pipeline:
            await InstanceRegistry(pipeline).remove(ident)

    run(main)
    say(f"removed instance {ident}")


@app.command(
    "pause",
    help="Hold every message of an instance."
    + examples("streams whatsapp instances pause 7"),
)
def instances_pause(
    ident: Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)],
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why.", show_default=False)
    ] = "",
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Pause an instance."""
    from streams.whatsapp.status import STREAM

    async def main() -> bool:
        async with connected(url, namespace) as pipeline:
            return (
                await pipeline.pauses(STREAM, by=person()).pause(
                    instance=ident, reason=reason
                )
            ).new

    say(
        f"paused instance {ident}"
        if run(main)
        else f"instance {ident} was paused already"
    )


@app.command(
    "resume",
    help="Let its messages go out again, whoever paused it."
    + examples("streams whatsapp instances resume 7"),
)
def instances_resume(
    ident: Annotated[str, typer.Argument(metavar="INSTANCE", show_default=False)],
    *,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Resume an instance, from an operator's pause and from the breaker's."""
    from streams.whatsapp.status import STREAM

    async def main() -> int:
        async with connected(url, namespace) as pipeline:
            pauses = pipeline.pauses(STREAM, by=person())
            found = [
                pause
                for pause in await pauses.list()
                if (pause.attribute, pause.value) == ("instance", ident)
            ]
            for pause in found:
                await pauses.resume(group=pause.group, instance=ident)
            return len(found)

    say(f"resumed instance {ident}" if run(main) else f"instance {ident} is not paused")
